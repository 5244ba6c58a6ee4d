"""KServe's Python server: a custom predictor, as its documentation shows."""

import os
from functools import cached_property
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid
from served import Served

_DATATYPES = {"float32": "FP32", "int64": "INT64"}


class Predictor(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    # The first process pickles the predictor for the others, and a session cannot be pickled.
    @cached_property
    def served(self) -> Served:
        return Served()

    def predict(
        self, payload: Any, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any] | InferResponse:
        if isinstance(payload, InferRequest):
            return self._v2(payload)
        rows = payload["instances"]
        if not isinstance(rows[0], dict):
            (name,) = self.served.inputs
            rows = [{name: row} for row in rows]
        answers = self.served.many(rows)
        return {"predictions": answers}

    def _v2(self, request: InferRequest) -> InferResponse:
        arrays = {
            tensor.name: tensor.as_numpy().astype(self.served.inputs[tensor.name], copy=False)
            for tensor in request.inputs
        }
        binary = bool(request.use_binary_outputs)
        outputs = []
        for name, array in self.served.run(arrays).items():
            output = InferOutput(name, list(array.shape), _DATATYPES[str(array.dtype)])
            output.set_data_from_numpy(np.ascontiguousarray(array), binary_data=binary)
            outputs.append(output)
        return InferResponse(generate_uuid(), self.name, outputs, use_binary_outputs=binary)


if __name__ == "__main__":
    ModelServer().start([Predictor(os.environ["KIND"])])
