"""Sends a table row by row along one gRPC stream, and reads the answers as they come.

Run it beside `modelyard serve`, on the same home: `python stream.py [HOST:PORT]`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import modelyard


async def main(address: str) -> None:
    """Publish and deploy a model, and stream its own table through it."""
    table, target = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(table, target)
    modelyard.publish(estimator, name="streamed", sample=table, deploy=True)

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, row in enumerate(table.astype(np.float32)):
            tensor = triton.InferInput("input", [1, row.size], "FP32")
            tensor.set_data_from_numpy(row[None])
            yield {"model_name": "streamed", "inputs": [tensor], "request_id": str(number)}

    right = 0
    async with triton.InferenceServerClient(address) as client:
        while not await client.is_model_ready("streamed"):
            await asyncio.sleep(0.05)
        async for answer, error in client.stream_infer(requests()):
            if error is not None:
                # It is this request's alone: the stream goes on.
                print(error)
                continue
            number = int(answer.get_response().id)
            right += answer.as_numpy("label")[0] == target[number]
    print(f"{right} of {len(table)} flowers told rightly")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8081"))
