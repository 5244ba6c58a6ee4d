"""The same service tuned by somebody who profiled it: raw body, orjson, async, run in line."""

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from served import Served

app = FastAPI()
served = Served()


@app.post("/predict")
async def predict(request: Request) -> Response:
    row = orjson.loads(await request.body())
    arrays = {name: np.array([row[name]], dtype) for name, dtype in served.inputs.items()}
    answer = {name: array[0] for name, array in served.run(arrays).items()}
    body = orjson.dumps(answer, default=int, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")
