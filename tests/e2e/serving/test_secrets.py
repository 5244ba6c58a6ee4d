"""Keys are planted wherever a caller may put one, and found nowhere afterwards."""

import http.client
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.api.grpc import messages
from modelyard.core.names import Reference
from modelyard.gateway.credentials import Credential, new_id, new_secret, write_key
from tests.e2e.conftest import PATIENCE_S, Command

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
GOOD_BODY = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def a_key() -> str:
    return write_key(Credential(new_id(), new_secret()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which `sum` is deployed."""
    home = tmp_path_factory.mktemp("secrets") / "home"
    with Yard.open(home) as yard:
        yard.publish(LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1)), name="sum", sample=SAMPLE)
        yard.deploy(Reference("sum", version=1))
    return home


class Planter:
    """Asks a server in every odd way, and keeps what it answers."""

    def __init__(self, host: str, port: int, grpc_port: int, good: str) -> None:
        self._address = host, port
        self._grpc_address = f"{host}:{grpc_port}"
        self.good = good
        self.planted: list[str] = []
        self.answers: list[bytes] = []

    def key(self) -> str:
        self.planted.append(a_key())
        return self.planted[-1]

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> int:
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE_S)
        data = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(
            method, path, data, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        with connection.getresponse() as answer:
            self.answers.append(str(answer.headers).encode() + answer.read())
        connection.close()
        return answer.status

    def raw(self, data: str) -> None:
        with socket.create_connection(self._address, PATIENCE_S) as sock:
            sock.sendall(data.encode("latin-1"))
            sock.shutdown(socket.SHUT_WR)
            while received := sock.recv(65536):
                self.answers.append(received)

    def rpc(self, metadata: tuple[tuple[str, str], ...], name: str) -> None:
        with grpc.insecure_channel(self._grpc_address) as channel:
            ask = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            with pytest.raises(grpc.RpcError) as caught:
                ask(
                    messages.ModelInferRequest(model_name=name),
                    metadata=metadata,
                    timeout=PATIENCE_S,
                )
        self.answers.append(str(caught.value).encode())


def in_headers(plant: Planter) -> None:
    """Bad keys, in good and in odd headers."""
    path = "/v2/models/sum/infer"
    assert plant.ask("POST", path, GOOD_BODY, authorization=f"Bearer {plant.key()}") == 401
    assert plant.ask("POST", path, GOOD_BODY, x_api_key=plant.key()) == 401
    for odd in ("{}", "Basic {}", "Bearer {} trailing", "Bearer\t{}", "Bearer {0}{0}", "Bearer,{}"):
        assert plant.ask("POST", path, GOOD_BODY, authorization=odd.format(plant.key())) == 401
    plant.ask("GET", "/v2", cookie=f"key={plant.key()}", referer=f"http://x/?key={plant.key()}")
    plant.raw(f"GET /v2 HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {plant.key()}\r\n\r\n")
    plant.raw(f"GET /v2 HTTP/1.1\r\nHost: x\r\n{plant.key()}: x\r\nBad\x01: {plant.key()}\r\n\r\n")
    plant.raw(f"{plant.key()}\r\n\r\n")


def in_paths_and_bodies(plant: Planter) -> None:
    """Where a model's name, a number or a tensor belongs; as somebody who is let in, and not."""
    for good in (plant.good, plant.key()):
        headers = {"authorization": f"Bearer {good}"}
        for path in ("/v2/models/{}/infer", "/v2/models/sum/versions/{}/infer", "/v1/models/{}"):
            plant.ask("POST", path.format(plant.key()), GOOD_BODY, **headers)
        plant.ask("GET", f"/{plant.key()}?key={plant.key()}", **headers)
        plant.ask("GET", f"/v2/models/sum?key={plant.key()}#{plant.key()}", **headers)
        plant.ask("GET", f"/api/v1/models/{plant.key()}", **headers)
        plant.ask("POST", f"/api/v1/keys?name={plant.key()}", {plant.key(): plant.key()}, **headers)
        for body in (
            plant.key(),
            {plant.key(): plant.key()},
            {"inputs": [{"name": plant.key(), "shape": [1], "datatype": "BYTES", "data": ["x"]}]},
            {"inputs": [{"name": "input", "shape": [1, 2], "datatype": plant.key(), "data": [1]}]},
            {
                "inputs": [
                    {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [plant.key()]}
                ]
            },
        ):
            plant.ask("POST", "/v2/models/sum/infer", body, **headers)
            plant.ask("POST", "/predict/sum", body, **headers)


def in_rpcs(plant: Planter) -> None:
    """In metadata of every name, and in messages."""
    good = ("authorization", f"Bearer {plant.good}")
    plant.rpc((("authorization", f"Bearer {plant.key()}"),), "sum")
    plant.rpc((("x-api-key", plant.key()),), "sum")
    plant.rpc((good, ("x-other", plant.key())), plant.key())


@pytest.mark.parametrize("planting", [in_headers, in_paths_and_bodies, in_rpcs])
def test_no_planted_key_is_found_again(home: Path, planting: Callable[[Planter], None]) -> None:
    """Not in the server's log, nor in any answer, nor in any file of the home."""
    with Yard.open(home) as yard:
        good = yard.registry.keys.create(name="test", role="admin", actor="test").text
    command = Command(home)
    process = subprocess.Popen(
        command.line("serve", "--port", 0, "--grpc-port", 0, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command.environment(MODELYARD_WORKERS="1", MODELYARD_DEBUG="true"),
    )
    with process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        plant = Planter(told["host"], told["port"], told["grpc_port"], good)
        try:
            planting(plant)
        finally:
            process.terminate()
        _, log = process.communicate(timeout=PATIENCE_S)
    assert plant.planted
    files = [each.read_bytes() for each in home.rglob("*") if each.is_file()]
    assert len(files) > 3
    for key in (*plant.planted, plant.good):
        # The id may be told: it is what people find a key by.
        secret = key[16:].encode()
        assert secret not in log
        assert [answer for answer in plant.answers if secret in answer] == []
        assert not any(secret in data for data in files)
    assert b"Traceback" not in log
