"""mosec: `python mosec_service.py JSON|BYTES BATCH WAIT_MS --port …`; mosec reads its own options.

Two routes: JSON as its base worker reads it, and raw bytes, each with dynamic batching.
"""

import os
from typing import Any

import numpy as np
from mosec import Server, Worker
from served import Served

BATCH = int(os.environ["BATCH"])
WAIT_MS = int(os.environ["WAIT_MS"])


class Json(Worker):
    """Objects by name, without the batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.served = Served()

    def forward(self, data: Any) -> Any:
        return self.served.many(data) if BATCH > 1 else self.served.one(data)


class Bytes(Worker):
    """The bytes of all inputs, one after the other; so are the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.served = Served()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: Any) -> Any:
        return self._answer(data) if BATCH > 1 else self._answer([data])[0]

    def _answer(self, bodies: list[bytes]) -> list[bytes]:
        arrays, at = {}, 0
        for name, dtype in self.served.inputs.items():
            shape = self.served.shapes[name][1:]
            count = int(np.prod(shape))
            rows = [np.frombuffer(body, dtype, count, at).reshape(shape) for body in bodies]
            arrays[name] = np.stack(rows)
            at += count * dtype.itemsize
        outputs = list(self.served.run(arrays).values())
        return [b"".join(array[row].tobytes() for array in outputs) for row in range(len(bodies))]


if __name__ == "__main__":
    server = Server()
    for worker, route in ((Json, "/predict"), (Bytes, "/bytes")):
        server.append_worker(
            worker, num=2, max_batch_size=BATCH, max_wait_time=WAIT_MS, route=route
        )
    server.run()
