"""Each way of failing: one line, no traceback, the right status."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


def error_line(done: Any) -> str:
    lines: list[str] = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("models", "show", "nobody"), "there is no model 'nobody'; there is leavers"),
        (("models", "show", "leaver:1"), "did you mean 'leavers'?"),
        (("models", "show", "leavers:9"), "'leavers' has no version 9; it has versions 1 to 2"),
        (("deploy", "leavers@nobody"), "'leavers' has no alias 'nobody'; it has champion"),
        (("rollback", "leavers"), "leavers"),
        (("bundle", "verify", "nothing.tar"), "there is no file nothing.tar"),
        (("bundle", "import", "nothing.tar"), "there is no file nothing.tar"),
        (("predict", "leavers", "--input", "nothing.csv"), "there is no file nothing.csv"),
        (("train", "nothing.toml"), "there is no recipe nothing.toml"),
        (("import", "nothing.onnx", "--name", "x"), "nothing.onnx"),
    ],
)
def test_a_failure_is_status_one_and_one_line(
    leavers: Any, arguments: tuple[str, ...], told: str
) -> None:
    """What cannot be done exits with 1 and one line that says what there is instead."""
    done = leavers(*arguments, status=1)
    assert told in error_line(done)
    assert done.stdout == b""


def test_a_bad_configuration_is_named(modelyard: Any) -> None:
    """A setting that does not exist is an error, and the near one is offered."""
    modelyard.home.mkdir()
    (modelyard.home / "modelyard.toml").write_text("prt = 9\n")
    assert "did you mean 'port'?" in error_line(modelyard("models", status=1))


def test_an_unexpected_error_shows_its_trace_only_when_asked(modelyard: Any) -> None:
    """Results that cannot be written: one line; with MODELYARD_DEBUG=1, where in the code."""
    told = []
    for debug in ("0", "1"):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                modelyard.line("models"),
                stdout=full,
                stderr=subprocess.PIPE,
                env=modelyard.environment(MODELYARD_DEBUG=debug),
            )
        assert done.returncode == 1
        told.append(done.stderr.decode().splitlines())
    [line] = told[0]
    assert line.startswith("error: the system refused: No space left on device")
    assert "MODELYARD_DEBUG=1" in line
    assert told[1][0].startswith("Traceback")
    assert told[1][-1] == line


def test_a_home_that_is_no_folder_is_named(modelyard: Any) -> None:
    """The home at fault, and what to give instead."""
    modelyard.home.write_text("not a folder")
    line = error_line(modelyard("models", status=1))
    assert str(modelyard.home) in line
    assert "--home" in line


def test_a_broken_pipe_is_silent(leavers: Any, published: Any, tmp_path: Path) -> None:
    """A reader that has read enough is no error worth a line."""
    rows = tmp_path / "rows.csv"
    published.frame.loc[published.frame.index.repeat(200)].to_csv(rows, index=False)
    process = subprocess.Popen(
        leavers.line("predict", "leavers", "--input", rows),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=leavers.environment(),
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert told == b""
