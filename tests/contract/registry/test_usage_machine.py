"""Whatever is recorded, killed, copied and copied again: spool and database agree."""

import itertools
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from modelyard.core.call import Outcome
from modelyard.core.rules import Rules
from modelyard.core.usage import Tariff, Unit
from modelyard.gateway.metering.batch import Batch
from modelyard.gateway.metering.copier import Copier
from modelyard.gateway.metering.layout import EVENT_BYTES
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.spool import LEAST_SEGMENT_BYTES, Spool
from modelyard.registry.database import Database
from modelyard.registry.usage import UsageBook
from modelyard.testing.metering import make_call, make_permit


class Died(Exception):
    """A process that copies is gone."""


class DyingBook(UsageBook):
    """A book whose user dies at a chosen step: before a copy is committed, or after."""

    def __init__(self, database: Database, steps: int) -> None:
        super().__init__(database)
        self._steps = steps

    def copy(self, batch: Batch) -> int:
        self._step()
        after = super().copy(batch)
        self._step()
        return after

    def end(self, spool: str) -> None:
        super().end(spool)
        self._step()

    def _step(self) -> None:
        self._steps -= 1
        if not self._steps:
            raise Died


class Metered(RuleBasedStateMachine):
    """One process after the other records; it and others copy; all of them may die."""

    database: Database
    names = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name) / "spool"
        self.book = UsageBook(self.database)
        # The database is one for all examples: this one's events are those of its tenant.
        self.tenant = f"t{next(self.names)}"
        self.expected: Counter[str] = Counter()
        self.cost = 0
        self.nano = 0
        self.start()

    @rule()
    def start(self) -> None:
        """A new process takes over; the old one is killed."""
        self.kill(0)
        self.spool = Spool(self.folder, bound_bytes=2**26, segment_bytes=LEAST_SEGMENT_BYTES)
        self.spool.upkeep()
        self.meter = SpooledMeter(self.spool)
        self.copier = Copier(self.folder, self.book, self.spool)
        self.is_alive = True
        self.set_price(self.nano)

    @rule(nano=st.integers(0, 10**6))
    def set_price(self, nano: int) -> None:
        self.nano = nano
        if self.is_alive:
            self.meter.on_rules(Rules(tariffs=(Tariff(models="*", unit=Unit.ROW, nano=nano),)))

    @rule(
        count=st.sampled_from([1, 7, 300]),
        outcome=st.sampled_from(list(Outcome)),
        key=st.integers(0, 3),
    )
    def record(self, count: int, outcome: Outcome, key: int) -> None:
        if not self.is_alive:
            return
        permit = make_permit(tenant=self.tenant, key=f"k{key}")
        for rows in range(count):
            call = make_call(permit, outcome, rows=rows)
            self.meter.record(call)
            self.expected[call.id] += 1
            self.cost += rows * self.nano if outcome is Outcome.OK else 0

    @rule(torn=st.integers(0, EVENT_BYTES - 4))
    def kill(self, torn: int) -> None:
        """The process ends, in the middle of an event."""
        if not getattr(self, "is_alive", False):
            return
        segment = self.spool.current
        if segment is not None and segment.at <= segment.last:
            segment.memory[segment.at : segment.at + torn] = b"\x5a" * torn
        self.is_alive = False
        self.spool.stop()
        self.spool.close(is_copied=False)

    @rule()
    def copy(self) -> None:
        if self.is_alive:
            self.copier.copy_own()

    @rule()
    def copy_what_was_left(self) -> None:
        Copier(self.folder, self.book).copy_orphans()

    @rule(steps=st.integers(1, 8), own=st.booleans())
    def die_while_copying(self, steps: int, own: bool) -> None:
        book = DyingBook(self.database, steps)
        spool = self.spool if own and self.is_alive else None
        copier = Copier(self.folder, book, spool)
        try:
            if own:
                copier.copy_own()
            else:
                copier.copy_orphans()
        except Died:
            pass

    @rule()
    def end(self) -> None:
        """The process ends well: all is copied, and nothing is left of its spool."""
        if self.is_alive:
            self.is_alive = False
            self.spool.stop()
            assert self.copier.stop(1.0)

    @invariant()
    def nothing_is_there_twice(self) -> None:
        if hasattr(self, "book"):
            found = Counter(event.call for event in self.book.events(tenant=self.tenant))
            assert found <= self.expected

    def teardown(self) -> None:
        if not hasattr(self, "book"):
            return
        assert self.book.reconcile(self.folder).differences == ()
        self.kill(0)
        self.copy_what_was_left()
        assert list(self.folder.iterdir()) == []
        found = Counter(event.call for event in self.book.events(tenant=self.tenant))
        assert found == self.expected
        lines = self.book.report(tenant=self.tenant).lines
        assert sum(line.calls for line in lines) == self.expected.total()
        assert sum(line.cost for line in lines) == self.cost
        reconciled = self.book.reconcile(self.folder)
        assert (reconciled.waiting, reconciled.damaged, reconciled.differences) == (0, 0, ())
        self.root.cleanup()


def test_spool_and_database_agree_whatever_dies(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    """Every recorded event is in the database once, at its price, and the sums are theirs."""
    database = Database.open(database_url)
    machine: Any = type("Machine", (Metered,), {"database": database})
    is_sqlite = database_url.startswith("sqlite")
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=25 if is_sqlite else 8, stateful_step_count=15, deadline=None
            ),
        )
    finally:
        database.close()
