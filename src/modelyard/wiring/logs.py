"""Where a server's log goes, and how its lines look."""

import logging


def log_to_stderr(who: str = "") -> None:
    """Lines on standard error; `who` says which process of several wrote them."""
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
