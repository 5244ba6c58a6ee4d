"""Models, routes, aliases and their history."""

from typing import Any


def test_an_empty_home_says_what_to_do(modelyard: Any) -> None:
    """Before the first model there is a hint for people and an empty list for programs."""
    assert b"no model was published yet" in modelyard("models").stdout
    assert modelyard.json("models") == []


def test_models_are_listed(leavers: Any) -> None:
    """A model shows its newest and its deployed version and its aliases."""
    [model] = leavers.json("models")
    assert (model["name"], model["latest"], model["routed"]) == ("leavers", 2, 1)
    assert model["aliases"] == {"champion": 1}
    headings, line = leavers("models").stdout.decode().splitlines()
    assert headings.split()[:3] == ["model", "newest", "deployed"]
    assert line.split()[:4] == ["leavers", "2", "1", "@champion=1"]


def test_a_model_shows_versions_and_routes(leavers: Any) -> None:
    """One model: its versions, where calls go, and every change of that."""
    shown = leavers.json("models", "show", "leavers")
    assert [version["number"] for version in shown["versions"]] == [1, 2]
    assert shown["route"]["number"] == 1
    assert [change["action"] for change in shown["history"]] == ["deploy"]
    text = leavers("models", "show", "leavers").stdout.decode()
    assert "routes, oldest first" in text


def test_a_version_shows_its_bundle(leavers: Any) -> None:
    """One version, by number or alias: everything about its bundle."""
    shown = leavers.json("models", "show", "leavers@champion")
    assert shown["version"]["number"] == 1
    assert shown["bundle"]["conversion"]["verdict"] == "equal"
    text = leavers("models", "show", "leavers:1").stdout.decode()
    assert "served as ONNX, proven equal on" in text
    assert shown["version"]["digest"] in text


def test_facts_without_a_value_are_left_out(leavers: Any) -> None:
    """A version without aliases or a card shows no empty lines for them."""
    for number, expected in ((1, True), (2, False)):
        text = leavers("models", "show", f"leavers:{number}").stdout.decode()
        facts = text.partition("\n\n")[0].splitlines()
        names = {line.partition("  ")[0] for line in facts}
        assert ("aliases" in names) is expected
        assert not names & {"contacts", "licence", "limits"}
        assert all(len(line.split(maxsplit=1)) == 2 for line in facts)


def test_deploy_roll_back_and_undeploy(leavers: Any) -> None:
    """Routes move with one verb each, and each says where calls go now."""
    assert leavers.json("deploy", "leavers:2", "--reason", "better")["number"] == 2
    assert leavers.json("models")[0]["routed"] == 2
    assert leavers("rollback", "leavers").stdout.decode() == "calls to leavers go to version 1\n"
    assert leavers.json("undeploy", "leavers") == {"model": "leavers", "number": None}
    assert leavers.json("models")[0]["routed"] is None
    assert leavers.json("deploy", "leavers")["number"] == 2
    assert leavers.json("deploy", "leavers@champion")["number"] == 1


def test_aliases_are_set_in_either_form(leavers: Any) -> None:
    """`MODEL@ALIAS VERSION` and `MODEL ALIAS VERSION` mean the same."""
    assert (
        leavers("alias", "set", "leavers@champion", 2).stdout == b"leavers@champion is version 2\n"
    )
    assert leavers.json("alias", "set", "leavers", "challenger", 1) == {
        "model": "leavers",
        "alias": "challenger",
        "number": 1,
    }
    listed = leavers.json("alias", "list", "leavers")
    assert {each["alias"]: each["number"] for each in listed} == {"challenger": 1, "champion": 2}


def test_the_audit_tells_who_did_what_and_why(leavers: Any) -> None:
    """Every change of state is there, newest first, with its reason."""
    leavers("deploy", "leavers:2", "--reason", "the better one")
    newest, *older = leavers.json("audit", "leavers")
    assert (newest["action"], newest["number"]) == ("deploy", 2)
    assert newest["reason"] == "the better one"
    assert {row["action"] for row in older} == {"publish", "deploy", "set_alias"}
    assert len(leavers.json("audit", "--limit", 1)) == 1
    assert "the better one" in leavers("audit").stdout.decode()


def test_config_shows_what_is_in_force(modelyard: Any) -> None:
    """Environment over file over default."""
    modelyard.home.mkdir()
    (modelyard.home / "modelyard.toml").write_text("port = 9000\nlanes = 3\n")
    values = modelyard.json("config", MODELYARD_PORT="9001")
    assert (values["port"], values["lanes"], values["poll_s"]) == (9001, 3, 0.2)
    assert values["home"] == str(modelyard.home)
    assert "grpc_port" in modelyard("config").stdout.decode()
