"""The ideal queue: onnxruntime in one process, calls taken strictly in the order of their arrival.

`in_process_fifo.py CASES LANES CONCURRENCY SECONDS` prints JSON; `THREADS` says how many threads
the session of each lane has. CONCURRENCY callers each have one call waiting or running, as the
connections of a load generator have; nothing is decoded, checked or sent.
"""

import queue
import sys
import threading
import time

import numpy as np
import orjson
from served import Served

_WARM_UP = 3


def main(cases: str, lanes: int, concurrency: int, seconds: float) -> dict[str, object]:
    models = [Served() for _ in range(lanes)]
    with np.load(cases) as file:
        arrays = {name: file[f"in.{name}"] for name in models[0].inputs}
    rows = [
        {name: array[row : row + 1] for name, array in arrays.items()}
        for row in range(len(next(iter(arrays.values()))))
    ]
    for model in models:
        for row in rows[:_WARM_UP]:
            model.run(row)
    waiting: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
    latencies: list[float] = []
    started = time.perf_counter()
    for caller in range(concurrency):
        waiting.put((caller, started))

    def run(model: Served) -> None:
        while (now := time.perf_counter()) - started < seconds:
            try:
                turn, arrived = waiting.get(timeout=seconds - (now - started))
            except queue.Empty:
                return
            model.run(rows[turn % len(rows)])
            done = time.perf_counter()
            latencies.append(done - arrived)
            waiting.put((turn + concurrency, done))

    before = time.process_time()
    threads = [threading.Thread(target=run, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    # The first call of each caller did not wait for a full queue.
    steady = latencies[concurrency:] or latencies
    return {
        "seconds": elapsed,
        "requests": len(latencies),
        "cpu_s": time.process_time() - before,
        "p50_ms": float(np.percentile(steady, 50)) * 1e3,
        "p99_ms": float(np.percentile(steady, 99)) * 1e3,
        "max_ms": max(steady) * 1e3,
    }


if __name__ == "__main__":
    cases, lanes, concurrency, seconds = sys.argv[1:]
    print(orjson.dumps(main(cases, int(lanes), int(concurrency), float(seconds))).decode())
