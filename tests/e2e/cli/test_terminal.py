"""What a person at a terminal sees: drawn tables and bars."""

import os
import pty
import subprocess
from pathlib import Path
from typing import Any


def on_terminal(command: Any, *arguments: object) -> str:
    """What a verb shows on a terminal, as text."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command.line(*arguments),
        stdout=theirs,
        stderr=theirs,
        env=command.environment(TERM="xterm"),
    ) as process:
        os.close(theirs)
        shown = bytearray()
        # Reading a terminal that nobody writes to any more is an error on Linux.
        while chunk := _read(ours):
            shown += chunk
        os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_tables_are_drawn(leavers: Any) -> None:
    """Boxes for eyes; a pipe gets none."""
    assert "╭" in on_terminal(leavers, "models")
    assert "╭" not in leavers("models").stdout.decode()


def test_training_draws_bars(modelyard: Any, published: Any, tmp_path: Path) -> None:
    """Each step has its bar and its time."""
    published.frame.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ("--data", tmp_path / "rows.csv", "--target", "member", "--name", "members")
    shown = on_terminal(modelyard, "train", *arguments, "--algorithm", "decision_tree")
    assert "fit" in shown
    assert "━" in shown
    assert "published members:1" in shown
