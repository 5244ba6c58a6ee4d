"""`modelyard demo`: the whole road in one command."""

import re
import signal
import socket
import subprocess
from typing import Any

STEPS = (
    "Wrote the table",
    "Trained a forest of 100 trees",
    "Published breast-cancer:1",
    "Deployed version 1 and started a server",
    "Called it without a key: refused (401)",
    "Called it over REST",
    "Called it with the Python client, 569 rows",
    "Called it over gRPC",
    "Trained another forest",
    "Published breast-cancer:2",
    "Deployed version 2 while the server ran",
    "Rolled back",
)


def test_the_demo_once(modelyard: Any) -> None:
    """Every step is told in a line with its time; afterwards version 1 is deployed again."""
    done = modelyard("demo", "--once", "--port", 0, "--grpc-port", 0)
    lines = re.findall(r"^(\d+)\. (.*) \[\d+\.\d\d s\]$", done.stdout.decode(), re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, len(STEPS) + 1))
    for (_, line), begins in zip(lines, STEPS, strict=True):
        assert line.startswith(begins)
    assert "served as ONNX, proven equal on" in lines[2][1]
    shown = modelyard.json("models", "show", "breast-cancer")
    assert shown["route"]["number"] == 1
    assert [c["action"] for c in shown["history"]] == ["deploy", "deploy", "rollback"]


def test_the_demo_leaves_a_server_until_it_is_interrupted(modelyard: Any) -> None:
    """Without `--once` the server goes on, with a command to copy; Ctrl-C takes it along."""
    process = subprocess.Popen(
        modelyard.line("demo", "--port", 0, "--grpc-port", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=modelyard.environment(),
        text=True,
    )
    with process:
        assert process.stdout is not None
        key, line = "", ""
        while not line.startswith("  curl "):
            line = process.stdout.readline()
            assert line, "the demo ended early"
            if line.startswith("  export MODELYARD_KEY="):
                key = line.strip().partition("=")[2]
        for environment, wanted in (
            ({"MODELYARD_KEY": key}, '"prediction":"malignant"'),
            ({"MODELYARD_KEY": ""}, '"kind":"unauthenticated"'),
        ):
            typed = ["bash", "-c", line.strip()]
            answer = subprocess.run(typed, capture_output=True, text=True, env=environment)
            assert wanted in answer.stdout
        address = re.search(r"http://([\d.]+):(\d+)", line)
        assert address is not None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in told
    with socket.socket() as knocking:
        assert knocking.connect_ex((address[1], int(address[2]))) != 0
