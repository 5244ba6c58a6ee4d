"""Help, versions and wrong use."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

VERBS = [
    *("demo", "train", "import", "models", "deploy", "promote", "rollback", "undeploy", "alias"),
    *("predict", "bundle", "serve", "status", "keys", "tenants", "identities", "limits", "policy"),
    *("usage", "payloads", "approvals", "audit", "encryption", "config", "doctor"),
]
HEAVY = ("numpy", "pandas", "sklearn", "onnxruntime", "sqlalchemy", "uvicorn", "grpc", "litestar")


def test_help_imports_nothing_heavy() -> None:
    """`--help` is quick because none of what the verbs need is imported for it."""
    program = (
        "import json, sys\n"
        "from modelyard.cli.main import main\n"
        "status = main(['--help'])\n"
        "sys.stderr.write(json.dumps([status, sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    status, modules = json.loads(done.stderr)
    assert status == 0
    assert not set(HEAVY) & set(modules)
    assert "Any model becomes a governed network service" in done.stdout.decode()


def test_importing_the_package_is_as_light() -> None:
    """`import modelyard` costs nothing until something of it is used."""
    program = "import json, modelyard, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not set(HEAVY) & set(json.loads(done.stdout))


def test_help_lists_every_verb(modelyard: Any) -> None:
    """Every verb is listed with what it does."""
    text = modelyard("--help").stdout.decode()
    listed = re.findall(r"^  (\w+)  +\S", text.partition("Commands:")[2], re.MULTILINE)
    assert listed == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(modelyard: Any, verb: str) -> None:
    """Every verb explains itself."""
    assert modelyard(verb, "--help").stdout.startswith(b"Usage: modelyard")


@pytest.mark.parametrize(
    ("verb", "usage"),
    [
        ("train", "train [OPTIONS] [RECIPE.toml]"),
        ("import", "import [OPTIONS] PATH"),
        ("deploy", "deploy [OPTIONS] MODEL[:VERSION|@ALIAS]"),
        ("alias set", "alias set [OPTIONS] MODEL@ALIAS VERSION"),
        ("bundle export", "bundle export [OPTIONS] MODEL[:VERSION|@ALIAS] [FILE]"),
        ("models show", "models show [OPTIONS] MODEL[:VERSION|@ALIAS]"),
        ("doctor", "doctor [OPTIONS]"),
    ],
)
def test_usage_brackets_only_what_may_be_left_out(modelyard: Any, verb: str, usage: str) -> None:
    """The usage line shows what is to be written, in one pair of brackets at most."""
    shown = modelyard(*verb.split(), "--help").stdout.decode().splitlines()[0]
    assert shown == f"Usage: modelyard {usage}"


def test_version(modelyard: Any) -> None:
    """`--version` prints the version."""
    from modelyard import __version__

    assert modelyard("--version").stdout.decode() == f"modelyard {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("models", "show"), "Missing argument 'MODEL"),
        (("models", "--jason"), "No such option"),
        (("models", "--home", "elsewhere"), "--home stands before the verb"),
        (("deploy", "churn:zero"), "'zero' is no version number"),
        (("deploy", "-", "--force"), "'-' is no model name"),
        (("rollback", "churn:2"), "rollback takes a model, not a version or alias"),
        (("rollback", "churn@champion"), "modelyard rollback churn"),
        (("undeploy", "churn:2"), "undeploy takes a model, not a version or alias"),
        (("serve", "--port", "70000"), "65535"),
        (("alias", "set", "churn", "3"), "alias set MODEL@ALIAS VERSION"),
        (("alias", "set", "churn@champion", "new"), "'new' is no version number"),
        (("train",), "give a recipe, or all of"),
        (("train", "--data", "x.csv", "--target", "y"), "give a recipe, or all of"),
        (("train", "r.toml", "--target", "y"), "a recipe says all of it"),
        (("predict", "churn"), "Missing option '--input'"),
        (
            ("predict", "churn", "--input", "-", "--local", "--server", "http://127.0.0.1"),
            "exclude each other",
        ),
    ],
)
def test_wrong_use_is_status_two_and_one_line(
    modelyard: Any, arguments: tuple[str, ...], told: str
) -> None:
    """Wrong use exits with 2, and one line on stderr says what is wrong."""
    done = modelyard(*arguments, status=2)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert done.stdout == b""


def test_a_bare_command_shows_help_as_wrong_use() -> None:
    """Nothing asked for: the help, on stderr, and 2."""
    done = subprocess.run([sys.executable, "-m", "modelyard"], capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Usage: modelyard")
    assert done.stdout == b""
