"""Each call leaves one event, and what it says is so."""

import re
import time
from pathlib import Path

import pytest

from modelyard.core.call import Outcome
from modelyard.core.errors import Unavailable
from modelyard.core.rules import Rules
from modelyard.core.usage import Known, Tariff, Unit, UsageEvent, billable
from modelyard.gateway.gate import KeyedGate
from modelyard.gateway.metering.batch import spelled_out
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.reading import own_batches
from modelyard.gateway.metering.spool import LEAST_SEGMENT_BYTES, Spool
from modelyard.testing.metering import Version, make_call, make_permit


@pytest.fixture
def meter(spool: Spool) -> SpooledMeter:
    return SpooledMeter(spool)


def events_of(spool: Spool) -> list[UsageEvent]:
    return [
        event
        for batch in own_batches(spool, 0)
        for event in spelled_out(batch.prefix, batch.events, batch.subjects)
    ]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_call_leaves_one_event_however_it_ends(
    meter: SpooledMeter, spool: Spool, outcome: Outcome
) -> None:
    """With its id, who called what, how it ended, and what it cost, if it ended well."""
    meter.on_rules(Rules(tariffs=(Tariff(models="churn", unit=Unit.ROW, nano=400_000),)))
    call = make_call(make_permit(), outcome, rows=3, served=Version(version=7))
    meter.record(call)
    (event,) = events_of(spool)
    assert (event.call, event.outcome, event.rows) == (call.id, outcome, 3)
    subject = event.subject
    assert (subject.tenant, subject.key, subject.model) == ("acme", "k1", "churn")
    assert (subject.version, subject.unit, subject.currency) == (7, Unit.ROW, "EUR")
    paid = outcome is Outcome.OK
    assert (event.amount, event.cost) == ((3, 1_200_000) if paid else (0, 0))
    assert abs(event.arrived.timestamp() - time.time()) < 5
    assert event.took_us == (call.ended_ns - call.started_ns) // 1000


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.CLIENT_GONE])
@pytest.mark.parametrize("has_run", [True, False])
def test_who_hangs_up_pays_for_what_ran(
    meter: SpooledMeter, spool: Spool, outcome: Outcome, has_run: bool
) -> None:
    """Usage charges for a call that was left what its quotas are charged: only what had begun."""
    meter.on_rules(Rules(tariffs=(Tariff(models="churn", unit=Unit.ROW, nano=400_000),)))
    call = make_call(make_permit(), None, rows=3)
    call.has_run = has_run
    (call.cancel if outcome is Outcome.CANCELLED else call.abandon)()
    meter.record(call)
    (event,) = events_of(spool)
    charged = 3 if has_run else 0
    assert (event.outcome, event.amount, event.cost) == (outcome, charged, charged * 400_000)
    assert charged == billable(call, Unit.ROW)


def test_a_call_that_was_never_admitted_is_refused(meter: SpooledMeter, spool: Spool) -> None:
    """The gate records a refusal before the call has ended."""
    meter.record(make_call(make_permit(), None))
    (event,) = events_of(spool)
    assert (event.outcome, event.amount) == (Outcome.REFUSED, 0)


