"""`modelyard keys`, `tenants` and `identities`."""

import re
from typing import Any


def test_a_key_is_shown_once(modelyard: Any) -> None:
    """On standard output and nowhere else, and never again by any verb."""
    made = modelyard(
        "keys", "create", "--name", "ci", "--models", "churn*,iris", "--expires", "90d"
    )
    (key,) = made.stdout.decode().split()
    assert re.fullmatch(r"my_[a-z2-7]{12}_[a-z2-7]{52}", key)
    assert key[16:] not in made.stderr.decode()
    (listed,) = modelyard.json("keys", "list")
    assert listed["models"] == ["churn*", "iris"]
    assert (listed["id"], listed["role"], listed["state"]) == (key[3:15], "caller", "good")
    for verb in (
        ("keys", "list"),
        ("keys", "list", "--json"),
        ("keys", "show", listed["id"]),
        ("keys", "show", listed["id"], "--json"),
        ("audit", "list", "--json"),
    ):
        shown = modelyard(*verb).stdout.decode()
        assert key[16:] not in shown
        assert "digest" not in shown
        assert listed["id"] in shown


def test_a_key_is_rotated_and_revoked(modelyard: Any) -> None:
    """The old one goes on for the overlap; dead ones are listed when they are asked for."""
    old = modelyard.json("keys", "create", "--name", "ci", "--role", "deployer", "--verbs", "call")
    assert old["key"].startswith(f"my_{old['id']}_")
    new = modelyard.json("keys", "rotate", old["id"], "--overlap", "1h")
    assert (new["replaces"], new["verbs"], new["role"]) == (old["id"], ["call"], "deployer")
    assert len(modelyard.json("keys", "list")) == 2
    revoked = modelyard.json("keys", "revoke", old["id"], "--reason", "it leaked")
    assert revoked["state"] == "revoked"
    assert [key["id"] for key in modelyard.json("keys", "list")] == [new["id"]]
    assert len(modelyard.json("keys", "list", "--all")) == 2
    assert b"is revoked" in modelyard("keys", "revoke", new["id"]).stdout


def test_what_makes_no_sense_is_one_line(modelyard: Any) -> None:
    """It says what to write, and never repeats a key that was pasted where an id belongs."""
    key = modelyard("keys", "create", "--name", "ci").stdout.decode().strip()
    for verb, words in (
        (("keys", "create", "--name", "x", "--role", "king"), b"caller, deployer, auditor, admin"),
        (("keys", "create", "--name", "x", "--verbs", "deploy"), b"not what a caller may"),
        (("keys", "create", "--name", "x", "--expires", "soon"), b"no duration"),
        (("keys", "create", "--name", "x", "--tenant", "acme"), b"no tenant 'acme'"),
        (("keys", "revoke", key), b"no key of that id"),
        (("tenants", "remove", "default"), b"it stays"),
    ):
        told = modelyard(*verb, status=1).stderr
        assert words in told
        assert told.count(b"\n") == 1
        assert key[16:].encode() not in told


def test_tenants_come_change_and_go(modelyard: Any) -> None:
    """One with good keys stays."""
    modelyard("tenants", "create", "acme", "--models", "a*")
    modelyard("tenants", "set", "acme", "--models", "a*,b")
    assert modelyard.json("tenants", "list") == [
        {"name": "acme", "models": ["a*", "b"]},
        {"name": "default", "models": ["*"]},
    ]
    id = modelyard.json("keys", "create", "--name", "x", "--tenant", "acme")["id"]
    assert id.encode() in modelyard("tenants", "remove", "acme", status=1).stderr
    modelyard("keys", "revoke", id)
    modelyard("tenants", "remove", "acme")
    assert [each["name"] for each in modelyard.json("tenants", "list")] == ["default"]


def test_identities_come_and_go(modelyard: Any) -> None:
    """A claim may be given twice: of a list both members must be there."""
    added = modelyard.json(
        *("identities", "add", "https://issuer.example", "--claim", "groups=ml"),
        *("--claim", "groups=ops", "--role", "deployer", "--tenant-claim", "org"),
    )
    assert added["claims"] == [["groups", "ml"], ["groups", "ops"]]
    (listed,) = modelyard.json("identities", "list")
    assert listed == added
    assert b"groups=ml, groups=ops" in modelyard("identities", "list").stdout
    modelyard("identities", "remove", added["id"])
    assert modelyard.json("identities", "list") == []
    bad = modelyard("identities", "add", "certificate", "--claim", "groups", status=2)
    assert b"write NAME=VALUE" in bad.stderr
