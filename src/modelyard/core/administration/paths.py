"""Where the administration lies on a server."""

from typing import Final

PREFIX: Final = "/api/v1"
DOCUMENT: Final = f"{PREFIX}/openapi.json"


def is_administration(path: str) -> bool:
    """Whether a path is the administration's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")
