"""Modelyard as a peer, through its command line only: import, deploy, serve."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks.peer import Answer, Forest, Form, Launch, NotPrepared, Row
from benchmarks.processes import beside_python, free_port

_MODEL = "forest"
_JSON = {"Content-Type": "application/json"}
_HEADER_LENGTH = "inference-header-content-length"


def encode_v2(row: Row) -> tuple[bytes, Mapping[str, str]]:
    """Open Inference Protocol v2 in JSON."""
    data = list(row.values())
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, len(data)], "data": data}
    return orjson.dumps({"inputs": [tensor]}), _JSON


def decode_v2(body: bytes, _: Mapping[str, str]) -> Answer:
    """The outputs `label` and `probabilities`, in JSON."""
    outputs = {output["name"]: output["data"] for output in orjson.loads(body)["outputs"]}
    return Answer(outputs["label"][0], outputs["probabilities"])


def encode_v2_binary(row: Row) -> tuple[bytes, Mapping[str, str]]:
    """The binary tensor extension of v2, both ways."""
    data = np.fromiter(row.values(), np.float32).tobytes()
    tensor = {
        "name": "input",
        "datatype": "FP32",
        "shape": [1, len(row)],
        "parameters": {"binary_data_size": len(data)},
    }
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + data, headers


def decode_v2_binary(body: bytes, headers: Mapping[str, str]) -> Answer:
    """The outputs `label` and `probabilities`, as raw bytes behind the JSON head."""
    at = int(headers[_HEADER_LENGTH])
    arrays = {}
    for output in orjson.loads(body[:at])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        datatype = np.dtype({"FP32": "<f4", "INT64": "<i8"}[output["datatype"]])
        arrays[output["name"]] = np.frombuffer(body[at : at + size], datatype)
        at += size
    return Answer(int(arrays["label"][0]), arrays["probabilities"].tolist())


def encode_row(row: Row) -> tuple[bytes, Mapping[str, str]]:
    """One plain object: value by column name."""
    return orjson.dumps(dict(row)), _JSON


def decode_row(body: bytes, _: Mapping[str, str]) -> Answer:
    """`prediction`, and `probabilities` by class name."""
    answer = orjson.loads(body)
    return Answer(answer["prediction"], list(answer["probabilities"].values()))


_FORMS = (
    Form("v2 json", f"/v2/models/{_MODEL}/infer", encode_v2, decode_v2),
    Form("row json", f"/predict/{_MODEL}", encode_row, decode_row),
    Form("v2 binary", f"/v2/models/{_MODEL}/infer", encode_v2_binary, decode_v2_binary),
)


@dataclass
class Modelyard:
    """`modelyard serve` in one process, on a home of its own."""

    name: str = "modelyard"
    what: str = "Modelyard as it comes: one process"
    forms: Sequence[Form] = field(default=_FORMS)
    home: Path = Path()

    def prepare(self, forest: Forest, folder: Path) -> None:
        """Import the very estimator that the others serve, and deploy it."""
        self.home = folder / "home"
        sample = ["--sample", str(forest.table)]
        self._run("import", str(forest.skops), "--name", _MODEL, *sample)
        self._run("deploy", _MODEL)

    def launch(self, port: int) -> Launch:
        """The command that a user types."""
        ports = ["--port", str(port), "--grpc-port", str(free_port())]
        return Launch([*self._program(), "serve", *ports])

    def _program(self) -> list[str]:
        return [beside_python("modelyard"), "--home", str(self.home)]

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self._program(), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotPrepared(
                f"modelyard {' '.join(arguments)} ended with status {done.returncode}:\n"
                f"{done.stdout}{done.stderr}"
            )
