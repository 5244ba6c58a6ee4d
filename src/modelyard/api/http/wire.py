"""What a protocol class needs of a codec: read a request for a served version, write its answer."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from modelyard.api.parameters import Schedule
from modelyard.core.call import Call
from modelyard.core.ports import Arrays, Headers, Served

JSON: Final = b"application/json"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A successful response: its body, and header lines beyond the usual ones."""

    body: bytes
    content_type: bytes = JSON
    extra_headers: bytes = b""


Write = Callable[[Call], Answer]
"""Makes the answer of a call that ended well."""


class Question(msgspec.Struct, frozen=True):
    """A decoded request: checked arrays, their rows, and how its answer is to be written.

    `schedule` is what its parameters ask for; None where it has none, as nearly all.
    """

    inputs: Arrays
    rows: int
    write: Write
    schedule: Schedule | None = None


class Codec(Protocol):
    """One contract over HTTP, bound to one served version; made once for it, used per call."""

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode and check a request; raises `Invalid`."""
        ...


CodecFactory = Callable[[Served], Codec]
