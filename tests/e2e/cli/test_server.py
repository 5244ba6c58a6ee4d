"""The same commands, to a home and to a server: what they print is the same."""

import getpass
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.main import main
from modelyard.core.config import Config
from modelyard.wiring.registry import open_registry
from tests import graphs
from tests.e2e.conftest import Server, serving

CALLS = [
    "models",
    "models show churn",
    "models show churn:1",
    "deploy churn:1 --reason first",
    "deploy churn:2 --canary 10% --sticky x-user",
    "promote churn",
    "rollback churn --reason back",
    "deploy churn --set p99_ms=20 --set lanes=2",
    "deploy churn:2 --progressive 1%,100% --every 1h --guard error_rate<=0.1%",
    "undeploy churn",
    "deploy churn:1",
    "alias set churn@champion 2",
    "alias list",
    "models show churn@champion",
    "models history churn",
    "bundle show churn:1",
    "bundle verify churn:1",
    "bundle export churn:1 {out}/one.tar",
    "bundle import {out}/one.tar",
    "keys create --name scorer --models churn* --verbs call --expires 90d",
    "keys list",
    "tenants create acme --models churn*",
    "tenants set acme --models *",
    "tenants list",
    "tenants remove acme",
    "identities add certificate --claim subject=CN=a --tenant default",
    "identities list",
    "limits set quota --amount 1000 --models churn* --period day",
    "limits list",
    "usage prices set churn* 0.0004 --unit row",
    "usage prices list",
    "usage prices remove churn*",
    "usage report",
    "usage reconcile",
    "policy set --formats onnx --audit-calls churn*",
    "policy show",
    "approvals list",
    "payloads list",
    "audit list churn --limit 3",
    "audit verify",
    "models history churn --at 2020-01-01",
    "models show churm",
    "deploy churn:99",
    "keys show nobody",
    "limits set rate --amount 1 --unit parsec",
]
ROUTES = ("deploy", "promote", "rollback", "undeploy")
OWN = (
    "key",
    "source",
    "request_id",
    "tenant",
    "node",
    "hash",
    "id",
    "spools",
    "verdict",
    "sequence",
)
NOISE = re.compile(
    r"20\d\d-\d\d-\d\d[T ][\d:.]+Z?|my_\w+|\b[0-9a-f]{8}\b|[0-9a-f]{64}|/[\w/.-]+\.tar"
)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two homes with the same versions."""
    made = []
    for name in ("here", "there"):
        folder = tmp_path_factory.mktemp(name)
        with open_registry(Config(home=folder / "home")) as registry:
            for columns in (1, 2):
                bundle = graphs.bundle_of(folder / f"{columns}", *graphs.double(columns), "churn")
                registry.publish(bundle, actor=getpass.getuser())
            key = registry.keys.create(name=getpass.getuser(), role="admin", actor="test").text
        (folder / "key").write_text(key)
        (folder / "out").mkdir()
        made.append(folder)
    return made[0], made[1]


@pytest.fixture(scope="module")
def server(homes: tuple[Path, Path]) -> Iterator[Server]:
    """A server on the second home, that knows keys."""
    with serving(homes[1] / "home", MODELYARD_OPEN="false") as running:
        yield running


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command in this process: a hundred of their own would take minutes."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def command(home: Path, words: list[str], key: str = "") -> Ended:
        monkeypatch.setenv("MODELYARD_KEY", key)
        capfd.readouterr()
        status = main(["--home", str(home), *words])
        return Ended(status, *capfd.readouterr())

    return command


def told(done: Ended) -> tuple[int, Any, str]:
    """What a command said, without moments, ids and secrets, and without who asked from where."""
    said = [_anonymous(json.loads(line)) for line in done.out.splitlines()]
    return done.status, said, NOISE.sub("…", done.err)


def _anonymous(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _anonymous(each) for name, each in value.items() if name not in OWN}
    if isinstance(value, list):
        return [_anonymous(each) for each in value]
    return NOISE.sub("…", value) if isinstance(value, str) else value


def _into(folder: Path, words: list[str]) -> list[str]:
    return [word.replace("{out}", str(folder / "out")) for word in words]


def test_commands_say_the_same_here_and_there(
    homes: tuple[Path, Path], server: Server, run: Callable[..., Ended]
) -> None:
    """Results, errors and exit statuses; only times, ids and who asks differ."""
    here, there = homes
    key = (there / "key").read_text()
    unlike = []
    for call in CALLS:
        words = [*call.split(), *(["--wait", "0"] if call.split()[0] in ROUTES else []), "--json"]
        ours = run(here / "home", _into(here, words))
        theirs = run(there / "nowhere", ["--server", server.url, *_into(there, words)], key)
        if told(ours) != told(theirs):
            unlike.append((call, told(ours), told(theirs)))
    assert unlike == []
    assert not (there / "nowhere").exists()


def test_a_server_follows_before_the_command_ends(
    homes: tuple[Path, Path], server: Server, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    """A deploy over the network waits for the workers there, whom status shows."""
    key = (homes[1] / "key").read_text()
    done = run(tmp_path / "home", ["--server", server.url, "deploy", "churn:2"], key)
    assert (done.status, done.err) == (0, "")
    shown = run(tmp_path / "home", ["--server", server.url, "status", "--json"], key)
    [overview] = json.loads(shown.out)
    assert overview["pid"] == server.pid
    served = {(each["model"], each["version"]) for each in overview["endpoints"]}
    assert ("churn", 2) in served


def test_what_is_of_one_machine_only_says_so(tmp_path: Path, run: Callable[..., Ended]) -> None:
    """Servers are started, looked after and encrypted where their home is."""
    for verb in (
        ["serve"],
        ["doctor"],
        ["config"],
        ["demo"],
        ["encryption", "status"],
        ["audit", "checkpoint"],
        ["usage", "copy"],
    ):
        done = run(tmp_path / "home", ["--server", "http://127.0.0.1:9", *verb])
        assert done.status == 2, done
        assert "leave --server away" in done.err


def test_who_has_no_key_is_told(server: Server, tmp_path: Path, run: Callable[..., Ended]) -> None:
    """And what nobody answers, in one line each."""
    refused = run(tmp_path / "home", ["--server", server.url, "models"])
    assert refused.status == 1
    assert refused.err.startswith("error: ")
    assert "key" in refused.err
    nobody = run(tmp_path / "home", ["--server", "http://127.0.0.1:9", "--key", "x", "models"])
    assert "nothing answers at http://127.0.0.1:9" in nobody.err


def test_a_model_is_imported_to_a_server(
    homes: tuple[Path, Path], server: Server, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    """Packaged here, sent there, and deployed; nothing of it stays here."""
    model = tmp_path / "model.onnx"
    model.write_bytes(graphs.double()[0].SerializeToString())
    done = run(
        tmp_path / "home",
        ["--server", server.url, "import", str(model), "--name", "sent", "--deploy", "--json"],
        (homes[1] / "key").read_text(),
    )
    assert done.status == 0, done.err
    assert json.loads(done.out)["version"]["model"] == "sent"
    assert not (tmp_path / "home").exists()
    with open_registry(Config(home=homes[1] / "home")) as registry:
        assert [route.model for route in registry.routes() if route.model == "sent"] == ["sent"]
