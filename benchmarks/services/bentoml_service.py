"""BentoML: a service class with adaptive batching and a worker a core, as its pages show."""

from typing import Any

import bentoml
from served import Served


@bentoml.service(workers=2, traffic={"timeout": 30, "max_concurrency": 1024})
class Service:
    def __init__(self) -> None:
        self.served = Served()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.served.many(rows)
