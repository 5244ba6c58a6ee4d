"""onnxruntime with nothing around it: `python in_process_batches.py CASES SECONDS` prints JSON.

One thread, as a server would hold it; rows differ from call to call. Rows a second by batch size.
"""

import sys
import time
from typing import Any

import numpy as np
import orjson
from served import Served

_SIZES = (1, 8, 32)


def rows_per_second(served: Served, batches: list[dict[str, Any]], seconds: float) -> float:
    """Run the batches in turn for so long."""
    rows = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for batch in batches:
            served.run(batch)
            rows += len(next(iter(batch.values())))
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    cases, seconds = sys.argv[1], float(sys.argv[2])
    served = Served()
    with np.load(cases) as file:
        arrays = {name: file[f"in.{name}"] for name in served.inputs}
    # 32 rows at least, whatever the cases hold.
    arrays = {
        name: np.concatenate([array] * (-(-32 // len(array)))) for name, array in arrays.items()
    }
    count = len(next(iter(arrays.values())))
    speeds = {}
    for size in _SIZES:
        batches = [
            {name: array[start : start + size] for name, array in arrays.items()}
            for start in range(0, count - size + 1, size)
        ]
        speeds[str(size)] = rows_per_second(served, batches, seconds)
    print(orjson.dumps(speeds).decode())
