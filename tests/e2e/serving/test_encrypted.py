"""A home with an encryption key: served from files that are nowhere in the clear."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper

from modelyard import Yard
from modelyard.bundle.keyring import add_key
from modelyard.core.config import load_config
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from tests.e2e.conftest import PATIENCE_S, Command, Server
from tests.graphs import constant, model_of, value

_PLANTED = b"planted-in-the-model"
_WEIGHTS = np.full((1, 4096), 1234.5, np.float32)
_MEMORY = Path(f"/dev/shm/modelyard-{os.geteuid()}/staging")


def _model(folder: Path, *, external: bool) -> Path:
    """A model with something to look for in its graph, and weights to look for beside it."""
    made = model_of(
        [helper.make_node("Mul", ["x", "w"], ["s"]), helper.make_node("ReduceMax", ["s"], ["y"])],
        [value("x", Datatype.FP32, (1, 1))],
        [value("y", Datatype.FP32, (1, 1))],
        [constant("w", _WEIGHTS)],
    )
    made.graph.doc_string = _PLANTED.decode()
    path = folder / "model.onnx"
    onnx.save(
        made,
        path,
        save_as_external_data=external,
        location="weights.bin" if external else None,
        size_threshold=0,
    )
    return path


def _files_with(folder: Path, *planted: bytes) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and any(each in path.read_bytes() for each in planted)
    ]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "kek"
    add_key(path)
    return path


@pytest.fixture
def home(tmp_path: Path, key_file: Path) -> Iterator[Path]:
    """Model `plain` in one file, and `external` in two."""
    home = tmp_path / "home"
    with Yard(load_config({"home": home, "encryption_key": f"file:{key_file}"})) as yard:
        for name in ("plain", "external"):
            folder = tmp_path / name
            folder.mkdir()
            yard.import_file(_model(folder, external=name == "external"), name=name)
            yard.deploy(Reference(name, version=1))
    yield home
    assert _files_with(home, _PLANTED, _WEIGHTS.tobytes()[:64]) == []


def _ask(server: Server, model: str) -> Any:
    url = f"{server.url}/v2/models/{model}/infer"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [2.0]}]}
    answer = httpx.post(url, json=body, timeout=PATIENCE_S)
    return answer.json()["outputs"][0]["data"] if answer.is_success else answer.json()


def _until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail("it never came to be")


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_models_are_served_from_encrypted_files(
    home: Path, key_file: Path, start_server: Callable[..., Server], isolation: str, tmp_path: Path
) -> None:
    """In workers and in processes of their own, and those that are killed and started again;
    nothing is left in the clear on a disk, nor in memory once it is over."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = start_server(
        home,
        MODELYARD_ENCRYPTION_KEY=f"file:{key_file}",
        MODELYARD_ISOLATION=isolation,
        TMPDIR=str(temporary),
    )
    for model in ("plain", "external"):
        assert _ask(server, model) == [2469.0]
    assert _files_with(temporary, _PLANTED, _WEIGHTS.tobytes()[:64]) == []
    if isolation == "none":
        return
    command = Command(home)
    places = _until(lambda: command.json("status")[0]["processes"])  # type: ignore[index]
    for each in places:
        os.kill(each["place"]["pid"], signal.SIGKILL)
    for model in ("plain", "external"):
        assert _until(lambda model=model: _ask(server, model) == [2469.0])
    assert _files_with(temporary, _PLANTED, _WEIGHTS.tobytes()[:64]) == []


def test_what_a_killed_server_had_in_memory_is_swept_by_the_next(
    home: Path, key_file: Path, start_server: Callable[..., Server]
) -> None:
    """Folders in memory end with who made them, or with who comes next."""
    environment = {"MODELYARD_ENCRYPTION_KEY": f"file:{key_file}"}
    killed = start_server(home, **environment)
    assert _ask(killed, "external") == [2469.0]
    before = set(_MEMORY.iterdir())
    assert any(_files_with(folder, _WEIGHTS.tobytes()[:64]) for folder in before)
    workers = Command(home).json("status")[0]["workers"]  # type: ignore[index]
    os.kill(killed.pid, signal.SIGKILL)
    for each in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each["pid"], signal.SIGKILL)
    following = start_server(home, **environment)
    assert _ask(following, "external") == [2469.0]
    mine = {folder for folder in _MEMORY.iterdir() if folder not in before}
    assert mine
    assert not any(folder.exists() for folder in before if _belongs(folder, workers))


def _belongs(folder: Path, workers: list[dict[str, Any]]) -> bool:
    return folder.name.partition("-")[0] in {str(each["pid"]) for each in workers}


def test_without_the_key_the_server_says_which_it_needs(
    home: Path, key_file: Path, start_server: Callable[..., Server]
) -> None:
    """It runs, answers for no such model, and names the key by its id."""
    server = start_server(home)
    command = Command(home)
    state = command.json("encryption", "status", MODELYARD_ENCRYPTION_KEY=f"file:{key_file}")
    assert "error" in _ask(server, "plain")
    (told,) = command.json("status")  # type: ignore[misc]
    assert state["key"] in json.dumps(told["problems"])  # type: ignore[index]


def test_a_home_is_encrypted_and_its_key_changed_while_it_is_served(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    """Enable, serve, add a key, rotate, drop the old one, serve: the same answers throughout."""
    home, key_file = tmp_path / "home", tmp_path / "kek"
    folder = tmp_path / "model"
    folder.mkdir()
    with Yard.open(home) as yard:
        yard.import_file(_model(folder, external=False), name="plain")
        yard.deploy(Reference("plain", version=1))
    assert _files_with(home, _PLANTED)
    old = add_key(key_file).id
    environment = {"MODELYARD_ENCRYPTION_KEY": f"file:{key_file}"}
    server = start_server(home, **environment)
    assert _ask(server, "plain") == [2469.0]
    command = Command(home)
    command("encryption", "enable", **environment)
    assert _files_with(home, _PLANTED) == []
    made: Any = command.json("encryption", "key", key_file)
    state: Any = command.json("encryption", "status", **environment)
    assert (state["key"], state["older_keys"]) == (made["key"], [old])
    assert set(state["wrapped_by"]) == {old}
    rotated: Any = command.json("encryption", "rotate", **environment)
    assert len(rotated["rewrapped"]) == state["encrypted"]
    key_file.write_text(key_file.read_text().split()[0])
    with Yard(load_config({"home": home, "encryption_key": f"file:{key_file}"})) as yard:
        assert set(yard.vault.state().wrapped_by) == {made["key"]}
        # The running server, whose ring is older, loads what the new key opens.
        yard.registry.undeploy("plain", actor=yard.actor)
        _until(lambda: "error" in _ask(server, "plain"))
        yard.deploy(Reference("plain", version=1))
        _until(lambda: _ask(server, "plain") == [2469.0])
        actions = {row.action for row in yard.registry.audit()}
        assert {"encrypt_home", "rotate_encryption_key"} <= actions
