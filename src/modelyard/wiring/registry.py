"""The registry of a home, and the home's blobs."""

import logging
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Final

from modelyard.bundle.draft import Draft
from modelyard.bundle.keyring import Keyring
from modelyard.bundle.memory import memory_folder
from modelyard.bundle.staging import staging_folder
from modelyard.core.config import Config
from modelyard.core.errors import Conflict, Unavailable
from modelyard.core.identity import Actor
from modelyard.core.records import IssuedKey
from modelyard.gateway.node_key import node_key, node_name
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.payload_keys import PayloadKeys
from modelyard.registry.registry import Registry

_log = logging.getLogger(__name__)

_SERVER: Final = Actor(name="serve", source="local")
_OWNER_FILE: Final = "registry.id"


def blob_store(config: Config) -> LocalBlobStore:
    """Where a home's blobs lie."""
    return LocalBlobStore(config.home, keys=keyring(config))


def staging(config: Config) -> AbstractContextManager[Path]:
    """A private folder for bundles on their way: in memory where model files are encrypted, else in
    the home, on the disk of its blobs."""
    return memory_folder() if config.encryption_key else staging_folder(config.home)


def keyring(config: Config) -> Keyring:
    """The keys that a home's files are encrypted with; a relative path begins at the home."""
    return Keyring(config.encryption_key, base=config.home)


def open_registry(config: Config, *, is_down: bool = False) -> Registry:
    """The registry of a home, made if it is not there yet.

    One that `is_down` is not asked for anything yet; whoever asks it first calls `check_owner`.
    """
    try:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "bad_home",
            f"the home {config.home} cannot be used ({error.strerror}); give another with --home",
            field="home",
        ) from None
    registry = Registry.open(
        config.registry_url,
        blob_store(config),
        node=cache(partial(_node_of, config.home)),
        payload_keys=PayloadKeys(config.home, keyring(config)),
        is_down=is_down,
    )
    if is_down:
        return registry
    try:
        check_owner(config.home, registry.identity())
    except BaseException:
        registry.close()
        raise
    return registry


def _node_of(home: Path) -> str:
    return node_name(node_key(home).public_key())


def make_first_key(registry: Registry) -> IssuedKey | None:
    """The key of a home's first administrator; None where there was one, or nobody can say."""
    try:
        return registry.keys.create_first(actor=_SERVER)
    except Unavailable as error:
        _log.warning("whether this home has an administrator cannot be said: %s", error.message)
        return None


def known_owner(home: Path) -> str | None:
    """The identity of the registry whose home this is; None for a home that is new."""
    try:
        return (home / _OWNER_FILE).read_text("utf-8").strip()
    except FileNotFoundError:
        return None


def check_owner(home: Path, identity: str) -> None:
    """Refuse a home whose blobs belong to another registry: a repair would collect them all."""
    file = home / _OWNER_FILE
    if not file.exists():
        with Draft(home) as draft:
            draft.file.write(identity.encode())
            draft.publish(file)
    if known_owner(home) != identity:
        raise Conflict(
            "foreign_home",
            f"the bundles in {home} belong to another registry than database_url names; "
            "use the one that made them, or another home",
            field="database_url",
        )
