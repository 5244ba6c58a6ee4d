"""A registry that may not answer: what it said last is remembered, here and over a restart."""

import contextlib
import dataclasses
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.draft import Draft
from modelyard.core.config import Config
from modelyard.core.errors import Invalid, ModelyardError, Unavailable
from modelyard.core.names import Reference
from modelyard.core.policy import Policy
from modelyard.core.route import Route
from modelyard.core.rules import Rules
from modelyard.gateway.node_key import node_key
from modelyard.gateway.snapshot import MOST_BYTES, ServedVersion, Snapshot, seal, unseal
from modelyard.registry.registry import Registry
from modelyard.wiring.registry import blob_store, check_owner, known_owner, open_registry

_log = logging.getLogger(__name__)

FILE_NAME: Final = "registry.snapshot"
_LOCK_NAME: Final = "registry.snapshot.lock"
_LOOK_S: Final = 1.0
_REFRESH_S: Final = 300.0

_T = TypeVar("_T")


class RememberedRegistry:
    """What a node asks of its registry. May be used from many threads.

    While the registry does not answer, what is needed to go on comes from the snapshot: the rules,
    the routes, and the versions that they name, whose files lie in the home. All workers of a node
    share one file, which whoever has read the registry last has written.
    """

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config = config
        self._registry = registry
        self._file = config.home / FILE_NAME
        self._is_confirmed = False
        self._read: tuple[Rules, float] | None = None
        self._recalled: Snapshot | None = None
        self._saved: Snapshot | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Keep the snapshot up to date until `stop`, in a thread."""
        if self._config.snapshot_s:
            self._thread = threading.Thread(
                target=self._keep, name="modelyard snapshot", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Keep it no longer. Blocks while it is being written."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def rules(self, known: int | None = None) -> Rules | None:
        """All that a gate goes by; None where its sequence is `known`. Raises in an outage."""
        started = time.time()
        rules = self._ask(lambda: self._registry.rules(known))
        if rules is not None:
            self._read = rules, started
        elif self._read is not None:
            self._read = self._read[0], started
        return rules

    def remembered_rules(self) -> tuple[Rules, float] | None:
        """The rules of the snapshot, and when they were read."""
        snapshot = self._recall()
        return None if snapshot is None else (snapshot.rules, snapshot.read_at)

    def generation(self) -> int:
        """That of the routes; in an outage, of those that this process began with."""
        return self._ask_or_recall(self._registry.generation, lambda snapshot: snapshot.generation)

    def routes(self) -> Sequence[Route]:
        """All routes; in an outage, those that this process began with."""
        return self._ask_or_recall(self._registry.routes, lambda snapshot: snapshot.routes)

    def bundle(self, model: str, number: int) -> Bundle:
        """The bundle of a version, its manifest verified, its files not yet."""
        reference = Reference(model, version=number)
        try:
            return self._ask(lambda: self._registry.bundle(self._registry.resolve(reference)))
        except Unavailable:
            version = self._find(model, number)
            if version is None:
                raise
        bundle = Bundle.from_store(blob_store(self._config), version.digest)
        return dataclasses.replace(bundle, signatures=version.signatures)

    def policy(self) -> Policy:
        """The home's policy; in an outage as it was."""
        try:
            return self._ask(lambda: self._registry.policies.get().policy)
        except Unavailable:
            rules = self._read or self.remembered_rules()
            if rules is None:
                raise
            return rules[0].policy

    def _ask(self, ask: Callable[[], _T]) -> _T:
        """What the registry answers; `Unavailable` where it does not, whatever the driver says."""
        try:
            if not self._is_confirmed:
                check_owner(self._config.home, self._registry.identity())
                self._is_confirmed = True
            return ask()
        except ModelyardError:
            raise
        except Exception as error:
            raise Unavailable(
                "registry_unavailable", f"the registry does not answer: {error}"
            ) from error

    def _ask_or_recall(self, ask: Callable[[], _T], recall: Callable[[Snapshot], _T]) -> _T:
        try:
            return self._ask(ask)
        except Unavailable:
            # Once it has answered, what it answered is in force and newer.
            snapshot = None if self._is_confirmed else self._recall()
            if snapshot is None:
                raise
            return recall(snapshot)

    def _find(self, model: str, number: int) -> ServedVersion | None:
        snapshot = self._saved or self._recall()
        for version in () if snapshot is None else snapshot.versions:
            if (version.model, version.number) == (model, number):
                return version
        return None

    def _recall(self) -> Snapshot | None:
        """The snapshot that lies in the home, if it is to be trusted; read once."""
        if self._recalled is None and self._config.snapshot_s:
            self._recalled = read_snapshot(self._config)
        return self._recalled

    def _keep(self) -> None:
        failed = False
        while not self._stop.wait(_LOOK_S):
            try:
                self._save_if_due()
                failed = False
            except Exception as error:  # noqa: BLE001 - a database or a disk may raise anything
                if not failed:
                    _log.error("the snapshot of the registry cannot be kept: %s", error)
                failed = True

    def _save_if_due(self) -> None:
        if self._read is None:
            return
        rules, read_at = self._read
        generation = self._registry.generation()
        before = self._saved
        if before is not None and (before.rules.sequence, before.generation) == (
            rules.sequence,
            generation,
        ):
            if read_at - before.read_at >= min(self._config.snapshot_s / 4, _REFRESH_S):
                self._save(dataclasses.replace(before, read_at=read_at))
            return
        routes = tuple(self._registry.routes())
        self._save(
            Snapshot(
                registry=self._registry.identity(),
                read_at=read_at,
                rules=rules,
                generation=generation,
                routes=routes,
                versions=tuple(self._versions(routes)),
            )
        )

    def _versions(self, routes: Sequence[Route]) -> Iterator[ServedVersion]:
        for route in routes:
            for number in route.versions:
                version = self._registry.resolve(Reference(route.model, version=number))
                with contextlib.suppress(ModelyardError):
                    # A damaged bundle cannot be served either way.
                    yield ServedVersion(
                        model=route.model,
                        number=number,
                        digest=version.digest,
                        signatures=tuple(self._registry.bundle(version).signatures),
                    )

    def _save(self, snapshot: Snapshot) -> None:
        keep_snapshot(self._config, snapshot)
        self._saved = snapshot


