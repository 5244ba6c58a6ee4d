"""From a settled call to a kept payload: sampled on the loop, written by a thread.

An answer never waits for it. What the thread cannot keep up with is dropped, and counted.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, ModelyardError
from modelyard.core.payloads import CapturedPayload, CaptureState, PayloadSink
from modelyard.core.policy import Capture, Policy
from modelyard.core.ports import Permit, Served
from modelyard.core.rules import Rules
from modelyard.gateway.capture.document import Content, Recipe, UnattributableError

_log = logging.getLogger(__name__)

_MOST_BYTES: Final = 64 * 1024 * 1024
"""What may wait for the thread, in bytes of tensors."""
_LARGEST_BYTES: Final = 4 * 1024 * 1024
"""Of one payload, as it is stored."""
_CALL_BYTES: Final = 1024
_TEXT_BYTES: Final = 64
"""What a text is taken to hold: counting would cost more than keeping it."""
_BATCH: Final = 256
_MOST_MODELS: Final = 10_000
_LINGER_S: Final = 0.1
_AGAIN_S: Final = 1.0
_TELL_S: Final = 60.0
_SWEEP_S: Final = 30.0


@dataclass(slots=True)
class _Counts:
    """`CaptureState`, as it is counted up; each number by one thread only."""

    kept: int = 0
    no_room: int = 0
    too_large: int = 0
    no_subject: int = 0
    failed: int = 0


class _Chosen(NamedTuple):
    """What is needed of a call that is to be kept; the call itself may go."""

    call: str
    served: Served
    permit: Permit
    outcome: Outcome
    at: float
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    rows: int
    error: str
    recipe: Recipe
    retention_s: float
    weight: int

    @property
    def content(self) -> Content:
        return Content(self.served.signature, self.inputs, self.outputs, self.rows, self.error)


class ModelCapture:
    """The capture of one model's calls, for a permit. `offer` belongs to the loop's thread."""

    __slots__ = ("_capture", "_recipe", "_share", "_writer")

    def __init__(self, capture: Capture, recipe: Recipe, writer: "PayloadWriter") -> None:
        self._capture = capture
        self._recipe = recipe
        self._share = capture.share / 100.0
        self._writer = writer

    def offer(self, call: Call) -> None:
        """Keep the call, if chance chooses it; microseconds, and never raises."""
        if random.random() < self._share:  # noqa: S311 - a sample, no secret
            self._writer.put(call, self._recipe, self._capture.retention_s)


class PayloadWriter:
    """Takes chosen calls, and writes them from its own thread; which calls, a policy says.

    That thread also sweeps what has expired, about every half minute. `start` it before the first
    call, `close` it after the last.
    """

    def __init__(self, sink: PayloadSink, *, most_bytes: int = _MOST_BYTES) -> None:
        self._counts = _Counts()
        self._sink = sink
        self._most_bytes = most_bytes
        self._policy = Policy()
        self._captures: dict[str, ModelCapture | None] = {}
        self._queue: queue.SimpleQueue[_Chosen | None] = queue.SimpleQueue()
        # Each is written by one thread only; what waits is their difference.
        self._offered_bytes = 0
        self._taken_bytes = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="payloads", daemon=True)
        self._told_at = float("-inf")
        # Not all workers at once.
        self._sweep_at = time.monotonic() + random.random()  # noqa: S311

    def on_rules(self, rules: Rules) -> None:
        """Go by the policy of these rules from now on; permits must be made anew."""
        self._policy = rules.policy
        self._captures = {}

    def capture_of(self, model: str) -> ModelCapture | None:
        """What a permit for a model offers its calls to; None where nothing is captured."""
        if not self._policy.captures:
            return None
        if model not in self._captures:
            if len(self._captures) >= _MOST_MODELS:
                # Callers name models, whether they are there or not.
                self._captures.clear()
            self._captures[model] = self._make(model)
        return self._captures[model]

    def state(self) -> CaptureState:
        """What became of what was offered, for an operator to see."""
        return CaptureState(**asdict(self._counts))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, patience_s: float = 5.0) -> None:
        """Write what waits, for so long; what is left then is dropped and counted."""
        if not self._thread.is_alive():
            return
        self._closing.set()
        self._queue.put(None)
        self._thread.join(patience_s)

    def put(self, call: Call, recipe: Recipe, retention_s: float) -> None:
        """Take a call that has ended; drops it where too much waits."""
        permit, outcome = call.permit, call.outcome
        if permit is None or outcome is None:
            return
        weight = _CALL_BYTES + _weight(call.inputs.values())
        if call.outputs is not None:
            weight += _weight(call.outputs.values())
        if self._offered_bytes - self._taken_bytes + weight > self._most_bytes:
            self._counts.no_room += 1
            return
        self._offered_bytes += weight
        self._queue.put(
            _Chosen(
                call.id,
                call.served,
                permit,
                outcome,
                time.time(),
                call.inputs,
                call.outputs,
                call.rows,
                "" if call.error is None else call.error.code,
                recipe,
                retention_s,
                weight,
            )
        )

    def _make(self, model: str) -> ModelCapture | None:
        capture = self._policy.capture(model)
        if capture is None:
            return None
        try:
            return ModelCapture(capture, Recipe(capture), self)
        except Invalid as error:
            # What cannot be redacted as wished is not kept at all.
            _log.error("payloads of '%s' are not captured: %s", model, error.message)
            return None

    # The thread

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            self._write(batch)
            # Held no longer than until it is written, however long nothing follows.
            del batch
            self._tell()
            self._sweep()

    def _gather(self) -> tuple[list[_Chosen], bool]:
        """What has come, or nothing when it is time to sweep; and whether more may come."""
        batch: list[_Chosen] = []
        patience_s = max(self._sweep_at - time.monotonic(), 0.0)
        while len(batch) < _BATCH:
            try:
                chosen = self._queue.get(timeout=patience_s)
            except queue.Empty:
                break
            if chosen is None:
                return batch, False
            batch.append(chosen)
            patience_s = _LINGER_S
        return batch, True

    def _sweep(self) -> None:
        if time.monotonic() < self._sweep_at or self._closing.is_set():
            return
        try:
            self._sink.sweep()
        except Exception as error:  # noqa: BLE001 - a database may raise anything, and come back
            _log.info("expired payloads cannot be deleted now: %s", type(error).__name__)
        self._sweep_at = time.monotonic() + _SWEEP_S

    def _write(self, batch: list[_Chosen]) -> None:
        payloads = [payload for chosen in batch for payload in self._payloads(chosen)]
        # The tensors are not needed any more: only now is there room again.
        self._taken_bytes += sum(chosen.weight for chosen in batch)
        while payloads:
            is_last = self._closing.is_set()
            try:
                self._counts.kept += self._sink.write(payloads)
            except ModelyardError as error:
                _log.warning("captured payloads cannot be written: %s", error.message)
                if not is_last:
                    self._closing.wait(_AGAIN_S)
                    continue
                self._counts.failed += len(payloads)
            except Exception:  # noqa: BLE001 - whatever it is, later payloads may be kept
                _log.exception("captured payloads cannot be written")
                self._counts.failed += len(payloads)
            return

    def _payloads(self, chosen: _Chosen) -> Iterator[CapturedPayload]:
        try:
            for part in chosen.recipe.parts(chosen.content):
                if len(part.document) > _LARGEST_BYTES:
                    self._counts.too_large += 1
                    continue
                yield CapturedPayload(
                    call=chosen.call,
                    model=chosen.served.model,
                    version=chosen.served.version,
                    tenant=chosen.permit.tenant,
                    key=chosen.permit.key,
                    outcome=chosen.outcome,
                    rows=part.rows,
                    at=chosen.at,
                    expires_at=chosen.at + chosen.retention_s,
                    subject=part.subject,
                    document=part.document,
                )
        except UnattributableError:
            self._counts.no_subject += 1
        except Exception as error:  # noqa: BLE001 - a payload that is lost must not end the thread
            # Not the error's words: they may quote the payload.
            _log.error("call %s cannot be captured: %s", chosen.call, type(error).__name__)
            self._counts.failed += 1

    def _tell(self) -> None:
        state, now = self.state(), time.monotonic()
        if state.dropped and now >= self._told_at + _TELL_S:
            self._told_at = now
            _log.warning("%d captured payloads were dropped so far: %s", state.dropped, state)


def _weight(arrays: Iterable[Array]) -> int:
    return sum(
        array.size * _TEXT_BYTES if array.dtype == object else array.nbytes for array in arrays
    )
