"""The registry: which models, versions, aliases and routes there are, and who made them so."""

import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, func, insert, select, update

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import MANIFEST_PATH, Evaluation, Threshold
from modelyard.core.errors import Conflict, DamagedBundle, NotFound
from modelyard.core.names import Reference, check_name
from modelyard.core.ports import BlobStore
from modelyard.registry import queries, repair, routing
from modelyard.registry.database import Database
from modelyard.registry.tables import aliases, audit, bundles, models, versions
from modelyard.registry.values import (
    AuditRow,
    Finding,
    Model,
    Route,
    RouteChange,
    State,
    Version,
)


class Registry:
    """Models in SQL, their bundles in a blob store. May be used from many threads.

    Every change is one transaction with its audit row in it, and writers take turns, so that
    others see all of a change or nothing.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    @staticmethod
    def open(url: str, blobs: BlobStore) -> "Registry":
        """Open the registry at a SQLAlchemy URL, made or brought up to date where needed."""
        return Registry(Database.open(url), blobs)

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def identity(self) -> str:
        """The name that this registry was given when it was made: 32 hex digits, for good."""
        with self._database.read() as connection:
            return queries.identity(connection)

    def publish(self, bundle: Bundle, *, actor: str, reason: str = "") -> Version:
        """Make the bundle the next version of the model that its manifest names.

        Rejected where the gate failed. A bundle that is a version already gives that version, and
        its blobs are written again, which mends them. Raises `DamagedBundle`, `Exhausted`.
        """
        model = check_name(bundle.manifest.name)
        # Blobs first, one transaction last: a death in between leaves blobs that nobody refers to.
        with self._blobs.hold():
            files = self._put(bundle)
            with self._database.write() as connection:
                return _record(connection, model, bundle, files, actor, reason)

    def _put(self, bundle: Bundle) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = []
        for entry in bundle.manifest.files:
            try:
                stored = self._blobs.put(bundle.files[entry.path])
            except FileNotFoundError:
                raise _changed(entry.path) from None
            if stored != entry.sha256:
                raise _changed(entry.path)
            files.append({"path": entry.path, "sha256": stored, "size": entry.size})
        data = bundle.manifest.encode()
        files.append({"path": MANIFEST_PATH, "sha256": self._blobs.put(data), "size": len(data)})
        return files

    def models(self) -> list[Model]:
        """Every model, by name."""
        with self._database.read() as connection:
            return queries.list_models(connection)

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, oldest first; raises `NotFound`."""
        with self._database.read() as connection:
            return queries.list_versions(connection, model)

    def resolve(self, reference: Reference) -> Version:
        """The version that a reference means now; raises `NotFound` saying what there is.

        A bare model means its routed version, or else the newest that passed its gate.
        """
        with self._database.read() as connection:
            return queries.resolve(connection, reference)

    def bundle(self, version: Version) -> Bundle:
        """A version's bundle, its manifest verified, its files not yet."""
        try:
            return Bundle.from_store(self._blobs, version.digest)
        except NotFound:
            raise DamagedBundle(
                "damaged_bundle",
                f"the manifest of {version.model}:{version.number} is missing from the blob store; "
                "publish the same bundle again or import it from a good copy",
                field=MANIFEST_PATH,
            ) from None

    def set_alias(
        self, model: str, alias: str, number: int, *, actor: str, reason: str = ""
    ) -> None:
        """Point an alias at a version, wherever it pointed before."""
        check_name(alias, "alias")
        with self._database.write() as connection:
            queries.find_version(connection, model, number)
            previous = queries.alias_number(connection, model, alias)
            if previous == number:
                return
            if previous is None:
                connection.execute(insert(aliases).values(model=model, alias=alias, number=number))
            else:
                connection.execute(
                    update(aliases)
                    .where(aliases.c.model == model, aliases.c.alias == alias)
                    .values(number=number)
                )
            details = {"alias": alias, "previous": previous}
            _audit(connection, "set_alias", model, number, actor, reason, details)

    def deploy(
        self,
        model: str,
        number: int | None = None,
        *,
        actor: str,
        force: bool = False,
        reason: str = "",
    ) -> Route:
        """Route a model's calls to a version, by default the newest that passed its gate.

        A rejected version raises `Conflict`, unless `force`, which the audit shows. Deploying the
        routed version changes nothing.
        """
        with self._database.write() as connection:
            version = (
                queries.newest_accepted(connection, model)
                if number is None
                else queries.find_version(connection, model, number)
            )
            present = queries.find_route(connection, model)
            if present is not None and present.number == version.number:
                return present
            forced = version.state == "rejected"
            if forced and not force:
                raise self._rejected(version)
            routing.deploy(
                connection, model, version.number, forced=forced, actor=actor, reason=reason
            )
            action = "deploy_forced" if forced else "deploy"
            return _routed(connection, action, model, present, actor, reason)

    def rollback(self, model: str, *, actor: str, reason: str = "") -> Route:
        """Return to the version that was routed before the present one; raises `Conflict`.

        Repeated, it walks further back, to the first deploy.
        """
        with self._database.write() as connection:
            queries.list_versions(connection, model)
            present = queries.find_route(connection, model)
            routing.rollback(connection, model, actor=actor, reason=reason)
            return _routed(connection, "rollback", model, present, actor, reason)

    def undeploy(self, model: str, *, actor: str, reason: str = "") -> None:
        """Take a model's route away; raises `Conflict` where there is none."""
        with self._database.write() as connection:
            queries.list_versions(connection, model)
            route = queries.find_route(connection, model)
            if route is None:
                raise Conflict("not_deployed", f"'{model}' is not deployed", field="model")
            generation = routing.undeploy(connection, model, route, actor=actor, reason=reason)
            details = {"generation": generation}
            _audit(connection, "undeploy", model, route.number, actor, reason, details)

    def routes(self) -> list[Route]:
        """Every model's present route, by model."""
        with self._database.read() as connection:
            return queries.list_routes(connection)

    def generation(self) -> int:
        """A number that grows with every change of any route: one cheap look, for polling."""
        with self._database.read() as connection:
            return queries.generation(connection)

    def route_history(self, model: str) -> list[RouteChange]:
        """Every change of a model's route, oldest first; raises `NotFound`."""
        with self._database.read() as connection:
            return queries.list_changes(connection, model)

    def audit(self, *, model: str | None = None, limit: int = 100) -> list[AuditRow]:
        """Who changed what, newest first."""
        with self._database.read() as connection:
            return queries.list_audit(connection, model, limit)

    def check(self) -> list[Finding]:
        """Leftovers, and missing or damaged blobs of known versions; reads every byte of them."""
        return repair.check(self._database, self._blobs)

    def repair(self) -> list[Finding]:
        """Collect the leftovers of publishes that died; never what a running one has put.

        Raises `Conflict` while a publish runs.
        """
        return repair.repair(self._database, self._blobs)

    def _rejected(self, version: Version) -> Conflict:
        name = f"{version.model}:{version.number}"
        failed = _failed(self.bundle(version).manifest.evaluation)
        return Conflict(
            "rejected_version",
            f"{name} did not pass its gate: {failed}; train a better one, or deploy it with force",
            field="version",
        )


