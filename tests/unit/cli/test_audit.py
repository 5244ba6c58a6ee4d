"""The audit, its proof, history and approvals on the command line."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.main import main
from modelyard.core.config import load_config
from modelyard.core.errors import ApprovalNeeded
from modelyard.core.identity import Actor
from modelyard.core.names import Reference
from modelyard.core.policy import Policy
from modelyard.testing.bundles import make_bundle
from modelyard.yard import Yard

_BOB = Actor(name="bob", key="k-bob", tenant="acme")


@dataclass(frozen=True)
class Command:
    """`modelyard --home HOME`, run in this process."""

    home: Path
    output: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, status: int = 0) -> str:
        """What it says: the result, or where it fails the error."""
        ended = main(["--home", str(self.home), *map(str, arguments)])
        out, err = self.output.readouterr()
        assert ended == status, err + out
        return out + err if status else out

    def json(self, *arguments: object) -> Any:
        """The document that `--json` prints."""
        return json.loads(self(*arguments, "--json"))

    def yard(self, actor: Actor | None = None) -> Yard:
        """The home, for somebody."""
        return Yard(load_config({"home": self.home}), actor=actor)


@pytest.fixture
def leavers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """A home with two versions of a model, the first of them deployed."""
    command = Command(tmp_path / "home", capsys)
    with command.yard() as yard:
        for number in (1, 2):
            bundle = make_bundle(tmp_path / f"b{number}", name="leavers", model=b"%d" % number)
            yard.registry.publish(bundle, actor=yard.actor)
        yard.deploy(Reference("leavers", version=1))
        yard.set_alias("leavers", "champion", 1)
    return command


def test_the_audit_is_signed_proved_and_taken_away(leavers: Command, tmp_path: Path) -> None:
    """A checkpoint, the verdict, an export that proves itself without the home, and pinned keys."""
    [made] = leavers.json("audit", "checkpoint")
    assert "nothing is new" in leavers("audit", "checkpoint")
    pinned, export = tmp_path / "node.pem", tmp_path / "audit.jsonl"
    pinned.write_text(leavers("audit", "key"))
    assert leavers.json("audit", "key")["node"] == made["node"]
    told = leavers.json("audit", "verify", "--keys", pinned)
    assert told["whole"]
    assert told["verdict"]["chains"][0]["proven"] == made["sequence"]
    assert "nothing is wrong: 4 rows" in leavers("audit", "verify")
    leavers("audit", "export", "--out", export)
    assert len(export.read_text().splitlines()) == len(leavers("audit", "export").splitlines())
    assert leavers.json("audit", "verify", "--export", export, "--keys", pinned)["whole"]


def test_tampering_is_told_with_its_place(leavers: Command, tmp_path: Path) -> None:
    """The command ends with 1; an earlier export shows what was cut off since."""
    leavers("audit", "checkpoint")
    export = tmp_path / "audit.jsonl"
    leavers("audit", "export", "--out", export)
    database = sqlite3.connect(leavers.home / "registry.db")
    database.execute("DROP TRIGGER audit_no_update")
    database.execute("UPDATE audit SET actor = 'nobody' WHERE sequence = 2")
    database.commit()
    ended = leavers("audit", "verify", status=1)
    assert "row 2 was changed: its actor" in ended
    database.execute("DROP TRIGGER audit_no_delete")
    database.execute("DROP TRIGGER audit_checkpoints_no_delete")
    database.execute("DELETE FROM audit_checkpoints")
    database.execute("DELETE FROM audit WHERE sequence > 1")
    database.commit()
    database.close()
    ended = leavers("audit", "verify", status=1)
    assert "version 2 of 'leavers' is not in the audit" in ended
    assert "gone from the end" not in ended
    ended = leavers("audit", "verify", "--earlier", export, status=1)
    assert "rows 2 to 4 are gone from the end" in ended


def test_a_wrong_file_is_told(leavers: Command, tmp_path: Path) -> None:
    """One that is not there, one that is no export, and one that holds no key."""
    wrong = tmp_path / "wrong"
    wrong.write_text("{}\n")
    for arguments, words in (
        (("--export", tmp_path / "none"), "there is no file"),
        (("--export", wrong), "no line of an audit export"),
        (("--earlier", wrong), "no line of an audit export"),
        (("--keys", wrong), "holds no public key"),
    ):
        assert words in leavers("audit", "verify", *arguments, status=1)


def test_grants_are_printed(leavers: Command) -> None:
    """As SQL for the owner of the tables."""
    text = leavers("audit", "grants", "--role", "app")
    assert "GRANT SELECT, INSERT ON audit, audit_checkpoints, audit_keys" in text
    assert text.count(";\n") == len(text.splitlines())


def test_history_tells_which_version_answered_when(leavers: Command) -> None:
    """The whole line, and one moment with its evidence; before the first deploy it says so."""
    leavers("deploy", "leavers:2", "--reason", "better")
    first, second = leavers.json("models", "history", "leavers")
    assert (first["until"], second["until"]) == (second["since"], None)
    shown = leavers.json("models", "history", "leavers", "--at", first["since"])
    assert [each["version"] for each in shown["evidence"]] == [1]
    assert shown["evidence"][0]["digest"].startswith("sha256:")
    text = leavers("models", "history", "leavers", "--at", "0m")
    assert "leavers:2" in text
    assert "better" in text
    assert "first deployed at" in leavers(
        "models", "history", "leavers", "--at", "2026-05-03T10:00Z", status=1
    )
    assert "is no time" in leavers("models", "history", "leavers", "--at", "noon", status=2)
    assert "now" in leavers("models", "history", "leavers")


def test_four_eyes(leavers: Command) -> None:
    """A deployment waits, is shown, refused to its asker, and carried out by somebody else."""
    with leavers.yard() as yard:
        yard.registry.policies.set(Policy(four_eyes=("leavers",)), actor=yard.actor)
    ended = leavers("deploy", "leavers:2", "--reason", "better", status=1)
    assert "modelyard approvals approve 1" in ended
    [waiting] = leavers.json("approvals", "list")
    assert (waiting["id"], waiting["state"]) == (1, "pending")
    text = leavers("approvals", "show", 1)
    assert "deploy: calls go to version 2" in text
    assert "somebody else must approve" in leavers("approvals", "approve", 1, status=1)
    assert leavers.json("models")[0]["routed"] == 1
    with leavers.yard(_BOB) as yard:
        yard.registry.approvals.approve(1, actor=yard.actor)
        assert yard.registry.resolve(Reference("leavers")).number == 2
    assert leavers.json("approvals", "list") == []
    assert "approved" in leavers("approvals", "list", "--all")
    [*_, last] = leavers.json("models", "history", "leavers")
    assert last["approved_by"]["name"] == "bob"
    assert "was approved by 'bob' already" in leavers(
        "approvals", "reject", 1, "--reason", "late", status=1
    )


def test_a_request_approved_on_the_command_line(leavers: Command) -> None:
    """Asked for by somebody else, it is carried out at once; or rejected."""
    with leavers.yard(_BOB) as yard:
        yard.registry.policies.set(Policy(four_eyes=("leavers",)), actor=yard.actor)
        for canary in (10.0, None):
            with pytest.raises(ApprovalNeeded):
                yard.deploy(Reference("leavers", version=2), canary=canary)
    rejected = leavers("approvals", "reject", 1, "--reason", "no")
    assert rejected == "request 1 of 'bob' is rejected\n"
    approved = leavers.json("approvals", "approve", 2)
    assert approved["state"] == "approved"
    assert leavers.json("models")[0]["routed"] == 2
