"""Requests that may be sent again, and are done once all the same."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import delete, insert, select

from modelyard.core.errors import Conflict
from modelyard.registry.database import Database
from modelyard.registry.tables import repeats

KEPT_FOR: Final = datetime.timedelta(hours=24)
"""After which time a request that comes again is a new one."""


class RepeatBook:
    """First answers, by the digest of who asked and of the key that they gave their request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All that this thread does with the registry within is one transaction."""
        with self._database.together():
            yield

    def once(self, mark: str, request: str, perform: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The answer to a request, and whether it was done before.

        What is done, and that it was, are one transaction: killed in between, neither has happened.
        A request that fails is not remembered, as it has changed nothing. Raises `Conflict` where
        the same mark was used for another request.
        """
        now = datetime.datetime.now(datetime.UTC)
        with self._database.together() as connection:
            connection.execute(delete(repeats).where(repeats.c.at < now - KEPT_FOR))
            row = connection.execute(
                select(repeats.c.request, repeats.c.answer).where(repeats.c.mark == mark)
            ).one_or_none()
            if row is None:
                answer = perform()
                connection.execute(
                    insert(repeats).values(mark=mark, request=request, answer=answer, at=now)
                )
                return answer, False
            if row.request != request:
                raise Conflict(
                    "idempotency_key_reused",
                    "this Idempotency-Key was used for another request; give each its own",
                    field="Idempotency-Key",
                )
            return row.answer, True
