"""Flask as its users write it; gunicorn runs it with two threaded workers."""

from typing import Any

from flask import Flask, request
from served import Served

app = Flask(__name__)
served = Served()


@app.post("/predict")
def predict() -> dict[str, Any]:
    return served.one(request.get_json())
