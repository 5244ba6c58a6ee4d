"""Who may do what over gRPC: asked with every RPC, and with every message of a stream."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from modelyard.api.asks import PUBLIC
from modelyard.api.grpc import messages
from modelyard.api.grpc.methods import make_methods
from modelyard.api.grpc.server import GrpcServer
from modelyard.core.identity import Role, Scope
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, NumpyExchange, Running
from tests.unit.api.keys import WRONG, Ring

GOOD = "caller"
METHODS = make_methods(NumpyExchange(), None)
PUBLIC_METHODS = {
    b"/inference.GRPCInferenceService/ServerLive",
    b"/inference.GRPCInferenceService/ServerReady",
    b"/grpc.health.v1.Health/Check",
    b"/grpc.health.v1.Health/Watch",
}


@pytest.fixture(scope="module")
def ring() -> Ring:
    made = Ring()
    made.add(GOOD, scope=Scope(models=("sums", "held", "absent-*")))
    made.add("deployer", role=Role.DEPLOYER)
    made.add("auditor", role=Role.AUDITOR)
    made.add("rival", tenant="rival", sees=("half",))
    made.add("old", expires_at=1.0)
    return made


@pytest.fixture(scope="module")
def keyed(running: Running, ring: Ring) -> Iterator[Running]:
    """A server that asks for keys, over the exchange of all."""

    async def start() -> tuple[GrpcServer, int]:
        server = GrpcServer(
            running.exchange,
            access=ring.access,
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        return server, await server.start()

    server, port = running.run(start())
    yield Running(running.exchange, f"127.0.0.1:{port}", running.loop)
    running.run(server.stop(1))


@pytest.fixture(scope="module")
def open_channel(keyed: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(keyed.address) as channel:
        yield channel


def call(
    channel: grpc.Channel, path: bytes, metadata: dict[str, str], message: Any = b""
) -> tuple[grpc.StatusCode, list[bytes], dict[str, Any]]:
    """How an RPC with one message ended, what it answered first, and its trailers."""
    encode = message.SerializeToString if hasattr(message, "SerializeToString") else lambda: message
    rpc = channel.stream_stream(path.decode())(
        iter([encode()]), metadata=tuple(metadata.items()), timeout=10
    )
    answers = []
    try:
        for answer in rpc:
            answers.append(answer)
            if path.endswith(b"/Watch"):
                rpc.cancel()
                return grpc.StatusCode.OK, answers, {}
        return grpc.StatusCode.OK, answers, {}
    except grpc.RpcError as error:
        return error.code(), answers, dict(error.trailing_metadata())


def test_what_is_public_is_little() -> None:
    """Only how the server itself is."""
    assert {path for path, method in METHODS.items() if method.asks is PUBLIC} == PUBLIC_METHODS


@pytest.mark.parametrize("path", sorted(METHODS))
@pytest.mark.parametrize("who", ["none", "wrong", "malformed", "old"])
def test_every_method_asks_who_calls(
    open_channel: grpc.Channel, ring: Ring, path: bytes, who: str
) -> None:
    """None but the public ones answers anything to a caller without a good key."""
    metadata = {
        "none": {},
        "wrong": {"authorization": f"Bearer {WRONG}"},
        "malformed": {"authorization": "Basic YTpi"},
        "old": ring.bearer("old"),
    }[who]
    status, answers, _ = call(open_channel, path, metadata)
    if path in PUBLIC_METHODS:
        assert status is grpc.StatusCode.OK
    else:
        assert (status, answers) == (grpc.StatusCode.UNAUTHENTICATED, [])


@pytest.mark.parametrize("path", sorted(METHODS))
def test_no_model_of_others_is_spoken_of(
    open_channel: grpc.Channel, ring: Ring, path: bytes
) -> None:
    """A method that names a model answers a key of another tenant as if there were none."""
    _, service, name = path.decode().split("/")
    request: Any = getattr(messages, f"{name}Request", None)
    if name == "ModelStreamInfer":
        request = messages.ModelInferRequest
    elif service == messages.HEALTH:
        request = messages.HealthCheckRequest
    fields = {} if request is None else request.DESCRIPTOR.fields_by_name
    field = next((each for each in ("model_name", "name", "service") if each in fields), None)
    if field is None:
        return
    said = []
    for model in ("sums", "nowhere"):
        status, answers, trailers = call(
            open_channel, path, ring.bearer("rival"), request(**{field: model})
        )
        text = b"".join(answers).decode("latin-1") + str(trailers.get("modelyard-code"))
        said.append((status, text.replace("sums", "?").replace("nowhere", "?")))
    # The message's length is told too, and counts the name.
    assert said[0][1][-40:] == said[1][1][-40:]
    assert said[0][0] is said[1][0]
    assert said[0][0] is grpc.StatusCode.PERMISSION_DENIED or "may not" in said[0][1]


def test_a_good_key_calls(open_channel: grpc.Channel, ring: Ring) -> None:
    """By either name of the metadata."""
    path = b"/inference.GRPCInferenceService/ModelReady"
    for metadata in (ring.bearer(GOOD), {"x-api-key": ring.texts[GOOD]}):
        status, answers, _ = call(
            open_channel, path, metadata, messages.ModelReadyRequest(name="sums")
        )
        assert (status, answers) == (grpc.StatusCode.OK, [b"\x08\x01"])


def test_the_index_shows_what_its_reader_may_know_of(
    open_channel: grpc.Channel, ring: Ring
) -> None:
    """Of all models only those within its scope and its tenant's."""
    path = b"/inference.GRPCInferenceService/RepositoryIndex"
    for who, names in ((GOOD, {"sums", "held"}), ("rival", {"half"})):
        _, (answer,), _ = call(open_channel, path, ring.bearer(who))
        index = messages.RepositoryIndexResponse.FromString(answer)
        assert {line.name for line in index.models} == names


