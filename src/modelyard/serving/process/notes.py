"""What a model process counts, kept until it is told to a worker: each batch to one of them."""

from collections.abc import Callable, Sequence

from modelyard.core.call import Call
from modelyard.serving.process.messages import Batch
from modelyard.serving.statistics import Statistics


class Notes(Statistics):
    """Statistics that are handed on: added up over all workers, every batch is counted once."""

    def __init__(self) -> None:
        super().__init__()
        self._untold: list[Batch] = []
        self._waits = self._waited_ns = 0
        self.on_begun: Callable[[Sequence[Call]], None] = lambda _: None

    def begin(self, calls: Sequence[Call]) -> None:
        """Have it told that these run now."""
        self.on_begun(calls)

    def count_batch(self, rows: int, took_ns: int, ended_ns: int) -> None:
        """Take in a batch that was run."""
        self._untold.append(Batch(rows, took_ns, ended_ns))

    def count_waiting(self, calls: int, waited_ns: int) -> None:
        """Take in how long calls waited for their batch, added up."""
        self._waits += calls
        self._waited_ns += waited_ns

    def take(self) -> tuple[list[Batch], int, int]:
        """The batches, how many calls waited for one, and for how many nanoseconds in all."""
        told = self._untold, self._waits, self._waited_ns
        self._untold, self._waits, self._waited_ns = [], 0, 0
        return told
