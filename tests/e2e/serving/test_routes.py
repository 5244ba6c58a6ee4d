"""Canary, shadow, promotion and rollback as callers of a real server see them."""

import contextlib
import http.client
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from sklearn.linear_model import LinearRegression

from modelyard.core.names import Reference
from modelyard.core.rollout import Plan, Rollout, parse_guards, parse_steps
from tests.e2e.conftest import Command
from tests.e2e.serving.conftest import Place

BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
)
SAMPLE = np.arange(20, dtype=float).reshape(10, 2)


def offset(by: float) -> LinearRegression:
    """A model whose every answer says which version gave it."""
    return LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1) + by)


class Model:
    """A model with versions whose answers are apart, and calls to it."""

    def __init__(self, place: Place, name: str, versions: int = 2) -> None:
        self.place = place
        self.name = name
        for number in range(1, versions + 1):
            place.yard.publish(offset(1000 * number), name=name, sample=SAMPLE)
        place.deploy(place.yard.registry.resolve(Reference(name, version=1)))
        while not all(self.call()[0] == 200 for _ in range(20)):
            pass

    def version(self, number: int) -> Reference:
        return Reference(self.name, version=number)

    def ask(self, user: str = "", version: str | None = None) -> int:
        """Which version answers a call."""
        status, answer = self.call(user, version)
        assert status == 200, answer
        [output] = answer["outputs"]
        number = round((output["data"][0] - 3) / 1000)
        assert answer["model_version"] == str(number)
        return number

    def call(self, user: str = "", version: str | None = None) -> tuple[int, Any]:
        """One call over a connection of its own: any worker may take it."""
        path = f"/v2/models/{self.name}" + (f"/versions/{version}" if version else "")
        server = self.place.server
        with contextlib.closing(http.client.HTTPConnection(server.host, server.port)) as caller:
            headers = {"x-user": user} if user else {}
            caller.request("POST", f"{path}/infer", BODY, headers)
            response = caller.getresponse()
            return response.status, json.loads(response.read())

    def seen(self, calls: int) -> Counter[int]:
        return Counter(self.ask() for _ in range(calls))

    def until(self, holds: Callable[[Counter[int]], bool]) -> None:
        """Until it holds of 20 calls in a row, each over a connection of its own."""
        while not holds(self.seen(20)):
            pass


_names = (f"routed-{number}" for number in itertools.count())


def test_a_canary_takes_its_share_and_promotion_the_rest(place: Place) -> None:
    """10% of the calls are 10% of the answers; promoted it answers all, rolled back none."""
    model = Model(place, next(_names))
    place.yard.deploy(model.version(2), canary=10.0)
    model.until(lambda seen: seen[2] > 0)
    seen = model.seen(200)
    assert 16 <= seen[2] <= 24
    assert seen.total() == 200
    place.yard.promote(model.name)
    model.until(lambda seen: seen == {2: 20})
    place.yard.rollback(model.name)
    model.until(lambda seen: set(seen) == {1, 2})
    place.yard.rollback(model.name)
    model.until(lambda seen: seen == {1: 20})


def test_a_caller_stays_on_a_version_in_every_protocol(place: Place) -> None:
    """By the header's value the same version answers again and again, and a growing canary keeps
    whom it has; gRPC metadata counts like a header."""
    model = Model(place, next(_names))
    place.yard.deploy(model.version(2), canary=20.0, sticky="X-User")
    model.until(lambda seen: seen[2] > 0)
    users = [f"user-{number}" for number in range(60)]
    first = {user: model.ask(user) for user in users}
    assert set(first.values()) == {1, 2}
    assert all(model.ask(user) == first[user] for user in users for _ in range(2))
    with triton_grpc.InferenceServerClient(place.server.grpc_address) as client:
        given = triton_grpc.InferInput("input", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[1, 2]], np.float32))
        for user in users[:20]:
            answer = client.infer(model.name, [given], headers={"x-user": user})
            assert int(answer.get_response().model_version) == first[user]
    place.yard.deploy(model.version(2), canary=60.0)
    model.until(lambda seen: seen[2] >= 8)
    second = {user: model.ask(user) for user in users}
    assert all(second[user] == 2 for user in users if first[user] == 2)
    assert sum(number == 2 for number in second.values()) > sum(
        number == 2 for number in first.values()
    )


def test_every_version_of_a_route_answers_by_its_number(place: Place) -> None:
    """The canary, and the shadow too, answer who names them; others are not found."""
    model = Model(place, next(_names))
    place.yard.deploy(model.version(2), shadow=100.0)
    place.wait_for(model.name, 2)
    model.until(lambda seen: seen == {1: 20})
    assert [model.ask(version=version) for version in ("1", "2")] == [1, 2]
    place.yard.promote(model.name)
    model.until(lambda seen: seen == {2: 20})


