"""What a dead process has left is read to the last whole event, and damage is told."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.usage import Known, Subject, Unit, cost_nano
from modelyard.gateway.metering.batch import Batch, add_up, bodies, pack, unpack
from modelyard.gateway.metering.layout import (
    BODY,
    EVENT,
    EVENT_BYTES,
    HEAD_BYTES,
    OUTCOMES,
    UNITS,
    Events,
    as_events,
)
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.reading import Found, hold_orphans, own_batches, read_segment
from modelyard.gateway.metering.segment import Segment
from modelyard.gateway.metering.spool import Spool
from modelyard.testing.metering import make_call, make_permit


@pytest.fixture
def segment(spool: Spool) -> Segment:
    """A segment with a hundred events of three keys."""
    meter = SpooledMeter(spool)
    permits = [make_permit(key=f"k{number}") for number in range(3)]
    for number in range(100):
        meter.record(make_call(permits[number % 3], rows=number))
    (segment,) = spool.segments
    return segment


def place(number: int) -> int:
    return HEAD_BYTES + number * EVENT_BYTES


def found_in(segment: Segment) -> Found:
    found = read_segment(segment.path)
    assert found is not None
    return found


def rows_in(batch: Batch) -> list[int]:
    rows: list[int] = batch.events["rows"].tolist()
    return rows


def test_an_event_counts_when_its_checksum_is_there(segment: Segment) -> None:
    """One whose writer died before that is no event; those before it are whole."""
    for cut in range(BODY.size):
        segment.memory[place(99) : place(99) + EVENT_BYTES] = bytes(
            segment.memory[place(99) : place(99) + cut]
        ).ljust(EVENT_BYTES, b"\0")
        found = found_in(segment)
        assert (found.places, bool(found.whole.all())) == (99, True)


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_byte_costs_one_event_at_most(segment: Segment, seed: int) -> None:
    """Be it in the head, in events or in definitions: it is found, and the rest is read."""
    where = random.Random(seed)
    spans = [(0, 96), (2048, 2144), (place(0), place(99)), (segment.last, segment.size)]
    at = where.randrange(*spans[seed % len(spans)])
    segment.memory[at] ^= where.randrange(1, 256)
    found = found_in(segment)
    batch = found.batch(0)
    assert batch.places == 100
    if seed % len(spans) == 2:
        hit = (at - HEAD_BYTES) // EVENT_BYTES
        assert batch.damaged == 1
        assert rows_in(batch) == [number for number in range(100) if number != hit]
    else:
        assert batch.damaged == 0
        assert rows_in(batch) == list(range(100))
    assert {subject.key for subject in batch.subjects.values()} == {"k0", "k1", "k2"}


def test_pages_that_a_power_cut_has_lost_are_damaged(segment: Segment) -> None:
    """Events that were written after them are there."""
    segment.memory[place(20) : place(60)] = bytes(40 * EVENT_BYTES)
    batch = found_in(segment).batch(0)
    assert (batch.places, batch.damaged) == (100, 40)
    assert rows_in(batch) == [*range(20), *range(60, 100)]


def test_a_half_written_definition_is_no_event(segment: Segment) -> None:
    """A process that died while it defined a subject has damaged nothing."""
    subject = Subject(
        tenant="t", key="k", model="m", version=1, unit=Unit.ROW, nano=0, currency="EUR"
    )
    before = segment.last
    assert segment.define(1 << 20, subject)
    segment.memory[segment.last + EVENT_BYTES : before + EVENT_BYTES - 40] = bytes(
        before - 40 - segment.last
    )
    batch = found_in(segment).batch(0)
    assert (batch.places, batch.damaged) == (100, 0)


def test_a_segment_without_a_readable_head_is_told(segment: Segment) -> None:
    """Nobody knows whose events those are."""
    segment.memory[: place(0)] = bytes(HEAD_BYTES)
    with pytest.raises(ValueError, match=r"the head of .* is damaged"):
        read_segment(segment.path)


def test_a_living_spool_is_held_by_nobody_else(folder: Path, spool: Spool) -> None:
    """It is an orphan when its process has let go of it, however that ended."""
    with hold_orphans(folder) as orphans:
        assert orphans == []
    spool.stop()
    spool.close(is_copied=False)
    with hold_orphans(folder) as orphans:
        assert [orphan.id for orphan in orphans] == [spool.id]
        with hold_orphans(folder) as others:
            assert others == []


def test_what_is_being_written_is_read_up_to_there(segment: Segment, spool: Spool) -> None:
    """From any position on, in any number of batches."""
    rows = [row for batch in own_batches(spool, 40) for row in rows_in(batch)]
    assert rows == list(range(40, 100))


def made_events() -> st.SearchStrategy[Events]:
    event = st.tuples(
        st.integers(0, 2**63 - 1),
        st.integers(1, 2**62),
        st.integers(0, 2**40),
        st.integers(0, 2**31),
        st.sampled_from([8, 17]),
        st.integers(0, 2**32 - 1),
        st.integers(0, len(OUTCOMES) - 1),
        st.integers(0, 2),
    )
    packer = struct.Struct(f"{BODY.format}I")
    return st.lists(event, max_size=30).map(
        lambda each: as_events(b"".join(packer.pack(*values, 0) for values in each))
    )


@given(made_events(), st.integers(0, 2**40), st.integers(0, 10**9))
def test_sums_are_those_of_plain_arithmetic(events: Events, dear: int, cheap: int) -> None:
    """By subject, hour, outcome and how it is known; costs rounded down for each event."""
    common = {"tenant": "t", "key": "k", "model": "m", "version": 1, "currency": "EUR"}
    subjects = {
        8: Subject(unit=Unit.REQUEST, nano=min(dear, 2**31), **common),  # type: ignore[arg-type]
        17: Subject(unit=UNITS[1], nano=cheap, **common),  # type: ignore[arg-type]
    }
    # Hours that lie further apart than any clock goes wrong are kept apart by other means.
    events = events.copy()
    events["arrived_ns"] %= 1000 * 3_600_000_000_000
    expected: dict[object, list[int]] = {}
    for event in events:
        subject = subjects[int(event["subject"])]
        group = (
            int(event["subject"]),
            int(event["arrived_ns"]) // 3_600_000_000_000,
            OUTCOMES[event["outcome"]],
            list(Known)[event["known"]],
        )
        sums = expected.setdefault(group, [0] * 5)
        amount = int(event["amount"])
        for at, value in enumerate(
            (
                1,
                int(event["rows"]),
                amount,
                cost_nano(amount, subject.tariff),
                int(event["took_ns"]) // 1000,
            )
        ):
            sums[at] += value
    found = {
        (group.subject, group.hour, group.outcome, group.known): [
            sums.calls,
            sums.rows,
            sums.amount,
            sums.cost,
            sums.took_us,
        ]
        for group, sums in add_up(events, subjects).items()
    }
    assert found == expected


@given(made_events())
def test_what_is_packed_comes_back(events: Events) -> None:
    """Byte by byte, but for the checksums."""
    assert bodies(unpack(pack(events))) == bodies(events)


def test_an_event_has_no_byte_without_a_name() -> None:
    """Numpy copies what has one."""
    assert sum(np.dtype(field[0]).itemsize for field in (EVENT.fields or {}).values()) == 48
