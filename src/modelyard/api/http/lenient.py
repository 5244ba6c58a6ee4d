"""JSON as Python writes it: `NaN` and `Infinity` are no JSON, and clients send them anyway."""

import json
from typing import Any

from modelyard.core.errors import Invalid


def read_lenient(body: bytes, error: Exception) -> Any:
    """The content of a body that a strict reader refused with `error`, if only NaNs are at fault.

    Whether a NaN is allowed is the signature's business. Raises `Invalid` for anything else.
    """
    if b"NaN" in body or b"Infinity" in body:
        try:
            content = json.loads(body)
            if b"\\u" in body:
                # Half of a surrogate pair is no text, and could be written into no answer.
                json.dumps(content, ensure_ascii=False).encode()
            return content
        except (ValueError, RecursionError):
            pass
    raise Invalid("not_json", f"the body is not JSON: {error}") from None