def test_a_shadow_is_compared_answer_by_answer(place: Place) -> None:
    """Callers get the stable version's answers; the server's status counts the shadow's, and shows
    where they differ."""
    model = Model(place, next(_names))
    place.yard.deploy(model.version(2), shadow=100.0)
    place.wait_for(model.name, 2)
    status = Command(place.server.home)

    def shadow() -> Any:
        [overview] = status.json("status")  # type: ignore[misc]
        [route] = [each for each in overview["routes"] if each["model"] == model.name]
        return route["shadow"]

    while not shadow()["counts"]["differed"]:
        assert model.seen(20) == {1: 20}
    counts = shadow()["counts"]
    assert (counts["agreed"], counts["failed"]) == (0, 0)
    newest = counts["disagreements"][-1]
    assert (newest["output"], newest["answered"], newest["shadow"]) == (
        "prediction[0, 0]",
        "1003.0",
        "2003.0",
    )
    text = status("status").stdout.decode()
    assert f"{model.name}:2" in text
    assert "the last answers that differ" in text


def test_a_canary_that_cannot_be_loaded_leaves_all_calls_to_the_stable_version(
    place: Place,
) -> None:
    """Its listing says why; nobody gets an error."""
    model = Model(place, next(_names))
    version = place.yard.registry.resolve(model.version(2))
    bundle = place.yard.registry.bundle(version)
    file = next(path for name, path in bundle.files.items() if name.endswith(".onnx"))
    file.chmod(0o644)
    file.write_bytes(b"damaged")
    place.yard.deploy(model.version(2), canary=50.0)
    while not any(line["name"] == model.name and line["reason"] for line in place.client.models()):
        pass
    [line] = [line for line in place.client.models() if line["reason"]]
    assert (line["name"], line["version"], line["state"]) == (model.name, "2", "UNAVAILABLE")
    assert model.seen(40) == {1: 40}
    place.yard.rollback(model.name)
    model.until(lambda seen: seen == {1: 20})


def test_a_roll_out_moves_by_itself_while_its_guards_hold(place: Place) -> None:
    """Step by step all calls go to the candidate, and each move is recorded with its numbers."""
    model = Model(place, next(_names))
    plan = Plan(
        steps=parse_steps("20%,50%,100%"),
        every_s=1.0,
        guards=parse_guards("error_rate<=0.1%, error_rate<=2x, p99<=10s"),
        least_calls=20,
    )
    started = place.yard.roll_out(model.version(2), plan, reason="the new one")
    assert (started.state, started.step, started.percent) == ("running", 0, 20.0)
    rollout = watch(place, model)
    assert rollout.state == "done"
    assert [(move.verdict, move.percent) for move in rollout.moves] == [
        ("begun", 20.0),
        ("moved", 50.0),
        ("done", 100.0),
    ]
    for move in rollout.moves[1:]:
        assert [reading.verdict for reading in move.readings] == ["held"] * 3
        assert all(reading.calls >= 20 for reading in move.readings)
    model.until(lambda seen: seen == {2: 20})
    place.yard.rollback(model.name)
    model.until(lambda seen: seen == {1: 20})


def test_a_roll_out_rolls_back_by_itself_when_a_guard_breaks(place: Place) -> None:
    """A candidate that answers something else is compared with the stable version on its own
    calls, and is gone before its step was over; the audit says who did it and why."""
    model = Model(place, next(_names))
    plan = Plan(
        steps=parse_steps("30%,100%"),
        every_s=600.0,
        guards=parse_guards("agreement>=99%"),
        least_calls=20,
    )
    place.yard.roll_out(model.version(2), plan)
    rollout = watch(place, model)
    assert rollout.state == "rolled_back"
    assert "agreement>=99%" in rollout.reason
    [reading] = rollout.moves[-1].readings
    assert (reading.verdict, reading.value) == ("broken", 0.0)
    assert reading.calls >= 20
    model.until(lambda seen: seen == {1: 20})
    newest = place.yard.registry.audit(model=model.name)[0]
    assert (newest.actor, newest.action, newest.number) == ("rollout", "rollback", 1)
    assert newest.reason == rollout.reason


def watch(place: Place, model: Model) -> Rollout:
    """Call until the newest roll-out has ended."""
    while True:
        model.seen(10)
        rollout = place.yard.registry.rollouts.of(model.name)[-1]
        if rollout.state != "running":
            return rollout
