"""What onnxruntime itself answers, row by row: the measure of every server's answers."""

from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.model import Tensors, save_cases


def write_cases(folder: Path, inputs: Tensors) -> None:
    """Ask `folder/model.onnx` every row by itself and write rows and answers beside it."""
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    rows = len(next(iter(inputs.values())))
    answers = [
        session.run(names, {name: array[row : row + 1] for name, array in inputs.items()})
        for row in range(rows)
    ]
    outputs = {
        name: np.concatenate([answer[index] for answer in answers])
        for index, name in enumerate(names)
    }
    save_cases(folder / "cases.npz", inputs, outputs)
