"""Payloads of a running server: captured as its policy says, and nowhere in the clear."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelyard import Yard
from modelyard.core.names import Reference
from modelyard.core.policy import Capture, Policy
from tests.e2e.conftest import PATIENCE_S, Command, Server

_CAPTURE = Capture(
    models="mail*", share=100.0, redact=("email",), subject="customer", retention_s=3600.0
)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A home with a model of customers and their addresses, all of whose calls are captured."""
    frame = pd.DataFrame(
        {
            "customer": [f"c{number % 5}" for number in range(40)],
            "email": [f"u{number % 5}@example.org" for number in range(40)],
            "city": ["Bern", "Rome"] * 20,
        }
    )
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    model.fit(frame, np.arange(40) % 2)
    with Yard.open(tmp_path / "home") as yard:
        yard.publish(model, name="mail", sample=frame)
        yard.deploy(Reference("mail", version=1))
        yard.registry.policies.set(Policy(captures=(_CAPTURE,)), actor=yard.actor)
        yield yard


def _files_with(folder: Path, planted: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and planted in path.read_bytes()]


def _until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail("it never came to be")


def test_captured_redacted_listed_shown_and_erased(
    yard: Yard, start_server: Callable[..., Server]
) -> None:
    """From a call of several people's rows to the erasure of one of them."""
    home = yard.config.home
    key = yard.registry.keys.create(name="caller", actor=yard.actor).text
    server = start_server(home, MODELYARD_OPEN="false", MODELYARD_WORKERS="2")
    rows = [
        {"customer": "subject-ann", "email": "planted-address-1@example.org", "city": "Bern"},
        {"customer": "subject-bob", "email": "planted-address-2@example.org", "city": "Rome"},
        {"customer": "subject-ann", "email": "planted-address-3@example.org", "city": "Rome"},
    ]
    answer = httpx.post(
        f"{server.url}/v1/models/mail:predict",
        json={"instances": rows},
        headers={"authorization": f"Bearer {key}"},
        timeout=PATIENCE_S,
    )
    assert answer.is_success, answer.text
    payloads = yard.registry.payloads
    found = _until(lambda: payloads.list(actor=yard.actor))
    assert sorted(each.rows for each in found) == [1, 2]
    assert len({each.call for each in found}) == 1
    command = Command(home)
    shown: Any = command.json("payloads", "show", found[0].id)
    assert shown["payload"]["redacted"] == ["email"]
    texts = str(shown["payload"])
    assert "planted-address" not in texts
    assert "subject-" in texts
    for planted in (b"planted-address", b"subject-ann", b"subject-bob"):
        assert _files_with(home, planted) == []
    assert command.json("payloads", "erase", "--subject", "subject-ann")["payloads"] == 1  # type: ignore[index, call-overload]
    (left,) = payloads.export(actor=yard.actor)
    assert "subject-bob" in str(left.document)
    assert "subject-ann" not in str(yard.registry.audit())


def test_what_has_expired_is_deleted_by_the_server(
    yard: Yard, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to ask for it."""
    from modelyard.core.payloads import CapturedPayload

    now = time.time()
    yard.registry.payloads.write(
        [
            CapturedPayload(
                call="c-1", model="mail", version=1, tenant="default", key="k", outcome="ok",
                rows=1, at=now, expires_at=now + 0.1, document=b'{"inputs": {}}',
            )
        ]
    )  # fmt: skip
    start_server(yard.config.home)

    def is_gone() -> bool:
        from sqlalchemy import create_engine, text

        engine = create_engine(yard.config.registry_url)
        with engine.connect() as connection:
            (count,) = connection.execute(text("SELECT count(*) FROM payload_keys")).one()
        engine.dispose()
        return bool(count == 0)

    _until(is_gone)
