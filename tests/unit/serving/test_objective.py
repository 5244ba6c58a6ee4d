from modelyard.serving.objective import Objective

MS = 1_000_000


def steady(p99_ms: float, row_ms: float, batches: int = 50) -> Objective:
    objective = Objective(p99_ms)
    for _ in range(batches):
        objective.observe(1, int(row_ms * MS), row_ms * MS)
    return objective


def test_what_can_be_met_is_admitted_and_what_cannot_is_refused() -> None:
    """With a millisecond a row and an objective of twenty, ten before are fine and forty not."""
    objective = steady(20, 1)
    assert objective.admits(10, 0)
    assert not objective.admits(40, 0)


def test_once_shut_it_opens_only_when_there_is_room() -> None:
    """Between the two bounds the answer stays what it was: no flapping."""
    objective = steady(20, 1)
    assert objective.admits(13, 0)
    assert not objective.admits(18, 0)
    assert not objective.admits(13, 0)
    assert objective.admits(10, 0)
    assert objective.admits(13, 0)


def test_one_stalled_batch_refuses_nobody_for_long() -> None:
    """A batch that hung for five seconds is forgotten within ten usual ones."""
    objective = steady(20, 1)
    objective.observe(1, 5_000 * MS, 5_000 * MS)
    needed = 0
    while not objective.admits(10, 0):
        objective.observe(1, MS, MS)
        needed += 1
    assert needed <= 10


def test_a_first_batch_that_hung_is_no_verdict_for_ever() -> None:
    """Even where the only thing known is wrong a hundred times over, truth wins in fifty."""
    objective = Objective(20)
    objective.observe(1, 100 * MS, 100 * MS)
    needed = 0
    while not objective.admits(3, 0):
        objective.observe(1, MS, MS)
        needed += 1
    assert needed <= 50


def test_a_model_that_becomes_slow_is_noticed() -> None:
    """Ten batches of ten times the time, and fewer are let in."""
    objective = steady(20, 1)
    assert objective.admits(10, 0)
    for _ in range(10):
        objective.observe(1, 10 * MS, 10 * MS)
    assert not objective.admits(10, 0)


def test_who_already_waits_too_long_is_proof_enough() -> None:
    """While lanes hang no pace is measured, but the first of the queue tells the truth."""
    objective = steady(20, 1)
    assert objective.admits(1, 0)
    assert not objective.admits(1, 25 * MS)


def test_it_comes_to_rest_where_one_in_a_hundred_is_late() -> None:
    """Where expectations are too low by half, fewer are let in until the objective is kept."""
    objective, late = steady(20, 1), 0
    for _ in range(4_000):
        rows = 0
        while objective.admits(rows, 0) and rows < 100:
            rows += 1
        # What is really needed for them.
        latency_ns = int(1.5 * (rows + 1) * MS)
        late += latency_ns > 20 * MS
        objective.judge(latency_ns)
    assert late <= 60


def test_a_batch_gets_half_of_the_objective() -> None:
    """Who comes just after a batch has begun waits for two."""
    assert Objective(20).batch_us == 10_000