@pytest.mark.parametrize(
    ("unit", "known"),
    [
        (Unit.REQUEST, Known.COUNTED),
        (Unit.SECOND, Known.COUNTED),
        (Unit.BYTE, Known.COUNTED),
        (Unit.TOKEN, Known.ESTIMATED),
    ],
)
def test_amounts_are_in_the_tariffs_unit(
    meter: SpooledMeter, spool: Spool, unit: Unit, known: Known
) -> None:
    """Requests, microseconds, bytes; tokens that no engine has counted are called estimated."""
    meter.on_rules(Rules(tariffs=(Tariff(models="*", unit=unit),)))
    call = make_call(make_permit())
    meter.record(call)
    (event,) = events_of(spool)
    amounts = {Unit.REQUEST: 1, Unit.SECOND: (call.ended_ns - call.started_ns) // 1000}
    assert (event.amount, event.known) == (amounts.get(unit, 0), known)


def test_a_price_holds_from_when_it_is_set(meter: SpooledMeter, spool: Spool) -> None:
    """Events keep the price that was in force; the longest pattern that fits holds."""
    permit = make_permit()
    for nano in (0, 5, 7):
        any_model = Tariff(models="*", nano=99)
        meter.on_rules(Rules(tariffs=(any_model, Tariff(models="ch*", nano=nano))))
        meter.record(make_call(permit))
        meter.record(make_call(permit))
    assert [event.cost for event in events_of(spool)] == [0, 0, 5, 5, 7, 7]


def test_events_go_on_in_the_next_segment(meter: SpooledMeter, spool: Spool) -> None:
    """Whoever calls: each segment defines again what its events are about."""
    permits = [make_permit(key=f"k{number}") for number in range(9)]
    calls = [make_call(permits[number % 9], rows=number) for number in range(2000)]
    for call in calls:
        meter.record(call)
    assert len(spool.segments) > 5
    found = [(each.call, each.subject.key, each.rows) for each in events_of(spool)]
    expected = [(call.id, call.permit.key, call.rows) for call in calls if call.permit]
    assert found == expected
    assert spool.written == 2000
    assert spool.missed() == {}


def test_permits_made_anew_need_no_new_definition(meter: SpooledMeter, spool: Spool) -> None:
    """Each change of rules forgets all permits: what they are metered as is written once."""
    for _ in range(50):
        meter.record(make_call(make_permit()))
    assert len(spool.segments[0].subjects) == 1


def test_names_that_no_database_takes_are_recorded_as_near_as_can_be(
    meter: SpooledMeter, spool: Spool
) -> None:
    """An issuer's claims may hold anything: the call is recorded all the same."""
    meter.record(make_call(make_permit(tenant="a\0b", key="x\ud800" + "y" * 500)))
    (event,) = events_of(spool)
    assert (event.subject.tenant, event.subject.key) == ("a?b", "x?" + "y" * 198)


def test_what_cannot_be_written_is_counted_and_never_raised(
    meter: SpooledMeter, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """A call with impossible numbers is answered; it is unrecorded, and the log says why."""
    meter.record(make_call(make_permit(), rows=2**40))
    meter.record(make_call(make_permit()))
    assert len(events_of(spool)) == 1
    assert sum(spool.missed().values()) == 1
    assert "could not be recorded" in caplog.text


def test_without_room_calls_are_counted_by_whom(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Past the bound every call is counted as unrecorded, and told; with room it goes on."""
    spool = Spool(folder, bound_bytes=LEAST_SEGMENT_BYTES * 16, segment_bytes=1)
    spool.upkeep()
    meter = SpooledMeter(spool)
    meter.check()
    permits = [make_permit(key="k1"), make_permit(key="k2")]
    for number in range(4000):
        meter.record(make_call(permits[number % 2]))
        spool.upkeep()
    recorded = len(events_of(spool))
    missed = spool.missed()
    assert 256 <= recorded < 4000
    assert recorded + sum(missed.values()) == 4000
    assert {each.key for each in missed} == {"k1", "k2"}
    assert {(each.tenant, each.model, each.version) for each in missed} == {("acme", "churn", 1)}
    assert "spool_bytes" in spool.trouble
    assert len(re.findall("no room for more usage events", caplog.text)) == 1
    with pytest.raises(Unavailable) as caught:
        meter.check()
    assert caught.value.code == "usage_unrecordable"

    spool.forget(recorded)
    spool.upkeep()
    meter.record(make_call(permits[0]))
    meter.check()
    assert [batch.first for batch in own_batches(spool, recorded)] == [recorded]
    assert spool.missed() == missed
    assert spool.trouble == ""
    spool.stop()
    spool.close(is_copied=True)
    assert list(folder.iterdir()) == []


def test_a_strict_gate_admits_nobody_unrecorded(folder: Path) -> None:
    """While there is no room, calls are refused; else they are answered all the same."""
    spool = Spool(folder, bound_bytes=LEAST_SEGMENT_BYTES, segment_bytes=1)
    spool.upkeep()
    meter = SpooledMeter(spool)
    call = make_call(make_permit(), None)
    with pytest.raises(Unavailable, match="no room to record"):
        KeyedGate(meter, is_strict=True).admit(call, lambda _: None)
    assert KeyedGate(meter).admit(call, lambda _: None)
    spool.stop()
    spool.close(is_copied=True)
