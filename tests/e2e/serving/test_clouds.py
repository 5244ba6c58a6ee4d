"""`modelyard serve` as a container of SageMaker, Vertex AI and Azure ML, by their published rules.

Each test starts the server as the platform does, with its variables and no options of ours, and
speaks plain HTTP/1.1 to it, as the platform's own front does.
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelyard import Yard
from modelyard.core.names import Reference
from tests.e2e.conftest import PATIENCE_S, Command

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one model deployed, as it is baked into an image."""
    folder = tmp_path_factory.mktemp("container") / "home"
    table, target = load_iris(return_X_y=True, as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"])[target]
    with Yard.open(folder) as yard:
        estimator = LogisticRegression(max_iter=1000).fit(table, names)
        yard.deploy(Reference(yard.publish(estimator, name="iris", sample=table).model))
    return folder


class Container:
    """A server that was started with a platform's variables, and the address it told."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, named)
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return response.status, told, response.read()


@contextlib.contextmanager
def container(home: Path, **environment: str) -> Iterator[Container]:
    """`docker run image serve`, as every platform runs it; stopped with SIGTERM."""
    command = Command(home)
    ours = {"MODELYARD_GRPC_PORT": "0", "MODELYARD_WORKERS": "1"}
    process = subprocess.Popen(
        command.line("serve", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command.environment(**ours, **environment),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=PATIENCE_S)[1].decode()
        told = json.loads(line)
        yield Container(told["host"], told["port"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_sagemaker(home: Path) -> None:
    """/ping within two seconds, /invocations in its formats, on the port that it binds."""
    port = free_port()
    with container(home, SAGEMAKER_BIND_TO_PORT=port) as server:
        assert (server.host, server.port) == ("0.0.0.0", int(port))
        assert server.ask("GET", "/ping")[0] == 200
        csv = "\n".join(",".join(map(str, row)) for row in ROWS)
        status, headers, content = server.ask(
            "POST", "/invocations", csv, Content_Type="text/csv", Accept="text/csv"
        )
        assert (status, content) == (200, b"setosa\nvirginica\n")
        assert headers["content-type"].startswith("text/csv")
        for body in (
            {"instances": [{"features": row} for row in ROWS]},
            {"instances": ROWS},
            ROWS,
        ):
            answer = server.ask("POST", "/invocations", body, Content_Type="application/json")
            assert json.loads(answer[2])["predictions"] == ["setosa", "virginica"]
        lines = "\n".join(json.dumps({"features": row}) for row in ROWS)
        kind = "application/jsonlines"
        _, headers, content = server.ask(
            "POST",
            "/invocations",
            lines,
            Content_Type=kind,
            Accept=kind,
            X_Amzn_SageMaker_Custom_Attributes="trace=7",
        )
        assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=7"
        said = [json.loads(line)["prediction"] for line in content.splitlines()]
        assert said == ["setosa", "virginica"]
        bad = server.ask("POST", "/invocations", "a,b\n", Content_Type="text/csv")
        assert bad[0] == 400
        assert server.ask("POST", "/invocations", "x", Content_Type="image/png")[0] == 415


def test_vertex(home: Path) -> None:
    """The health and predict routes that the variables name, on 0.0.0.0 and their port."""
    port = free_port()
    route = "/v1/endpoints/123/deployedModels/456"
    environment = {
        "AIP_HTTP_PORT": port,
        "AIP_HEALTH_ROUTE": route,
        "AIP_PREDICT_ROUTE": f"{route}:predict",
        "AIP_STORAGE_URI": "gs://bucket/folder",
        "AIP_MODE": "PREDICTION",
        "AIP_VERSION_NAME": "1",
    }
    with container(home, **environment) as server:
        assert (server.host, server.port) == ("0.0.0.0", int(port))
        assert server.ask("GET", route)[0] == 200
        names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
        for instances in (ROWS, [dict(zip(names, row, strict=True)) for row in ROWS]):
            status, headers, content = server.ask(
                "POST",
                f"{route}:predict",
                {"instances": instances, "parameters": {"confidence": 0.5}},
                Content_Type="application/json",
            )
            assert (status, headers["content-type"]) == (200, "application/json")
            assert json.loads(content) == {"predictions": ["setosa", "virginica"]}
        assert server.ask("POST", f"{route}:predict", {"rows": ROWS})[0] == 400


def test_azure(home: Path) -> None:
    """Liveness at the root, /score, the ids echoed, and the document under its older name."""
    port = free_port()
    # The platform's own port is fixed, and may be taken where this test runs.
    with container(home, AZUREML_MODEL_DIR="/m", WORKER_COUNT="1", MODELYARD_PORT=port) as server:
        assert (server.host, server.port) == ("0.0.0.0", int(port))
        assert server.ask("GET", "/")[0] == 200
        for body in ({"data": ROWS}, {"input_data": ROWS}):
            status, headers, content = server.ask(
                "POST",
                "/score",
                body,
                Content_Type="application/json",
                x_request_id="r-1",
                x_ms_request_id="r-2",
                x_ms_client_request_id="r-3",
            )
            assert status == 200
            assert json.loads(content)["predictions"] == ["setosa", "virginica"]
            assert headers["x-request-id"] == "r-1"
            assert headers["x-ms-request-id"] == "r-2"
            assert headers["x-ms-client-request-id"] == "r-3"
        assert server.ask("POST", "/score", {"data": [["a"]]})[0] == 400
        assert server.ask("PUT", "/score")[0] == 405
        status, _, content = server.ask("GET", "/swagger.json?version=3")
        assert (status, "/score" in json.loads(content)["paths"]) == (200, True)


def test_a_container_on_a_network_takes_no_load_and_unload(home: Path) -> None:
    """Whoever reaches the container may call the model, and not take it away."""
    with container(home, AIP_HTTP_PORT="0") as server:
        status, _, content = server.ask("POST", "/v2/repository/models/iris/unload")
        assert (status, json.loads(content)["code"]) == (403, "not_allowed")
        for path in ("/api/v1/keys", "/api/v1/models"):
            assert server.ask("GET", path)[0] in (401, 403)
        assert server.ask("GET", "/ping")[0] == 200


def test_a_container_asks_for_keys_where_it_is_told_to(home: Path) -> None:
    """Its front must be able to send them then; and a wrong one is refused in any container."""
    for fronted, wanted in (("false", 401), ("true", 200)):
        with container(home, AIP_HTTP_PORT="0", MODELYARD_FRONTED=fronted) as server:
            assert server.ask("POST", "/invocations", ROWS)[0] == wanted
            assert server.ask("POST", "/invocations", ROWS, X_API_Key="wrong")[0] == 401
            assert server.ask("GET", "/ping")[0] == 200


def test_several_models_need_a_default(home: Path, tmp_path: Path) -> None:
    """`default_model` says which one is meant; without it the answer says what to set."""
    with Yard.open(tmp_path / "home") as yard:
        table, target = load_iris(return_X_y=True)
        for name in ("one", "two"):
            estimator = LogisticRegression(max_iter=1000).fit(table, target)
            yard.deploy(Reference(yard.publish(estimator, name=name, sample=table).model))
    port = free_port()
    for default, wanted in ("", 400), ("two", 200):
        environment = {"SAGEMAKER_BIND_TO_PORT": port, "MODELYARD_DEFAULT_MODEL": default}
        with container(tmp_path / "home", **environment) as server:
            status, _, content = server.ask("POST", "/invocations", ROWS)
            assert status == wanted, content
            if default:
                assert json.loads(content)["model"] == "two"
            else:
                assert json.loads(content)["code"] == "which_model"
            named = server.ask(
                "POST", "/invocations", ROWS, X_Amzn_SageMaker_Target_Model="one.tar.gz"
            )
            assert json.loads(named[2])["model"] == "one"