def test_only_deployers_change_what_is_served(open_channel: grpc.Channel, ring: Ring) -> None:
    """Here there is no registry, which only they hear."""
    path = b"/inference.GRPCInferenceService/RepositoryModelLoad"
    request = messages.RepositoryModelLoadRequest(model_name="sums")
    statuses = {
        who: call(open_channel, path, ring.bearer(who), request)[0]
        for who in (GOOD, "auditor", "deployer")
    }
    assert statuses == {
        GOOD: grpc.StatusCode.PERMISSION_DENIED,
        "auditor": grpc.StatusCode.PERMISSION_DENIED,
        "deployer": grpc.StatusCode.UNAVAILABLE,
    }


def test_health_of_a_model_is_for_who_may_call_it(open_channel: grpc.Channel, ring: Ring) -> None:
    """The server's own is for everybody."""
    path = b"/grpc.health.v1.Health/Check"
    request = messages.HealthCheckRequest(service="sums")
    assert call(open_channel, path, {}, request)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert call(open_channel, path, ring.bearer(GOOD), request)[0] is grpc.StatusCode.OK
    watch = b"/grpc.health.v1.Health/Watch"
    assert call(open_channel, watch, {}, request)[0] is grpc.StatusCode.UNAUTHENTICATED


def infer_request(model: str = "sums") -> messages.ModelInferRequest:
    names = ("a", "b") if model == "sums" else ("x",)
    shape = (1, 2) if model == "sums" else (1,)
    return messages.ModelInferRequest(
        model_name=model,
        inputs=[
            messages.ModelInferRequest.InferInputTensor(
                name=name,
                datatype="FP32",
                shape=shape,
                contents=messages.InferTensorContents(fp32_contents=[1.0] * shape[-1]),
            )
            for name in names
        ],
    )


def test_a_stream_ends_with_its_key(keyed: Running, ring: Ring) -> None:
    """Every message is asked about: after a revocation none is answered."""
    ring.add("leaving")

    async def scene() -> tuple[int, grpc.StatusCode]:
        async with grpc.aio.insecure_channel(keyed.address) as channel:
            stream = channel.stream_stream(f"/{messages.SERVICE}/ModelStreamInfer")(
                metadata=tuple(ring.bearer("leaving").items())
            )
            answered = 0
            for _ in range(3):
                await stream.write(infer_request().SerializeToString())
                answer = messages.ModelStreamInferResponse.FromString(await stream.read())
                assert not answer.error_message
                answered += 1
            ring.revoke("leaving")
            await stream.write(infer_request().SerializeToString())
            with pytest.raises(grpc.aio.AioRpcError):
                await stream.read()
            return answered, await stream.code()

    assert keyed.run(scene()) == (3, grpc.StatusCode.UNAUTHENTICATED)


def test_a_stream_goes_on_after_a_model_that_is_denied(keyed: Running, ring: Ring) -> None:
    """It is one message's failure, told in its turn."""

    async def scene() -> list[str]:
        async with grpc.aio.insecure_channel(keyed.address) as channel:
            stream = channel.stream_stream(f"/{messages.SERVICE}/ModelStreamInfer")(
                metadata=tuple(ring.bearer(GOOD).items())
            )
            told = []
            for model in ("half", "sums"):
                await stream.write(infer_request(model).SerializeToString())
                answer = messages.ModelStreamInferResponse.FromString(await stream.read())
                told.append(answer.error_message)
            await stream.done_writing()
            return told

    denied, good = keyed.run(scene())
    assert "may not call" in denied
    assert good == ""


def test_a_message_that_comes_late_is_asked_about_again(keyed: Running, ring: Ring) -> None:
    """A key that was revoked since the metadata came changes nothing any more."""
    ring.add("late", role=Role.DEPLOYER)

    async def scene() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(keyed.address) as channel:
            rpc = channel.stream_stream(f"/{messages.SERVICE}/RepositoryModelLoad")(
                metadata=tuple(ring.bearer("late").items())
            )
            # An RPC of the same connection that is answered later: the metadata are there.
            await channel.unary_unary(f"/{messages.HEALTH}/Check")(b"")
            ring.revoke("late")
            await rpc.write(
                messages.RepositoryModelLoadRequest(model_name="sums").SerializeToString()
            )
            await rpc.done_writing()
            with pytest.raises(grpc.aio.AioRpcError):
                await rpc.read()
            return await rpc.code()

    assert keyed.run(scene()) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("path", sorted(PUBLIC_METHODS))
def test_who_has_no_key_sends_little(open_channel: grpc.Channel, path: bytes) -> None:
    """A message that only the memory of the server bounds is for those who have one."""
    status, answers, _ = call(open_channel, path, {}, b"\x0a\xff\xff\x3f" + bytes(1024 * 1024 - 1))
    assert (status, answers) == (grpc.StatusCode.RESOURCE_EXHAUSTED, [])


def test_who_has_no_key_watches_little(keyed: Running) -> None:
    """Each watch has us look again and again: of one connection there are some, not a thousand."""

    async def scene() -> list[grpc.StatusCode]:
        async with grpc.aio.insecure_channel(keyed.address) as channel:
            watches = [channel.unary_stream(f"/{messages.HEALTH}/Watch")(b"") for _ in range(40)]
            statuses = []
            for watch in watches:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await watch.read()
                statuses.append(await watch.code() if watch.done() else grpc.StatusCode.OK)
            for watch in watches:
                watch.cancel()
            return statuses

    assert Counter(keyed.run(scene())) == {
        grpc.StatusCode.OK: 32,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 8,
    }
