import pytest

from modelyard.api.http.doors import Doors, parse_path
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.exchange import LocalExchange
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SIGNATURE = Signature((TensorSpec("x", Datatype.FP32, (-1,)),), ())


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (b"/v2/models/m/infer", ("oip", "m", None)),
        (b"/v2/models/m/versions/3/infer", ("oip", "m", "3")),
        (b"/predict/m", ("predict", "m", None)),
        (b"/v1/models/m:predict", ("v1", "m", None)),
        (b"/v1/models/m/versions/3:predict", ("v1", "m", "3")),
        (b"/predict/a%2db", ("predict", "a-b", None)),
    ],
)
def test_inference_paths_are_read(path: bytes, wanted: tuple[str, str, str | None]) -> None:
    """Each contract's path names its model and version."""
    door = parse_path(path)
    assert door is not None
    assert (door.contract, door.model, door.version) == wanted


@pytest.mark.parametrize(
    "path",
    [b"/", b"/v2", b"/v2/models/m", b"/v2/models/m/ready", b"/predict", b"/predict/m/x",
     b"//v2/models/m/infer", b"/V2/models/m/infer", b"/v1/models/m", b"/predict/a%2Fb", b"/\xff"],
)  # fmt: skip
def test_other_paths_are_none(path: bytes) -> None:
    """What is no inference path is left to the application."""
    assert parse_path(path) is None


def test_only_paths_of_deployed_models_are_remembered() -> None:
    """Callers who make names up cannot fill the server's memory with them."""
    exchange = LocalExchange()
    exchange.install(endpoint_of(FunctionRuntime(SIGNATURE, dict), model="m"))
    doors = Doors(exchange)
    for n in range(100):
        assert doors.find(b"/predict/made-up-%d" % n) is not None
        assert doors.find(b"/predict/m%%%02x" % n) is not None or n == 0x2F
    doors.find(b"/predict/m")
    assert list(doors._known) == [b"/predict/m"]


def test_a_starting_server_asks_for_patience() -> None:
    """Before the routes were followed a model may yet come: 503, not 404."""
    exchange = LocalExchange()
    with pytest.raises(Unavailable, match="starting"):
        exchange.find("m")
    exchange.mark_synced()
    with pytest.raises(NotFound):
        exchange.find("m")
