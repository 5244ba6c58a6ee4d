"""The law of deploy, rollback and undeploy: a route's history behaves as a stack."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import Conflict
from modelyard.core.names import Reference
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
        self.versions: list[int] = []
        self.routed = False

    def deploy(self, number: int) -> None:
        if self.versions[-1:] != [number]:
            self.versions.append(number)
        self.routed = True

    def rollback(self) -> bool:
        if self.routed and len(self.versions) > 1:
            self.versions.pop()
        elif self.routed or not self.versions:
            return False
        self.routed = True
        return True

    def undeploy(self) -> bool:
        was, self.routed = self.routed, False
        return was


_steps = st.lists(st.sampled_from(["1", "2", "3", "rollback", "undeploy"]), max_size=14)


@settings(max_examples=40, deadline=None, database=None)
@given(steps=_steps)
def test_routes_are_a_stack(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Any sequence of changes leaves the version that the stack says, or is refused as it is."""
    name = next(_names)
    folder = tmp_path_factory.mktemp("bundles")
    for n in range(3):
        bundle = make_bundle(folder / f"{n}", name=name, model=b"%d" % n)
        registry.publish(bundle, actor="ann")
    stack, changes = Stack(), 0
    for step in steps:
        before = registry.generation()
        if step == "rollback":
            done = _succeeds(lambda: registry.rollback(name, actor="ann"))
            assert done == stack.rollback()
        elif step == "undeploy":
            done = _succeeds(lambda: registry.undeploy(name, actor="ann"))
            assert done == stack.undeploy()
        else:
            done = not (stack.routed and stack.versions[-1] == int(step))
            registry.deploy(name, int(step), actor="ann")
            stack.deploy(int(step))
        assert (registry.generation() > before) == done
        changes += done
        routed = [route.number for route in registry.routes() if route.model == name]
        assert routed == (stack.versions[-1:] if stack.routed else [])
    assert len(registry.route_history(name)) == changes
    assert len(registry.audit(model=name, limit=1000)) == changes + 3
    assert registry.resolve(Reference(name)).number == (stack.versions[-1] if stack.routed else 3)


def _succeeds(change: Callable[[], object]) -> bool:
    try:
        change()
    except Conflict:
        return False
    return True