def _record(
    connection: Connection,
    model: str,
    bundle: Bundle,
    files: list[dict[str, Any]],
    actor: str,
    reason: str,
) -> Version:
    digest = bundle.digest
    existing = queries.find_digest(connection, model, digest)
    if existing is not None:
        return existing
    now = datetime.datetime.now(datetime.UTC)
    last = connection.execute(
        select(func.max(versions.c.number)).where(versions.c.model == model)
    ).scalar()
    if last is None:
        connection.execute(insert(models).values(name=model, created=now))
    # The bundle names one model, so no other version can have brought this digest.
    connection.execute(insert(bundles).values(digest=digest, files=files, created=now))
    number = (last or 0) + 1
    verdict = bundle.manifest.evaluation.verdict
    state: State = "rejected" if verdict == "failed" else "accepted"
    connection.execute(
        insert(versions).values(
            model=model, number=number, digest=digest, state=state, created=now, actor=actor
        )
    )
    details = {"digest": digest, "state": state}
    _audit(connection, "publish", model, number, actor, reason, details)
    return queries.find_version(connection, model, number)


def _routed(
    connection: Connection, action: str, model: str, previous: Route | None, actor: str, reason: str
) -> Route:
    route = queries.get_route(connection, model)
    details = {
        "generation": route.generation,
        "previous": previous.number if previous is not None else None,
    }
    _audit(connection, action, model, route.number, actor, reason, details)
    return route


def _audit(
    connection: Connection,
    action: str,
    model: str,
    number: int,
    actor: str,
    reason: str,
    details: dict[str, Any],
) -> None:
    connection.execute(
        insert(audit).values(
            at=datetime.datetime.now(datetime.UTC),
            actor=actor,
            action=action,
            model=model,
            number=number,
            reason=reason,
            details=details,
        )
    )


def _failed(evaluation: Evaluation) -> str:
    failed = [_describe(threshold) for threshold in evaluation.thresholds if not threshold.passed]
    return ", ".join(failed) or "its evaluation says so"


def _describe(threshold: Threshold) -> str:
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", threshold.minimum), ("at most", threshold.maximum))
        if bound is not None
    ]
    wanted = " and ".join(bounds)
    return f"{threshold.metric} on {threshold.dataset} is {threshold.value:g}, not {wanted}"


def _changed(path: str) -> DamagedBundle:
    return DamagedBundle(
        "damaged_bundle",
        f"'{path}' is gone or was changed since the bundle was built; build it again",
        field=path,
    )
