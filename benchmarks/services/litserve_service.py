"""LitServe: two workers with batching, as its documentation shows. `litserve_service.py PORT`."""

import os
import sys
from typing import Any

import litserve
from served import Served


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.served = Served()

    # Without a type: with one, LitServe takes it for a field of the query.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request

    def predict(self, rows: Any) -> Any:
        return self.served.many(rows)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=int(os.environ["BATCH"]), batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=2,
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
