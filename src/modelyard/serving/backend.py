"""What an endpoint hands its calls to: a scheduler of this process, or a process elsewhere."""

from collections.abc import Callable
from typing import Protocol

from modelyard.core.call import Call
from modelyard.serving.report import Load


class Backend(Protocol):
    """Runs an endpoint's calls. Used on the event loop's thread only."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot run calls at the moment; None where it can."""
        ...

    def load(self) -> Load:
        """Where it runs, what waits there, and what a batch costs."""
        ...

    def enqueue(self, call: Call) -> None:
        """Take an admitted call; it ends later, never inside this method."""
        ...

    def check_room(self, call: Call) -> None:
        """Raise `Exhausted` where the call finds no room, `Unavailable` where nobody can run it."""
        ...

    def forget(self, call: Call) -> None:
        """The call has ended without an answer from here: drop it if it still waits."""
        ...

    def close(self, on_closed: Callable[[], None]) -> None:
        """No call is open any more: finish what still runs, free everything, then say so."""
        ...
