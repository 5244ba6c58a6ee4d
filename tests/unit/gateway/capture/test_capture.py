"""Which calls are kept, what they wait for, and that no answer waits for them."""

import gc
import json
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Unavailable
from modelyard.core.payloads import CapturedPayload
from modelyard.core.policy import Capture, Policy
from modelyard.core.ports import Permit, Served
from modelyard.core.rules import Rules
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.capture.capture import PayloadWriter

_SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (-1, 4)),),
    outputs=(TensorSpec("y", Datatype.FP32, (-1,)),),
)
_SERVED = cast(Served, SimpleNamespace(model="churn", version=3, signature=_SIGNATURE))
_PERMIT = cast(Permit, SimpleNamespace(tenant="acme", key="k1"))


class Sink:
    """Keeps what it is given; waits or fails where it is told to."""

    def __init__(self) -> None:
        self.kept: list[CapturedPayload] = []
        self.errors: list[Exception] = []
        self.open = threading.Event()
        self.open.set()
        self.came = threading.Event()
        self.sweeps = threading.Event()

    def write(self, payloads: Sequence[CapturedPayload]) -> int:
        self.came.set()
        assert self.open.wait(10)
        if self.errors:
            raise self.errors.pop()
        self.kept += payloads
        return len(payloads)

    def sweep(self) -> int:
        self.sweeps.set()
        return 0


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def writer(sink: Sink) -> Iterator[PayloadWriter]:
    writer = PayloadWriter(sink, most_bytes=10_000)
    writer.start()
    yield writer
    sink.open.set()
    writer.close()


def _settled(rows: int = 1) -> Call:
    call = Call(_SERVED, {"x": np.ones((rows, 4), np.float32)}, rows, lambda _: None)
    call.permit = _PERMIT
    call.answer({"y": np.zeros(rows, np.float32)})
    return call


def _policy(**capture: Any) -> Rules:
    captures = (Capture(models="churn", **{"share": 100.0, **capture}),)
    return Rules(policy=Policy(captures=captures))


def _offer(writer: PayloadWriter, *calls: Call) -> None:
    capture = writer.capture_of("churn")
    assert capture is not None
    for call in calls:
        capture.offer(call)


def test_nothing_is_captured_by_default(writer: PayloadWriter) -> None:
    """A home without a policy keeps nothing, and a policy for others keeps nothing of this one."""
    assert writer.capture_of("churn") is None
    writer.on_rules(_policy())
    assert writer.capture_of("other") is None
    assert writer.capture_of("churn") is not None
    writer.on_rules(_policy(share=0.0))
    assert writer.capture_of("churn") is None


def test_a_chosen_call_is_kept_with_who_and_when(writer: PayloadWriter, sink: Sink) -> None:
    """Its id, model, version, tenant, key, outcome, and the end of its time."""
    writer.on_rules(_policy(retention_s=60.0))
    call = _settled(2)
    _offer(writer, call)
    writer.close()
    (kept,) = sink.kept
    assert (kept.call, kept.model, kept.version) == (call.id, "churn", 3)
    assert (kept.tenant, kept.key, kept.outcome, kept.rows) == ("acme", "k1", "ok", 2)
    assert kept.expires_at == pytest.approx(kept.at + 60.0)
    assert json.loads(kept.document)["outputs"]["y"]["data"] == [0.0, 0.0]
    assert writer.state().kept == 1


def test_the_share_is_kept_and_no_more(writer: PayloadWriter, sink: Sink) -> None:
    """Of a thousand calls a fifth, give or take."""
    writer.on_rules(_policy(share=20.0))
    capture = writer.capture_of("churn")
    assert capture is not None
    call = _settled()
    chosen = 0
    for _ in range(1000):
        before = writer._offered_bytes
        capture.offer(call)
        chosen += writer._offered_bytes > before or writer.state().no_room > 0
        writer._counts.no_room = 0
    assert 120 < chosen < 290


