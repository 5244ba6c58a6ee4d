"""The administration of a home on this machine: its registry, its files, its running servers."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from modelyard.core.config import Config
from modelyard.core.identity import Actor
from modelyard.registry.administration.local import LocalAdministration, LocalReception
from modelyard.registry.administration.office import Office
from modelyard.registry.registry import Registry
from modelyard.wiring.registry import blob_store, staging

_LOOK_S: Final = 10.0
_MARGIN_S: Final = 1.0
_NOBODY: Final = Actor(name="nobody")
"""Who a server's reception acts for, until somebody has asked."""


def make_administration(config: Config, registry: Registry, actor: Actor) -> LocalAdministration:
    """For a user of this machine."""
    return LocalAdministration(_office(config, registry, actor))


def make_reception(config: Config, registry: Registry) -> LocalReception:
    """For those who ask a server over the network."""
    return LocalReception(
        _office(config, registry, _NOBODY), config.max_bundle_bytes, partial(staging, config)
    )


def _office(config: Config, registry: Registry, actor: Actor) -> Office:
    return Office(
        registry=registry,
        blobs=blob_store(config),
        home=config.home,
        actor=actor,
        settle=lambda *asked: _settle(config.home, *asked),
        look=lambda: look_at_servers(config.home),
    )


def _settle(home: Path, model: str, generation: int | None, patience_s: float) -> Sequence[str]:
    """Wait for every server of the home, at once where none runs."""
    if not patience_s or not (home / "run").exists():
        return []
    from modelyard.serving.supervision.desk import ask_servers, has_servers

    if not has_servers(home):
        return []
    import asyncio

    question = {"model": model, "generation": generation, "patience_s": patience_s}
    answers: list[list[str]] = asyncio.run(
        ask_servers(home, "settle", patience_s + _MARGIN_S, question)
    )
    return list(dict.fromkeys(reason for reasons in answers for reason in reasons))


def look_at_servers(home: Path) -> Sequence[Mapping[str, Any]]:
    """What the servers of a home say of themselves; asks no registry."""
    from modelyard.serving.supervision.desk import ask_servers, has_servers

    if not has_servers(home):
        return []
    import asyncio

    return asyncio.run(ask_servers(home, "overview", _LOOK_S))
