"""What workers count together, in a file that outlives them."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from modelyard.core.errors import Conflict, Exhausted, Unavailable
from modelyard.gateway.limits.till import SETTLED, TAKEN, Cell, Kind, Till


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_till(stack: ExitStack, folder: Path, **more: object) -> Till:
    return stack.enter_context(closing(Till(folder, **more)))  # type: ignore[arg-type]


def take(till: Till, taken: int, settled: int) -> int:
    with till:
        row = till.find("subject", Kind.QUOTA)
        at = till.column_cell(row)
        till.own.cells[at + TAKEN] += taken
        till.own.cells[at + SETTLED] += settled
    return row


def test_workers_see_one_row(stack: ExitStack, tmp_path: Path) -> None:
    """What each has taken adds up."""
    one, two = open_till(stack, tmp_path), open_till(stack, tmp_path)
    assert take(one, 5, 2) == take(two, 3, 1)
    with one:
        row = one.find("subject", Kind.QUOTA)
        assert (one.taken(row), one.settled(row)) == (8, 3)
    assert one.node == two.node


def test_of_a_dead_worker_what_is_settled_stays(stack: ExitStack, tmp_path: Path) -> None:
    """What it had set aside is there for others, found out by whoever looks or comes next."""
    one = open_till(stack, tmp_path)
    dead = Till(tmp_path)
    row = take(dead, 5, 2)
    dead.close()
    with one:
        assert one.taken(row) == 5
        assert one.bury(10**18)
        assert (one.taken(row), one.settled(row)) == (2, 2)


def test_a_home_is_the_same_node_after_a_restart(stack: ExitStack, tmp_path: Path) -> None:
    """And knows what was settled."""
    first = Till(tmp_path)
    row, node = take(first, 5, 2), first.node
    first.close()
    again = open_till(stack, tmp_path)
    assert again.node == node
    with again:
        assert (again.find("subject", Kind.QUOTA), again.taken(row)) == (row, 2)


def test_after_a_boot_a_home_is_a_new_node(stack: ExitStack, tmp_path: Path) -> None:
    """What a power cut may have left half written counts for nothing."""
    first = Till(tmp_path, machine="before")
    row, node = take(first, 5, 2), first.node
    first.close()
    again = open_till(stack, tmp_path, machine="after")
    assert again.node != node
    with again:
        assert again.look_up("subject") is None
        assert again.taken(row) == 0


def test_a_home_is_used_on_one_machine(stack: ExitStack, tmp_path: Path) -> None:
    """Memory is not shared over a network, so nobody counts as if it were."""
    open_till(stack, tmp_path, machine="here")
    with pytest.raises(Conflict, match="machine"):
        Till(tmp_path, machine="there")


def test_a_lock_that_is_kept_holds_nobody_up(stack: ExitStack, tmp_path: Path) -> None:
    """Where its holder does not go on, others say so after a moment."""
    one, two = open_till(stack, tmp_path), open_till(stack, tmp_path)
    with one, pytest.raises(Unavailable), two:
        pass
    with two:
        pass


def test_a_full_till_says_so(stack: ExitStack, tmp_path: Path) -> None:
    """Rows that nobody has used for long are another's; those in use are not."""
    till = open_till(stack, tmp_path, capacity=4)
    with till:
        rows = [till.find(f"subject {number}", Kind.RATE) for number in range(4)]
        for row in rows:
            till.cells[row + Cell.STAMP] = 2**62
        with pytest.raises(Exhausted):
            till.find("one more", Kind.RATE)
        till.cells[rows[0] + Cell.STAMP] = -(10**15)
        assert till.find("one more", Kind.RATE) == rows[0]


def test_one_worker_at_a_time_speaks_for_a_home(stack: ExitStack, tmp_path: Path) -> None:
    """Another does when it has finished, or is dead."""
    one, two = open_till(stack, tmp_path), Till(tmp_path)
    with two:
        assert two.claim()
    with one:
        assert not one.claim()
    two.close()
    with one:
        assert one.claim()