def test_a_payload_beyond_what_may_wait_is_dropped_and_counted(
    writer: PayloadWriter, sink: Sink
) -> None:
    """While the registry hangs, memory does not grow; when it is back there is room again."""
    sink.open.clear()
    writer.on_rules(_policy())
    _offer(writer, _settled())
    assert sink.came.wait(10)
    _offer(writer, *(_settled() for _ in range(100)))
    assert 0 < writer.state().no_room < 100
    assert writer._offered_bytes - writer._taken_bytes <= 10_000
    sink.open.set()
    writer.close()
    assert writer.state().kept + writer.state().no_room == 101


def test_a_failing_registry_is_tried_again(
    writer: PayloadWriter, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written a moment ago is written when it can be."""
    monkeypatch.setattr("modelyard.gateway.capture.capture._AGAIN_S", 0.01)
    sink.errors = [Unavailable("registry_unavailable", "down")] * 3
    writer.on_rules(_policy())
    _offer(writer, _settled())
    assert sink.came.wait(10)
    while sink.errors:
        threading.Event().wait(0.005)
    writer.close()
    assert len(sink.kept) == 1
    assert writer.state().dropped == 0


def test_what_cannot_be_written_at_the_end_is_counted(writer: PayloadWriter, sink: Sink) -> None:
    """A server does not wait for ever to stop."""
    sink.errors = [Unavailable("registry_unavailable", "down")] * 100
    writer.on_rules(_policy())
    _offer(writer, _settled())
    assert sink.came.wait(10)
    writer.close()
    assert writer.state().failed == 1


def test_an_unexpected_error_ends_neither_thread_nor_server(
    writer: PayloadWriter, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """One batch is lost, and the next is kept."""
    sink.errors = [ValueError("odd")]
    writer.on_rules(_policy())
    with caplog.at_level(logging.ERROR):
        _offer(writer, _settled())
        assert sink.came.wait(10)
        while not writer.state().failed:
            threading.Event().wait(0.005)
        _offer(writer, _settled())
        writer.close()
    assert (writer.state().failed, writer.state().kept) == (1, 1)


def test_a_capture_that_cannot_be_redacted_as_wished_keeps_nothing(
    writer: PayloadWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that is none is said loudly, and captures nothing."""
    writer.on_rules(_policy(redact=("$.nowhere",)))
    with caplog.at_level(logging.ERROR):
        assert writer.capture_of("churn") is None
    assert "$.nowhere" in caplog.text


def test_a_payload_about_nobody_is_dropped_and_counted(writer: PayloadWriter, sink: Sink) -> None:
    """Where the policy names a subject."""
    writer.on_rules(_policy(subject="customer"))
    _offer(writer, _settled())
    writer.close()
    assert sink.kept == []
    assert writer.state().no_subject == 1


def test_a_payload_too_large_for_a_table_is_dropped_and_counted(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are no rows."""
    monkeypatch.setattr("modelyard.gateway.capture.capture._LARGEST_BYTES", 1000)
    writer = PayloadWriter(sink)
    writer.start()
    writer.on_rules(_policy())
    _offer(writer, _settled(500), _settled())
    writer.close()
    assert (writer.state().too_large, writer.state().kept) == (1, 1)


def test_a_written_call_is_let_go(writer: PayloadWriter, sink: Sink) -> None:
    """Its tensors are not held until the next one comes."""
    writer.on_rules(_policy())
    call = _settled()
    seen = weakref.ref(call.inputs["x"])
    _offer(writer, call)
    del call
    while not writer.state().kept:
        threading.Event().wait(0.005)
    for _ in range(200):
        gc.collect()
        if seen() is None:
            break
        threading.Event().wait(0.005)
    assert seen() is None


def test_what_has_expired_is_swept_now_and_then(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether anything is captured or not, and though a sweep may fail."""
    monkeypatch.setattr("modelyard.gateway.capture.capture._SWEEP_S", 0.01)
    writer = PayloadWriter(sink)
    writer.start()
    for _ in range(3):
        sink.sweeps.clear()
        assert sink.sweeps.wait(10)
    writer.close()
