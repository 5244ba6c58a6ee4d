"""Training's progress, drawn: a bar on a terminal, a line a step elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from modelyard.cli.screen import note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Steps:
    """Implements `train.progress.Progress` on stderr."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._detail = ""
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        if self._bars is not None:
            self._bars.stop()

    def step(self, name: str, detail: str) -> None:
        """A step begins, and the one before it has ended."""
        self._finish()
        self._name, self._detail, self._since = name, detail, time.monotonic()
        if self._bars is not None:
            self._task = self._bars.add_task(f"{name:<9} {_plain(detail)}", total=None)

    def advance(self, done: int, total: int) -> None:
        """The step has done so much of so much."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def _finish(self) -> None:
        if not self._name:
            return
        if self._bars is None:
            note(f"{self._name:<9} {self._detail}  {time.monotonic() - self._since:.1f} s")
        elif self._task is not None:
            # Many algorithms do not say how far they are: then the bar fills at the end.
            self._bars.update(self._task, total=1, completed=1)
        self._name = ""


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _plain(detail: str) -> str:
    return detail.replace("[", "\\[")
