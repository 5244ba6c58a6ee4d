"""A yard: one Modelyard home, opened, with everything that can be done to its models."""

import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelyard.bundle.archive import export_bundle, import_bundle
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.staging import abandoned_folders, sweep_folders
from modelyard.bundle.trust import Trust, check_policy
from modelyard.core.config import Config, load_config
from modelyard.core.identity import Actor, as_actor
from modelyard.core.names import Reference, check_name
from modelyard.core.records import Finding, Problem, Version
from modelyard.core.rollout import Plan, Rollout
from modelyard.core.route import Route
from modelyard.registry.administration.local import LocalAdministration
from modelyard.registry.registry import Registry
from modelyard.registry.vault import Vault
from modelyard.wiring.administration import make_administration
from modelyard.wiring.registry import blob_store, keyring, open_registry, staging

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Card, Evaluation, Lineage
    from modelyard.local import LocalModel
    from modelyard.train.progress import Progress
    from modelyard.train.recipe import Recipe
    from modelyard.train.training import Trained


class Yard:
    """A home with a registry and blobs. Use as a context manager, or `close` it.

    Everything that changes state is written to the audit under `actor`, by default the user of
    this process.
    """

    def __init__(self, config: Config, *, actor: str | Actor | None = None) -> None:
        self.config = config
        self.actor = _local(_user()) if actor is None else as_actor(actor)
        self.registry: Registry = open_registry(config)

    @staticmethod
    def open(home: Path | str | None = None) -> "Yard":
        """The yard of a home; without one, of `MODELYARD_HOME` or `~/.modelyard`."""
        return Yard(load_config({"home": home}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the registry."""
        self.registry.close()

    @property
    def administration(self) -> LocalAdministration:
        """Everything that can be asked of the home, as servers offer it too."""
        return make_administration(self.config, self.registry, self.actor)

    @property
    def vault(self) -> Vault:
        """What of the home is encrypted, and with which keys."""
        return self.registry.vault(blob_store(self.config), keyring(self.config))

    # Making versions

    def publish(
        self,
        model: object,
        *,
        name: str,
        sample: Any,
        lineage: "Lineage | None" = None,
        evaluation: "Evaluation | None" = None,
        card: "Card | None" = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Version:
        """Package a fitted estimator and publish it as the next version of `name`.

        `sample` holds real rows as a caller would send them (DataFrame or 2-D array): the
        conversion is proven on all of them, a few are kept in the bundle.
        """
        from modelyard.packaging.package import package_estimator

        check_name(name)
        return self.publish_built(
            lambda folder: package_estimator(
                model,
                name=name,
                sample=sample,
                staging=folder,
                lineage=lineage,
                evaluation=evaluation,
                card=card,
                files=files or {},
            )
        )

    def publish_built(self, build: Callable[[Path], Bundle]) -> Version:
        """Publish the bundle that `build` makes in an empty folder."""
        with staging(self.config) as folder:
            return self.registry.publish(build(folder), actor=self.actor)

    def train(self, recipe: "Recipe", *, base: Path, progress: "Progress | None" = None) -> Version:
        """Train by a recipe and publish the result; `base` is where its relative paths begin.

        A version that fails its gate is published as rejected.
        """
        from modelyard.train.training import train

        return self.publish_trained(train(recipe, base=base, progress=progress))

    def publish_trained(self, trained: "Trained") -> Version:
        """Package what `train` made and publish it; rejected where it failed its gate."""
        return self.publish_built(partial(package_trained, trained))

    def import_file(
        self, path: Path, *, name: str, sample: Any = None, packages: Sequence[str] = ()
    ) -> Version:
        """Package a model file and publish it; pickles only where `trust_pickle` is set.

        A model that needs other versions of `packages` than a server has is served in a process
        with an environment of its own, where the server's `trust_packages` allows it.
        """
        imported = Imported(path, name, sample, tuple(packages), self.config.trust_pickle)
        return self.publish_built(imported.package)

    # Routes and names

    def deploy(
        self,
        reference: Reference,
        *,
        canary: float | None = None,
        shadow: float | None = None,
        sticky: str | None = None,
        options: Mapping[str, object] | None = None,
        force: bool = False,
        reason: str = "",
    ) -> Route:
        """Route calls to a version; without one, to the newest accepted version.

        `canary` is the percent of the calls that it takes, `shadow` that of which it gets a copy;
        `options` sets some of `core.route.Options`, and None unsets one. See `Registry.deploy`.
        """
        return self.registry.deploy(
            reference.model,
            self._number(reference),
            actor=self.actor,
            canary=canary,
            shadow=shadow,
            sticky=sticky,
            options=options,
            force=force,
            reason=reason,
        )

    def roll_out(
        self,
        reference: Reference,
        plan: Plan,
        *,
        sticky: str | None = None,
        options: Mapping[str, object] | None = None,
        force: bool = False,
        reason: str = "",
    ) -> Rollout:
        """Begin to move calls to a version step by step; running servers do the rest."""
        return self.registry.roll_out(
            reference.model,
            self._number(reference),
            plan=plan,
            actor=self.actor,
            sticky=sticky,
            options=options,
            force=force,
            reason=reason,
        )

    def promote(self, model: str, *, force: bool = False, reason: str = "") -> Route:
        """Route all calls to the canary, or else to the shadow."""
        return self.registry.promote(
            check_name(model), actor=self.actor, force=force, reason=reason
        )

    def rollback(self, model: str, *, reason: str = "") -> Route:
        """Route calls as they were routed before the last change."""
        return self.registry.rollback(check_name(model), actor=self.actor, reason=reason)

    def set_alias(self, model: str, alias: str, number: int, *, reason: str = "") -> None:
        """Let an alias name a version."""
        self.registry.set_alias(
            check_name(model), check_name(alias, "alias"), number, actor=self.actor, reason=reason
        )

    # Bundles

    def bundle(self, reference: Reference) -> Bundle:
        """The bundle of a version, its manifest verified."""
        return self.registry.bundle(self.registry.resolve(reference))

    def export(self, reference: Reference, target: Path) -> Bundle:
        """Write a version's bundle into one file."""
        bundle = self.bundle(reference)
        export_bundle(bundle, target)
        return bundle

    def import_archive(self, source: Path) -> Version:
        """Publish a bundle from one file that `export` wrote, under the name that it carries."""
        blobs = blob_store(self.config)
        # Held until published: in between, nothing refers to what was put.
        with blobs.hold():
            bundle = import_bundle(source, blobs)
            return self.registry.publish(bundle, actor=self.actor, reason=f"imported {source.name}")

    def load(self, reference: Reference) -> "LocalModel":
        """A version for predictions in this process."""
        from modelyard.local import LocalModel
        from modelyard.runtimes.open import open_runtime

        version = self.registry.resolve(reference)
        bundle = self.registry.bundle(version)
        bundle.verify()
        trust = Trust.of(self.registry.policies.get().policy)
        check_policy(bundle.manifest, bundle.signatures, trust)
        return LocalModel(version.model, version.number, open_runtime(bundle))

    # Health

    def check(self) -> list[Finding]:
        """Everything wrong with the home's files; reads every byte of every version."""
        return [*self.registry.check(), *map(_abandoned, abandoned_folders(self.config.home))]

    def repair(self) -> list[Finding]:
        """Collect what died publishes left behind, and say what that was.

        Raises `Conflict` while a publish runs.
        """
        return [*self.registry.repair(), *map(_abandoned, sweep_folders(self.config.home))]

    def _number(self, reference: Reference) -> int | None:
        if reference.version is None and reference.alias is None:
            return None
        return self.registry.resolve(reference).number


def package_trained(trained: "Trained", folder: Path) -> Bundle:
    """The bundle of what `train` made, built in an empty folder."""
    from modelyard.packaging.package import package_estimator

    return package_estimator(
        trained.estimator,
        name=check_name(trained.name),
        sample=trained.sample,
        staging=folder,
        lineage=trained.lineage,
        evaluation=trained.evaluation,
        card=trained.card,
        files=trained.files,
    )


@dataclass(frozen=True)
class Imported:
    """A model file that is to be packaged; see `Yard.import_file`."""

    path: Path
    name: str
    sample: Any = None
    packages: Sequence[str] = ()
    trust_pickle: bool = False

    def package(self, folder: Path) -> Bundle:
        """Its bundle, built in an empty folder."""
        from modelyard.packaging.package import package_file

        bundle = package_file(
            self.path,
            name=check_name(self.name),
            sample=self.sample,
            staging=folder,
            trust_pickle=self.trust_pickle,
        )
        return bundle.asking_for(self.packages) if self.packages else bundle


def _abandoned(folder: Path) -> Finding:
    return Finding(
        problem=Problem.UNFINISHED_FILE,
        name=f"{folder.parent.name}/{folder.name}",
        message="a half-built bundle, left over from a publish that did not end",
    )


def _local(user: str) -> Actor:
    return Actor(name=user, key=f"local:{user}", source="local")


def _user() -> str:
    """Who runs this process, by its uid: what the environment says is anybody's word."""
    try:
        import pwd
    except ImportError:
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container's user may have no name.
        return f"uid {os.getuid()}"
