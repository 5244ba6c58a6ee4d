"""What a policy names within a payload: a column or tensor by its name, or a JSON path."""

import re
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import Invalid

ANY: Final = "*"
"""A step that stands for every element of a list."""
_ROOTS: Final = ("inputs", "outputs")
_STEP: Final = re.compile(r"\.(?P<name>[^.\[\]'\"*\s]+)|\[(?P<any>\*)\]|\['(?P<quoted>[^']+)'\]")


@dataclass(frozen=True, slots=True)
class Selector:
    """A name that is looked for everywhere, or a path from `inputs` or `outputs` on.

    `$.inputs.email` is a tensor, `$.inputs.rows.email` its column, or, where the tensor is of
    texts that are JSON, that member of each; `[*]` is every element and may be left out after a
    tensor. `['a name']` is a name with odd characters in it.
    """

    text: str
    root: str = ""
    steps: tuple[str, ...] = ()

    @property
    def is_path(self) -> bool:
        """Whether it says where, and is not looked for everywhere."""
        return bool(self.root)

    @property
    def name(self) -> str:
        """The tensor of a path; of a name itself, the column or tensor."""
        return self.steps[0]

    @property
    def inner(self) -> tuple[str, ...]:
        """The way on from a path's tensor."""
        rest = self.steps[1:]
        return rest[1:] if rest[:1] == (ANY,) else rest

    @staticmethod
    def parse(text: str) -> "Selector":
        """Read a name or a path; raises `Invalid`."""
        if not text.startswith("$"):
            if not text.strip():
                raise _bad(text)
            return Selector(text, steps=(text,))
        steps, position = [], 1
        while position < len(text):
            found = _STEP.match(text, position)
            if found is None:
                raise _bad(text)
            steps.append(found["name"] or found["any"] or found["quoted"])
            position = found.end()
        if len(steps) < 2 or steps[0] not in _ROOTS or steps[1] == ANY:
            raise _bad(text)
        return Selector(text, steps[0], tuple(steps[1:]))


def _bad(text: str) -> Invalid:
    return Invalid(
        "bad_path",
        f"'{text:.80}' is neither a column's name nor a path, as $.inputs.NAME, "
        "$.inputs.NAME.COLUMN or $.outputs.NAME[*].MEMBER",
        field="redact",
    )
