"""onnxruntime with nothing around it: `python in_process.py MODEL CASES SECONDS` prints JSON.

One thread, as a server would hold it; rows differ from call to call.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import orjson


def open_session(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def rows_per_second(
    session: onnxruntime.InferenceSession, batches: Sequence[np.ndarray], seconds: float
) -> float:
    """Run the batches in turn for so long."""
    rows = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for batch in batches:
            session.run(None, {"input": batch})
            rows += len(batch)
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    model, cases, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    table = [list(row.values()) for row in orjson.loads(cases.read_bytes())["rows"]]
    data = np.array(table, np.float32)
    session = open_session(model)
    speeds = {
        size: rows_per_second(session, [data[i : i + size] for i in range(0, 64, size)], seconds)
        for size in (1, 8, 32, 64)
    }
    print(orjson.dumps({str(size): speed for size, speed in speeds.items()}).decode())
