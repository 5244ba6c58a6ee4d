"""Where a server's log goes, and how its lines look."""

import logging

from modelyard.core.masking import mask


class _Masked(logging.Formatter):
    """Leaves no key and no token in a line, whoever logged it, nor in a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, as it is written."""
        return mask(super().format(record))


def log_to_stderr(who: str = "") -> None:
    """Lines on standard error; `who` says which process of several wrote them."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Masked(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
