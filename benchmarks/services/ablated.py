"""Modelyard's serving in one process, with one of its ideas taken out.

`python ablated.py PORT WHAT`; `WHAT` is a key of `WITHOUT`. What is taken out is replaced by what
one would write without the idea, and nothing else changes.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
import uvloop

from modelyard.api.http import oip
from modelyard.api.http.floats import FloatReader
from modelyard.api.http.oip import OipCodec
from modelyard.api.http.server import HttpServer
from modelyard.api.http.surroundings import Surroundings
from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_access import OpenAccess
from modelyard.runtimes.onnx import OnnxRuntime, open_session
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.scheduler import Limits
from modelyard.testing.serving import endpoint_of

DATATYPES = {
    "tensor(float)": Datatype.FP32,
    "tensor(int64)": Datatype.INT64,
    "tensor(double)": Datatype.FP64,
}
LIMITS = {"queue_rows": 16_384, "max_batch_rows": 0, "inline_us": 300, "lanes": 2}


def parse_every_head() -> None:
    Surroundings.learn = lambda self, head, known: None  # type: ignore[method-assign]


def write_rows_alone() -> None:
    OipCodec._row_answers = lambda self, outputs: None  # type: ignore[method-assign]


def use_standard_json() -> None:
    write_rows_alone()
    FloatReader.read = _read_with_standard_json  # type: ignore[method-assign, assignment]
    oip._json_data = lambda array, is_text: json.dumps(array.reshape(-1).tolist()).encode()  # type: ignore[assignment]


def _read_with_standard_json(self: FloatReader, body: bytes) -> Any:
    (tensor,) = json.loads(body)["inputs"]
    inputs = {tensor["name"]: np.array(tensor["data"], self._dtype).reshape(tensor["shape"])}
    return inputs, self._signature.check(inputs)


def nothing() -> None:
    """Take nothing out."""


WITHOUT: dict[str, tuple[Callable[[], None], dict[str, int]]] = {
    "whole": (nothing, {}),
    "heads": (parse_every_head, {}),
    "rows-at-once": (write_rows_alone, {}),
    "quick-json": (use_standard_json, {}),
    "batches": (nothing, {"max_batch_rows": 1}),
    "in-line": (nothing, {"inline_us": 0}),
    "protocol-class": (nothing, {}),
}


def served(limits: dict[str, int]) -> LocalExchange:
    session = open_session(Path(os.environ["MODEL"]).read_bytes())
    signature = Signature(_specs(session.get_inputs()), _specs(session.get_outputs()))
    exchange = LocalExchange()
    exchange.install(
        endpoint_of(
            OnnxRuntime(session, signature),
            model=os.environ["KIND"],
            limits=Limits(**{**LIMITS, **limits}),
        )
    )
    exchange.mark_synced()
    return exchange


def _specs(nodes: list["onnxruntime.NodeArg"]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            DATATYPES[node.type],
            tuple(length if isinstance(length, int) else -1 for length in node.shape),
        )
        for node in nodes
    )


async def serve(port: int, exchange: LocalExchange) -> None:
    server = HttpServer(
        exchange,
        access=OpenAccess(),
        host="127.0.0.1",
        port=port,
        max_body_bytes=1 << 26,
        version="ablated",
    )
    await server.start()
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


def serve_as_application(port: int, exchange: LocalExchange) -> None:
    """The same codec and exchange behind uvicorn's own protocol: an ASGI application."""
    model = os.environ["KIND"]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        endpoint = exchange.find(model)
        codec = endpoint.cache.get("oip") or endpoint.cache.setdefault("oip", OipCodec(endpoint))
        question = codec.read(dict(scope["headers"]), body)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = Call(endpoint, question.inputs, question.rows, lambda _: ended.set_result(None))
        exchange.submit(call)
        await ended
        answer = question.write(call)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


def main(port: int, without: str) -> None:
    take_out, limits = WITHOUT[without]
    take_out()
    exchange = served(limits)
    if without == "protocol-class":
        serve_as_application(port, exchange)
    else:
        uvloop.run(serve(port, exchange))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
