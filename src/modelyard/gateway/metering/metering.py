"""Metering of one server process: its meter, its spool, and the copies to the database."""

import datetime
import logging
from pathlib import Path
from typing import Final

from modelyard.core.usage import SpoolState
from modelyard.gateway.metering.copier import Copier, UsageBook
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.spool import SEGMENT_BYTES, Spool

_log = logging.getLogger(__name__)

FOLDER: Final = "spool"
"""Where spools lie in a home."""
GRACE_S: Final = 2.0


class Metering:
    """Make it, `start` it, give `meter` to the gate, and `stop` it after the last call.

    Spools lie in `folder`, that all processes of a home share and that holds at most `bound_bytes`.
    Single events are deleted from `book` after `keep`; their sums stay.
    """

    def __init__(
        self,
        folder: Path,
        book: UsageBook,
        *,
        bound_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        keep: datetime.timedelta | None = None,
    ) -> None:
        self._spool = Spool(folder, bound_bytes=bound_bytes, segment_bytes=segment_bytes)
        self._copier = Copier(folder, book, self._spool, keep=keep)
        self.meter: Final = SpooledMeter(self._spool)

    def start(self) -> None:
        """Begin to sync and to copy, in threads."""
        self._spool.start()
        self._copier.start()

    def state(self) -> SpoolState:
        """How it stands, for an operator to see."""
        return SpoolState(
            waiting=self._spool.written - self._copier.position,
            unrecorded=sum(self._spool.missed().values()),
            trouble=self._spool.trouble or self._copier.trouble,
        )

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Copy what is left, and let go of the files; waits, so call it in a thread.

        What cannot be copied within `grace_s` stays in the spool, for the next who looks.
        """
        self._spool.stop()
        if not self._copier.stop(grace_s):
            _log.warning("usage that is not copied to the database yet stays in the spool")
