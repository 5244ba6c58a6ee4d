"""The model that a service serves: `MODEL` names its file, onnxruntime runs it with one thread.

One thread, because every service here runs a process a core: left to itself, onnxruntime splits
every row's work over all cores, spins there, and halves what two processes can do.
"""

import os
from typing import Any

import numpy as np
import onnxruntime

DTYPES = {"tensor(float)": np.dtype(np.float32), "tensor(int64)": np.dtype(np.int64)}


class Served:
    """A session and what it takes and gives."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
        self._session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {each.name: DTYPES[each.type] for each in self._session.get_inputs()}
        self.shapes = {
            each.name: tuple(
                -1 if isinstance(length, str) or length is None else length for length in each.shape
            )
            for each in self._session.get_inputs()
        }
        self.outputs = [each.name for each in self._session.get_outputs()]

    def run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """All outputs of a batch."""
        return dict(zip(self.outputs, self._session.run(self.outputs, arrays), strict=True))

    def one(self, row: dict[str, Any]) -> dict[str, Any]:
        """One row of nested lists in and out, without the batch axis."""
        arrays = {name: np.array([row[name]], dtype) for name, dtype in self.inputs.items()}
        return {name: array[0].tolist() for name, array in self.run(arrays).items()}

    def many(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Several such rows as one batch."""
        arrays = {
            name: np.array([row[name] for row in rows], dtype)
            for name, dtype in self.inputs.items()
        }
        outputs = {name: array.tolist() for name, array in self.run(arrays).items()}
        return [
            {name: values[index] for name, values in outputs.items()} for index in range(len(rows))
        ]
