"""What a server does for the audit beside its changes: checkpoints, logins, and refusals."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from modelyard.core.errors import ModelyardError
from modelyard.core.identity import Actor
from modelyard.gateway.visits import Login, Refusals, Visits
from modelyard.registry.audit import AuditBook
from modelyard.registry.auditing import Entry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_log: Final = logging.getLogger(__name__)

EVERY_ROWS: Final = 1000
EVERY_S: Final = 300.0
LOOK_S: Final = 5.0


class AuditKeeper:
    """A thread that writes down visits, and signs a chain when it has grown.

    A chain is signed after `every_rows` rows, or `every_s` seconds after it was last signed, looked
    for every `look_s` seconds; and when the server stops. Every worker of every node may have one:
    who comes first signs.
    """

    def __init__(
        self,
        book: AuditBook,
        key: "Callable[[], Ed25519PrivateKey]",
        visits: Visits,
        *,
        every_rows: int = EVERY_ROWS,
        every_s: float = EVERY_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._book = book
        self._key = key
        self._visits = visits
        self._every_rows = every_rows
        self._every_s = every_s
        self._look_s = look_s
        self._is_down = False
        self._unwritten: list[Login | Refusals] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Write down what is left, sign, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._look_s):
            self._look(is_last=False)
        self._look(is_last=True)

    def _look(self, *, is_last: bool) -> None:
        try:
            # While something cannot be written, what comes stays with `Visits`, which bounds it.
            if is_last or not self._unwritten:
                self._unwritten += self._visits.take(is_last=is_last)
            if self._unwritten:
                self._book.note(_entries(self._unwritten))
                self._unwritten = []
            every_rows = 1 if is_last else self._every_rows
            self._book.checkpoint(self._key(), every_rows=every_rows, every_s=self._every_s)
        except ModelyardError as error:
            if not self._is_down:
                _log.warning("the audit can be neither signed nor kept up: %s", error.message)
            self._is_down = True
        except Exception:  # noqa: BLE001 - the next look may go well
            _log.exception("the audit can be neither signed nor kept up")
        else:
            self._is_down = False


def _entries(noted: Sequence[Login | Refusals]) -> list[Entry]:
    return [
        Entry(
            action="login",
            actor=each.actor,
            kind="login",
            subject=each.actor.key,
            at=each.at,
        )
        if isinstance(each, Login)
        else Entry(
            action="refused",
            actor=Actor(name="", source=each.source),
            kind="login",
            subject=each.source,
            details={"count": each.count},
            at=each.at,
        )
        for each in noted
    ]
