"""The law of all changes of a route: a route's history behaves as a stack."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import Conflict
from modelyard.core.names import Reference
from modelyard.core.route import Options, Route, Target
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle
from modelyard.testing.memory import MemoryBlobStore

_names = (f"model-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    blobs = MemoryBlobStore()
    with Registry.open("sqlite://", blobs) as registry:
        yield registry
    blobs.close()


class Stack:
    """What the history must amount to."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.routed = False

    @property
    def present(self) -> Route | None:
        return self.routes[-1] if self.routed else None

    def push(self, route: Route) -> bool:
        was, self.routed = self.routed, True
        if self.routes[-1:] == [route]:
            return not was
        self.routes.append(route)
        return True

    def rollback(self) -> bool:
        if self.routed and len(self.routes) > 1:
            self.routes.pop()
        elif self.routed or not self.routes:
            return False
        self.routed = True
        return True

    def undeploy(self) -> bool:
        was, self.routed = self.routed, False
        return was

    def do(self, step: str) -> bool:
        """Whether the step changes anything."""
        if step == "rollback":
            return self.rollback()
        if step == "undeploy":
            return self.undeploy()
        if self.present is None and step in ("canary", "shadow", "promote"):
            return False
        number = int(step) if step.isdecimal() else 3
        present = self.present or Route(model="", generation=0, targets=(Target(number),))
        try:
            return self.push(_STEPS.get(step, lambda route: route.only(number))(present))
        except Conflict:
            return False


_STEPS: Final[dict[str, Callable[[Route], Route]]] = {
    "canary": lambda route: route.with_canary(2, 10.0),
    "shadow": lambda route: route.with_shadow(3, 50.0),
    "promote": Route.promoted,
    "options": lambda route: dataclasses.replace(route, options=Options(lanes=2)),
}
_steps = st.lists(
    st.sampled_from(["1", "2", "3", "rollback", "rollback", "undeploy", *_STEPS]), max_size=14
)


@settings(max_examples=60, deadline=None, database=None)
@given(steps=_steps)
def test_routes_are_a_stack(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Any sequence of changes leaves the route that the stack says, or is refused as it is."""
    name = next(_names)
    folder = tmp_path_factory.mktemp("bundles")
    for n in range(3):
        bundle = make_bundle(folder / f"{n}", name=name, model=b"%d" % n)
        registry.publish(bundle, actor="ann")
    verbs: dict[str, Callable[[], object]] = {
        "rollback": lambda: registry.rollback(name, actor="ann"),
        "undeploy": lambda: registry.undeploy(name, actor="ann"),
        "canary": lambda: registry.deploy(name, 2, canary=10.0, actor="ann"),
        "shadow": lambda: registry.deploy(name, 3, shadow=50.0, actor="ann"),
        "promote": lambda: registry.promote(name, actor="ann"),
        "options": lambda: registry.deploy(name, options={"lanes": 2}, actor="ann"),
        **{
            str(number): functools.partial(registry.deploy, name, number, actor="ann")
            for number in (1, 2, 3)
        },
    }
    stack, changes = Stack(), 0
    for step in steps:
        before = registry.generation()
        _succeeds(verbs[step])
        done = stack.do(step)
        assert (registry.generation() > before) == done
        changes += done
        routed = [route for route in registry.routes() if route.model == name]
        assert len(routed) == (stack.present is not None)
        for route in routed:
            assert dataclasses.replace(route, model="", generation=0) == stack.present
    assert len(registry.route_history(name)) == changes
    assert len(registry.audit(model=name, limit=1000)) == changes + 3
    number = stack.present.number if stack.present is not None else 3
    assert registry.resolve(Reference(name)).number == number


def _succeeds(change: Callable[[], object]) -> bool:
    try:
        change()
    except Conflict:
        return False
    return True
