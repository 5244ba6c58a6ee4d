"""The service that most people write by hand: FastAPI, a pydantic body, onnxruntime.

Two things are in its favour, because a baseline must not be a straw man. onnxruntime is told to
use one thread: left to itself it splits every row's 100 trees over the cores, spins there, and
halves what two workers can do. And the answer is a plain dictionary with no return type, which
FastAPI would validate once more.
"""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)


class Row(BaseModel):
    input: list[float]


class Image(BaseModel):
    image: list[list[list[float]]]


class Tokens(BaseModel):
    input_ids: list[int]
    attention_mask: list[int]


if os.environ["KIND"] == "forest":

    @app.post("/predict")
    def predict(row: Row):  # type: ignore[no-untyped-def]
        inputs = np.array([row.input], dtype=np.float32)
        labels, probabilities = session.run(None, {"input": inputs})
        return {"label": int(labels[0]), "probabilities": probabilities[0].tolist()}

elif os.environ["KIND"] == "net":

    @app.post("/predict")
    def classify(image: Image):  # type: ignore[no-untyped-def]
        inputs = np.array([image.image], dtype=np.float32)
        (probabilities,) = session.run(None, {"image": inputs})
        return {"probabilities": probabilities[0].tolist()}

else:

    @app.post("/predict")
    def encode(tokens: Tokens):  # type: ignore[no-untyped-def]
        inputs = {
            "input_ids": np.array([tokens.input_ids], dtype=np.int64),
            "attention_mask": np.array([tokens.attention_mask], dtype=np.int64),
        }
        (sentence,) = session.run(None, inputs)
        return {"sentence": sentence[0].tolist()}
