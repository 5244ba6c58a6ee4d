"""Probes a graph in a process of its own.

onnxruntime's kernels trust their inputs: made-up ones can end the whole process (a frame of length
0 in an STFT divides by zero) or never return. That must not be the process that asked.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from modelyard.core.datatypes import Array
from modelyard.packaging.probe import Findings, probe
from modelyard.packaging.session import as_sampled, datatype_of, input_specs
from modelyard.runtimes.onnx import open_session

_PATIENCE_S: Final = 120


def probe_apart(
    model: Path | bytes, sample: Mapping[str, Array] | None, staging: Path
) -> tuple[Findings, list[str]]:
    """What runs in another process find out, and what went wrong there, in sentences.

    What that process is to read lies in `staging` meanwhile. Costs the start of a process, about a
    quarter of a second.
    """
    with tempfile.TemporaryDirectory(prefix="probe-", dir=staging) as folder:
        if isinstance(model, bytes):
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
        else:
            path = model
        if sample is not None:
            _save(Path(folder), sample)
        command = [sys.executable, "-m", __name__, str(path.absolute()), folder]
        try:
            done = subprocess.run(  # noqa: S603 - our own module on our own files
                command, capture_output=True, timeout=_PATIENCE_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Findings(False), [f"a trial run took longer than {_PATIENCE_S} s"]
    if done.returncode != 0:
        return Findings(False), ["a trial run on made-up inputs ended onnxruntime"]
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Findings), []


def _save(folder: Path, sample: Mapping[str, Array]) -> None:
    # Names of tensors may be no names of files, so the arrays are numbered.
    for index, array in enumerate(sample.values()):
        plain = array.astype(str) if array.dtype == object else array
        np.save(folder / f"{index}.npy", plain, allow_pickle=False)


def _load(folder: Path, names: list[str]) -> dict[str, Array] | None:
    if not (folder / "0.npy").exists():
        return None
    arrays = [np.load(folder / f"{index}.npy") for index in range(len(names))]
    return {
        name: array.astype(object) if array.dtype.kind == "U" else array
        for name, array in zip(names, arrays, strict=True)
    }


def _main(path: str, folder: str) -> None:
    session = open_session(Path(path))
    inputs, symbols = input_specs(session)
    names = [each.name for each in session.get_outputs() if datatype_of(each.type) is not None]
    sample = _load(Path(folder), [spec.name for spec in inputs])
    if sample is not None:
        inputs = as_sampled(inputs, sample)

    def run(values: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(values)), strict=True))

    findings = probe(run, inputs, symbols, sample)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(findings) + b"\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