def open_for_serving(config: Config) -> Registry:
    """The registry of a home; also while it does not answer, where there is a snapshot to go by."""
    try:
        return open_registry(config)
    except Unavailable as error:
        if error.code == "bad_home" or read_snapshot(config) is None:
            raise
        _log.error("%s: starting with what was known when it last did", error.message)
        return open_registry(config, is_down=True)


def read_snapshot(config: Config) -> Snapshot | None:
    """The snapshot in a home; None where there is none, or none to go by, which is said loudly."""
    try:
        return _unsealed(config)
    except FileNotFoundError:
        return None
    except (ModelyardError, OSError) as error:
        _log.error("%s is not used: %s", config.home / FILE_NAME, error)
        return None


def keep_snapshot(config: Config, snapshot: Snapshot) -> None:
    """Put a snapshot into a home, unless another worker has read the registry later than we."""
    with _locked(config.home / _LOCK_NAME):
        lying = _read(config)
        if lying is None or lying.read_at < snapshot.read_at:
            _write(config, snapshot)


def _write(config: Config, snapshot: Snapshot) -> None:
    """Whole or not at all, and for nobody else to read."""
    data = seal(snapshot, node_key(config.home))
    with Draft(config.home) as draft:
        os.fchmod(draft.file.fileno(), 0o600)
        draft.file.write(data)
        draft.publish(config.home / FILE_NAME)


def _read(config: Config) -> Snapshot | None:
    """The snapshot that would be replaced; None where there is nothing worth keeping."""
    try:
        return _unsealed(config)
    except (ModelyardError, OSError):
        return None


def _unsealed(config: Config) -> Snapshot:
    with (config.home / FILE_NAME).open("rb") as file:
        data = file.read(MOST_BYTES + 1024)
    owner = known_owner(config.home)
    if owner is None:
        raise Invalid("bad_snapshot", "the home does not say whose it is")
    return unseal(
        data,
        node_key(config.home).public_key(),
        registry=owner,
        now=time.time(),
        longest_s=config.snapshot_s,
    )


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """While held, no other process of this home writes the snapshot; released by death too."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
