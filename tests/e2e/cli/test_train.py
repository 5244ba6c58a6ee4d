"""`modelyard train`: from files on disk to a version, or to nothing at all."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets

RECIPE = """
name = "iris"
target = "species"

[source]
csv = "iris.csv"

[algorithm]
name = "{algorithm}"

[[gate]]
metric = "accuracy"
minimum = {minimum}
"""


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    data = sklearn.datasets.load_iris(as_frame=True)
    frame = data.frame.rename(columns={"target": "species"})
    frame["species"] = data.target_names[frame["species"]]
    frame.to_csv(tmp_path / "iris.csv", index=False)
    return tmp_path


def write_recipe(folder: Path, **values: object) -> Path:
    path = folder / "iris.toml"
    path.write_text(RECIPE.format(**{"algorithm": "decision_tree", "minimum": 0.8, **values}))
    return path


def test_a_recipe_becomes_a_version(modelyard: Any, iris: Path) -> None:
    """Scores, confusion, the gate, the proof and the version on stdout; the steps on stderr."""
    done = modelyard("train", write_recipe(iris), "--deploy")
    text, steps = done.stdout.decode(), done.stderr.decode()
    for told in (
        "accuracy on test  at least 0.8",
        "passed",
        "called setosa",
        "served as ONNX, proven equal on",
        "published iris:1, accepted, sha256:",
    ):
        assert told in text
    for step in ("read", "split", "fit", "evaluate", "gate", "package"):
        assert f"\n{step} " in f"\n{steps}"
    assert modelyard.json("models")[0]["routed"] == 1


def test_a_table_and_an_algorithm_are_enough(modelyard: Any, iris: Path) -> None:
    """Without a recipe: `--data`, `--target`, `--algorithm`, `--name`; parameters by `--set`."""
    trained = modelyard.json(
        *("train", "--data", iris / "iris.csv", "--target", "species", "--name", "petals"),
        *("--algorithm", "decision_tree", "--set", "max_depth=2", "--set", "criterion=entropy"),
        *("--drop", "sepal width (cm)"),
    )
    assert trained["version"]["model"] == "petals"
    assert trained["conversion"]["verdict"] == "equal"
    lineage = modelyard.json("bundle", "show", "petals")["lineage"]
    assert lineage["parameters"]["max_depth"] == 2
    assert lineage["parameters"]["criterion"] == "entropy"
    assert lineage["data"][0]["source"] == "iris.csv"


def test_a_failed_gate_is_status_one_and_not_deployed(modelyard: Any, iris: Path) -> None:
    """The version is there, rejected; only `--force` deploys it, and the audit shows that."""
    done = modelyard("train", write_recipe(iris, minimum=1.1), "--deploy", status=1)
    assert done.stderr.decode().splitlines()[-1].startswith("error: iris:1 did not pass its gate")
    assert modelyard.json("models")[0]["routed"] is None
    refused = modelyard("deploy", "iris:1", status=1).stderr
    assert b"did not pass its gate: accuracy on test is" in refused
    modelyard("deploy", "iris:1", "--force", "--reason", "a test")
    assert modelyard.json("audit")[0]["action"] == "deploy_forced"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"algorithm": "random_forrest"}, "random_forest"),
        ({"minimum": '"high"'}, "iris.toml"),
    ],
)
def test_a_bad_recipe_is_one_line(
    modelyard: Any, iris: Path, change: dict[str, object], told: str
) -> None:
    """The file and the key are named, and the near word."""
    done = modelyard("train", write_recipe(iris, **change), status=1)
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert told in line


@pytest.mark.parametrize("step", ["split", "gate"])
def test_an_interrupt_leaves_nothing(modelyard: Any, tmp_path: Path, step: str) -> None:
    """Ctrl-C while it fits, or while it packages: status 130, one line, and no version."""
    data = sklearn.datasets.load_digits(as_frame=True).frame
    data.to_csv(tmp_path / "digits.csv", index=False)
    arguments = ("--data", tmp_path / "digits.csv", "--target", "target", "--name", "digits")
    process = subprocess.Popen(
        modelyard.line(
            "train", *arguments, "--algorithm", "random_forest", "--task", "classification"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=modelyard.environment(),
    )
    with process:
        assert process.stderr is not None
        # A step is told when it has ended: the next one runs now.
        while not process.stderr.readline().startswith(step.encode()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode().splitlines()
        assert process.wait(60) == 130
    assert told[-1] == "error: interrupted"
    assert modelyard.json("models") == []
    assert list((modelyard.home / "staging").glob("*")) == []
