"""How training says what it is doing, to whoever draws the bars."""

from typing import Protocol


class Progress(Protocol):
    """Told of each step as it begins, and within long ones how far they are."""

    def step(self, name: str, detail: str) -> None:
        """A step begins: `read`, `clean`, `validate`, `split`, `fit`, `evaluate`, `gate`."""
        ...

    def advance(self, done: int, total: int) -> None:
        """The step has done so much of so much; it may end before `total`."""
        ...


class Silence:
    """Nobody is watching."""

    def step(self, name: str, detail: str) -> None:
        """Ignored."""

    def advance(self, done: int, total: int) -> None:
        """Ignored."""
