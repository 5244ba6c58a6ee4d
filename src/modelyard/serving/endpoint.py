"""An endpoint: one version being served. Admission, deadlines, and its count of open calls.

How its calls are run is its backend's business: a scheduler in this process, or another process.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import ModelyardError, TimedOut, Unavailable
from modelyard.core.ports import Arrays, Gate
from modelyard.core.signature import Signature
from modelyard.serving.backend import Backend
from modelyard.serving.cache import ResponseCache
from modelyard.serving.report import State
from modelyard.serving.statistics import Statistics

_log = logging.getLogger(__name__)
_OK = Outcome.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which version an endpoint serves, for protocols to show."""

    model: str
    version: int
    digest: str
    platform: str
    signature: Signature
    sample: Arrays | None = None
    cache: dict[str, Any] = field(default_factory=dict)


class Endpoint:
    """A version being served. Made anywhere, then used on the event loop's thread only."""

    def __init__(
        self,
        identity: Identity,
        backend: Backend,
        gate: Gate,
        statistics: Statistics,
        *,
        timeout_ms: float | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.model = identity.model
        self.version = identity.version
        self.digest = identity.digest
        self.platform = identity.platform
        self.signature = identity.signature
        self.sample = identity.sample
        self.cache = identity.cache
        self.statistics = statistics
        self._backend = backend
        self._gate = gate
        self._timeout_ns = int((timeout_ms or 0) * 1e6)
        self._answers = (
            ResponseCache(identity.digest, identity.signature, cache_bytes) if cache_bytes else None
        )
        self._open_calls = 0
        self._retired = False
        self._on_closed: Callable[[], None] | None = None

    @property
    def open_calls(self) -> int:
        """Calls that were admitted here and have not ended."""
        return self._open_calls

    @property
    def is_retired(self) -> bool:
        """Whether it takes no more calls."""
        return self._retired

    @property
    def trouble(self) -> str | None:
        """Why it cannot answer at the moment; None where it can."""
        return self._backend.trouble

    def describe(self) -> State:
        """What it is, what it does now and what it has done, for an operator to see."""
        return State(
            model=self.model,
            version=self.version,
            digest=self.digest,
            platform=self.platform,
            trouble=self.trouble,
            open_calls=self._open_calls,
            load=self._backend.load(),
            report=self.statistics.report(),
        )

    def accept(self, call: Call) -> None:
        """Admit the call and queue it; raises when it is refused."""
        try:
            if self._retired:
                raise Unavailable(
                    "closing", f"'{self.model}:{self.version}' is being closed", retry_after_s=1.0
                )
            if self._answers is None:
                self._backend.check_room(call)
            may_run = call.is_shadow or self._gate.admit(call, self._enter)
        except ModelyardError as error:
            if not call.is_shadow:
                self.statistics.count_refusal(error.code)
                self._gate.refuse(call)
            raise
        call.settle = self._settle
        self._open_calls += 1
        if self._timeout_ns and call.deadline_ns is None:
            call.deadline_ns = call.started_ns + self._timeout_ns
        if may_run:
            if self._answers is None:
                self._backend.enqueue(call)
            else:
                self._enter(call)
        if call.deadline_ns is not None and call.outcome is None:
            _watch(call, call.deadline_ns)

    def _enter(self, call: Call) -> None:
        """Go on with a call that was admitted, at once or when the gate had waited for leave."""
        if call.outcome is not None:
            return
        if self._answers is not None and self._recall(call, self._answers):
            return
        try:
            self._backend.check_room(call)
        except ModelyardError as error:
            if not call.is_shadow:
                self.statistics.count_refusal(error.code)
            call.fail(error)
        else:
            self._backend.enqueue(call)

    def _recall(self, call: Call, answers: ResponseCache) -> bool:
        """Answer the call on the next turn if its answer is known; only now its tenant is."""
        key = answers.key_of(call)
        if key is None:
            return False
        outputs = answers.find(key)
        if outputs is None:
            call.settle = partial(self._settle_and_keep, answers, key)
            return False
        call.settle = self._settle_recalled
        asyncio.get_running_loop().call_soon(call.answer, outputs)
        return True

    def retire(self, on_closed: Callable[[], None] | None = None) -> None:
        """Take no more calls; close the backend when the last one has ended."""
        self._retired = True
        self._on_closed = on_closed
        if not self._open_calls:
            self._close()

    def _settle(self, call: Call) -> None:
        self._open_calls -= 1
        if call.outcome is not _OK:
            self._backend.forget(call)
        try:
            # What nobody waits for says nothing of how callers are served.
            if not call.is_shadow:
                self.statistics.count(call)
                self._gate.settle(call)
        finally:
            if self._retired and not self._open_calls:
                self._close()

    def _settle_recalled(self, call: Call) -> None:
        if call.outcome is _OK and not call.is_shadow:
            self.statistics.count_cache_hit(call)
        self._settle(call)

    def _settle_and_keep(self, answers: ResponseCache, key: bytes, call: Call) -> None:
        if call.outcome is _OK and call.outputs is not None:
            answers.keep(key, call.outputs)
        self._settle(call)

    def _close(self) -> None:
        self._answers = None
        self._backend.close(self._closed)

    def _closed(self) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()


def _watch(call: Call, deadline_ns: int) -> None:
    remaining_s = (deadline_ns - time.monotonic_ns()) / 1e9
    if remaining_s <= 0:
        end_late(call)
    elif call.outcome is None:
        call.timer = asyncio.get_running_loop().call_later(remaining_s, end_late, call)


def end_late(call: Call) -> None:
    """End a call whose deadline has passed; one that has ended already is left alone."""
    call.fail(TimedOut("deadline_passed", "the call's deadline passed before it was answered"))
