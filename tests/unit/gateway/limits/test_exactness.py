"""Whatever happens, no more is let through than a quota allows, and all of it can be had."""

import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from modelyard.core.call import Call, Outcome
from modelyard.core.limits import Limit, LimitKind, Period
from modelyard.core.periods import period_at
from modelyard.core.usage import Unit
from modelyard.registry.tables import quota_leases
from tests.unit.gateway.limits.worlds import Worker, World

AMOUNT = 300
LIMIT = Limit(
    id="q", kind=LimitKind.QUOTA, amount=AMOUNT, unit=Unit.ROW, period=Period.HOUR, per=("tenant",)
)
HOMES = ("one", "two")


class Quota(RuleBasedStateMachine):
    """Two homes with some workers each, and one registry."""

    workers: Bundle[Worker] = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder, LIMIT)
        self.charged: Counter[str] = Counter()

    @precondition(lambda self: len(self.world.workers) < 5)
    @rule(target=workers, home=st.sampled_from(HOMES))
    def start(self, home: str) -> Worker:
        return self.world.start(home)

    @rule(worker=workers, rows=st.integers(1, 4))
    def begin(self, worker: Worker, rows: int) -> None:
        worker.begin(rows)

    @rule(worker=workers, well=st.booleans(), data=st.data())
    def end(self, worker: Worker, well: bool, data: st.DataObject) -> None:
        if worker.open:
            self.finish(worker, data.draw(st.sampled_from(worker.open)), well)

    @rule(worker=workers, rows=st.integers(1, 4), calls=st.integers(1, 100), well=st.booleans())
    def call(self, worker: Worker, rows: int, calls: int, well: bool) -> None:
        for _ in range(calls):
            call = worker.begin(rows)
            self.pass_time(0.0)
            if call in worker.open:
                self.finish(worker, call, well)

    @rule(worker=consumes(workers))
    def kill(self, worker: Worker) -> None:
        worker.kill()

    @rule(worker=consumes(workers))
    def kill_while_the_registry_answers(self, worker: Worker) -> None:
        worker.store.loses = True
        for _ in range(3):
            worker.begin(4)
        self.pass_time(0.5)
        worker.kill()

    @rule(worker=consumes(workers))
    def stop(self, worker: Worker) -> None:
        # One that waited may be let in when another ends.
        while worker.open:
            self.finish(worker, worker.open[0], well=True)
        worker.stop()

    @rule(seconds=st.sampled_from([0.02, 0.3, 3.0, 90.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(is_down=st.booleans())
    def reach(self, is_down: bool) -> None:
        self.world.registry.is_down = is_down

    @rule(hours=st.sampled_from([-1, 0, 1]))
    def set_clock(self, hours: int) -> None:
        self.world.jump_s = hours * 3600.0
        # Workers look at the clock a few times a second.
        self.pass_time(0.3)

    def finish(self, worker: Worker, call: Call, well: bool) -> None:
        period = period_of(call)
        worker.end(call, well=well)
        if well:
            assert call.outcome is Outcome.OK
            self.charged[period] += call.rows

    @invariant()
    def no_more_than_the_quota_is_granted(self) -> None:
        for period, granted in self.sums("granted").items():
            assert granted <= AMOUNT, period

    @invariant()
    def no_more_than_the_quota_is_let_through(self) -> None:
        through = Counter(self.charged)
        for worker in self.world.workers:
            for call in worker.open:
                through[period_of(call)] += call.rows
        assert all(rows <= AMOUNT for rows in through.values()), through

    def sums(self, column: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        with self.world.database.read() as connection:
            for row in connection.execute(quota_leases.select()):
                sums[row.period] += getattr(row, column)
        return sums

    def teardown(self) -> None:
        try:
            self.world.registry.is_down = False
            # Waiting calls are answered or refused, and those that were let in end.
            self.pass_time(3.0)
            for worker in self.world.workers:
                for call in worker.open[:]:
                    self.finish(worker, call, well=True)
            for home in HOMES:
                if all(worker.home != home for worker in self.world.workers):
                    self.world.start(home)
            self.pass_time(1.0)
            self.spend_the_rest()
            self.pass_time(3.0)
            now = period_at(Period.HOUR, self.world.clock.wall())
            assert self.charged[now] == AMOUNT
            spent = self.sums("spent")
            assert {period: spent[period] for period in self.charged} == dict(self.charged)
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def spend_the_rest(self) -> None:
        """One worker after the other, until the last is refused; nobody has time to tidy up."""
        workers = sorted(self.world.workers, key=lambda each: each.home)
        for worker in workers:
            for _ in itertools.repeat(None) if worker is workers[-1] else range(40):
                call = worker.begin()
                while call not in worker.open and call.outcome is None:
                    self.pass_time(0.02)
                if call.outcome is not None:
                    break
                self.finish(worker, call, well=True)


def period_of(call: Call) -> str:
    """In which period an open call was let in."""
    ((_, pocket, _),) = call.reserved
    return str(pocket.period)


TestQuota = Quota.TestCase
TestQuota.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    # To explain a failure it would trace every line of the database's driver, for minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
