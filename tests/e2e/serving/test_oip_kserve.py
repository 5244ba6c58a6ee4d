"""The requests of KServe's `InferenceRESTClient`, byte for byte, as version 0.21 writes them.

The package itself pins libraries that do not install beside ours, so its requests were recorded;
the client was run once against this server in an environment of its own.
"""

import json

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.e2e.serving.conftest import Place

NAME = "kserved"
HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "connection": "keep-alive"}
JSON = HEADERS | {"content-type": "application/json"}
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)


@pytest.fixture(scope="module")
def url(place: Place) -> str:
    table, target = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(table, target)
    place.publish(estimator, name=NAME, sample=table)
    return place.server.url


def test_v1_readiness_and_predictions(url: str) -> None:
    """`ready` is a truth value, and `predictions` a list of them."""
    assert httpx.get(f"{url}/v1/models/{NAME}", headers=HEADERS).json()["ready"] is True
    body = b'{"instances":[[5.1,3.5,1.4,0.2]]}'
    answer = httpx.post(f"{url}/v1/models/{NAME}:predict", content=body, headers=JSON)
    assert answer.json()["predictions"] == [0]
    answer = httpx.post(f"{url}/v1/models/{NAME}:explain", content=body, headers=JSON)
    assert (answer.status_code, "not served yet" in answer.json()["error"]) == (501, True)


def test_v2_health(url: str) -> None:
    """Each says what it is asked under the key that the client reads."""
    for path, key in (
        ("/v2/health/live", "live"),
        ("/v2/health/ready", "ready"),
        (f"/v2/models/{NAME}/ready", "ready"),
    ):
        assert httpx.get(url + path, headers=HEADERS).json()[key] is True
    assert httpx.get(f"{url}/v2/models/nothing/ready", headers=HEADERS).status_code == 404


def test_v2_inference_in_json(url: str) -> None:
    """The model's name beside the inputs is no reason to refuse them."""
    body = (
        b'{"id":"r7","model_name":"%b","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32",'
        b'"data":[5.099999904632568,3.5,1.399999976158142,0.20000000298023224]}],'
        b'"outputs":[{"name":"label","parameters":{"binary_data":false}}]}' % NAME.encode()
    )
    answer = httpx.post(f"{url}/v2/models/{NAME}/infer", content=body, headers=JSON).json()
    assert (answer["id"], answer["model_name"]) == ("r7", NAME)
    assert answer["outputs"] == [{"name": "label", "datatype": "INT64", "shape": [1], "data": [0]}]


def test_v2_inference_in_binary(url: str) -> None:
    """Tensors behind the JSON, both ways."""
    head = (
        b'{"id":"r7","model_name":"%b","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32",'
        b'"parameters":{"binary_data_size":16}}],'
        b'"outputs":[{"name":"label","parameters":{"binary_data":true}}]}' % NAME.encode()
    )
    headers = HEADERS | {
        "inference-header-content-length": str(len(head)),
        "content-type": "application/octet-stream",
    }
    answer = httpx.post(
        f"{url}/v2/models/{NAME}/infer", content=head + ROW.tobytes(), headers=headers
    )
    length = int(answer.headers["inference-header-content-length"])
    [output] = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(answer.content[length:], "<i8").tolist() == [0]
