"""The registry: which models, versions, aliases and routes there are, and who made them so."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.keyring import Keyring
from modelyard.bundle.manifest import MANIFEST_PATH, Evaluation, Threshold
from modelyard.bundle.trust import ANYTHING, Trust, check_kind, check_policy
from modelyard.core.approval import Change
from modelyard.core.errors import Conflict, DamagedBundle, Invalid, NotFound, Unavailable
from modelyard.core.history import Era
from modelyard.core.identity import Actor, as_actor
from modelyard.core.names import Reference, check_name
from modelyard.core.options import change_options, check_header
from modelyard.core.ports import BlobStore
from modelyard.core.records import AuditRow, Finding, Model, RouteChange, State, Version
from modelyard.core.rollout import Plan, Rollout
from modelyard.core.route import Route, Target
from modelyard.core.rules import Rules
from modelyard.registry import queries, repair, rollouts, routing
from modelyard.registry.access import read_rules
from modelyard.registry.approvals import ApprovalBook, make_or_ask
from modelyard.registry.audit import AuditBook
from modelyard.registry.auditing import audit_route, route_state, write_audit
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.database import Database, unnamed
from modelyard.registry.history import find_era, list_eras
from modelyard.registry.keys import KeyBook
from modelyard.registry.leases import LeaseBook
from modelyard.registry.limits import LimitBook
from modelyard.registry.mappings import MappingBook
from modelyard.registry.payload_keys import PayloadKeys
from modelyard.registry.payloads import PayloadBook
from modelyard.registry.policies import PolicyBook, find_policy
from modelyard.registry.repeats import RepeatBook
from modelyard.registry.rollouts import RolloutBook
from modelyard.registry.signatures import SignatureBook, add_signature, list_signatures
from modelyard.registry.tables import aliases, bundles, models, versions
from modelyard.registry.tariffs import TariffBook
from modelyard.registry.tenants import TenantBook
from modelyard.registry.usage import UsageBook
from modelyard.registry.vault import Vault


class Registry:
    """Models in SQL, their bundles in a blob store. May be used from many threads.

    Every change is one transaction with its audit row in it, and writers take turns, so that
    others see all of a change or nothing.
    """

    def __init__(
        self, database: Database, blobs: BlobStore, payload_keys: PayloadKeys | None = None
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._payload_keys = payload_keys

    @staticmethod
    def open(
        url: str,
        blobs: BlobStore,
        *,
        node: Callable[[], str] = unnamed,
        payload_keys: PayloadKeys | None = None,
        is_down: bool = False,
    ) -> "Registry":
        """Open the registry at a SQLAlchemy URL, made or brought up to date where needed.

        One that `is_down` is opened when it first answers, and until then raises `Unavailable`.
        `node` is asked, at the first change, on whose chain the audit's rows are hung. Without
        `payload_keys` it keeps no payloads.
        """
        database = Database.open(url, node, is_down=is_down)
        return Registry(database, blobs, payload_keys)

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

    def publish(self, bundle: Bundle, *, actor: str | Actor, reason: str = "") -> Version:
        """Make the bundle the next version of the model that its manifest names.

        Rejected where the gate failed. A bundle that is a version already gives that version, and
        its blobs are written again, which mends them. Its signatures are kept, whoever made them.
        Raises `DamagedBundle`, `Exhausted`, and `Denied` where the policy allows no such model.
        """
        model = check_name(bundle.manifest.name)
        check_kind(bundle.manifest, Trust.of(self.policies.get().policy))
        # Blobs first, one transaction last: a death in between leaves blobs that nobody refers to.
        with self._blobs.hold():
            files = self._put(bundle)
            with self._database.write() as connection:
                version = _record(connection, model, bundle, files, actor, reason)
                for signature in bundle.signatures:
                    add_signature(connection, version, bundle.manifest, signature, actor, reason)
                return version

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
        """A version's bundle with its signatures; its manifest verified, its files not yet."""
        with self._database.read() as connection:
            return self._bundle(connection, version)

    def _bundle(self, connection: Connection, version: Version) -> Bundle:
        try:
            bundle = Bundle.from_store(self._blobs, version.digest)
        except NotFound:
            raise DamagedBundle(
                "damaged_bundle",
                f"the manifest of {version.model}:{version.number} is missing from the blob store; "
                "publish the same bundle again or import it from a good copy",
                field=MANIFEST_PATH,
            ) from None
        present = list_signatures(connection, version.digest)
        return dataclasses.replace(bundle, signatures=tuple(each.content for each in present))

    def set_alias(
        self, model: str, alias: str, number: int, *, actor: str | Actor, reason: str = ""
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
            write_audit(
                connection,
                action="set_alias",
                actor=actor,
                kind="model",
                subject=model,
                reason=reason,
                model=model,
                number=number,
                before=None if previous is None else {"alias": alias, "version": previous},
                after={"alias": alias, "version": number},
            )

    def deploy(
        self,
        model: str,
        number: int | None = None,
        *,
        actor: str | Actor,
        canary: float | None = None,
        shadow: float | None = None,
        sticky: str | None = None,
        options: Mapping[str, object] | None = None,
        force: bool = False,
        reason: str = "",
    ) -> Route:
        """Route a model's calls to a version, by default the newest that passed its gate.

        With `canary`, only that percent of the calls go there; with `shadow`, it gets a copy of
        that percent of them. `sticky` names the header that keeps a caller on one version.
        `options` sets some (None unsets one); they and `sticky` stay until they are set again, and
        without a version they alone are changed. A rejected version raises `Conflict`, unless
        `force`, which the audit shows. Deploying what is routed changes nothing. A running
        roll-out is stopped. Where the policy asks for a second person, what was asked for waits,
        and `ApprovalNeeded` is raised.
        """
        with self._database.write() as connection:
            present = queries.find_route(connection, model)
            alone = number is None and canary is None and shadow is None
            if present is not None and alone and not (sticky is None and options is None):
                version = queries.find_version(connection, model, present.number)
                planned = present
            else:
                version = _choose(connection, model, number)
                planned = _place(present, model, version.number, canary, shadow)
            planned = _adjusted(planned, sticky, options)
            if present is not None and planned.says(present):
                return present
            same = present is not None and (planned.targets, planned.shadow) == (
                present.targets,
                present.shadow,
            )
            verb = "options" if same else _verb(planned)
            action = verb if same else self._allowed(connection, version, verb, force)
            change = Change(action=action, number=version.number, route=planned)
            return make_or_ask(connection, change, actor=actor, reason=reason)

    def promote(
        self, model: str, *, actor: str | Actor, force: bool = False, reason: str = ""
    ) -> Route:
        """Route all calls to the canary, or else to the shadow; raises `Conflict` without one.

        A rejected version needs `force`, as `deploy` does. A running roll-out is stopped.
        """
        with self._database.write() as connection:
            present = _present(connection, model)
            planned = present.promoted()
            version = queries.find_version(connection, model, planned.number)
            action = self._allowed(connection, version, "promote", force)
            change = Change(action=action, number=version.number, route=planned)
            return make_or_ask(connection, change, actor=actor, reason=reason)

    def rollback(self, model: str, *, actor: str | Actor, reason: str = "") -> Route:
        """Return to the route before the present one, whatever it was; raises `Conflict`.

        Repeated, it walks further back, to the first deploy. A running roll-out is stopped, and
        the route before it returns. Raises `Denied` where the policy no longer lets it in.
        """
        with self._database.write() as connection:
            queries.list_versions(connection, model)
            present = queries.find_route(connection, model)
            rollouts.stop(connection, model, "rollback", actor)
            route = routing.rollback(connection, model, actor=actor, reason=reason)
            for number in route.versions:
                self._check_policy(connection, queries.find_version(connection, model, number))
            audit_route(connection, "rollback", route, present, route.number, actor, reason)
            return route

    def undeploy(self, model: str, *, actor: str | Actor, reason: str = "") -> None:
        """Take a model's route away; raises `Conflict` where there is none."""
        with self._database.write() as connection:
            route = _present(connection, model)
            rollouts.stop(connection, model, "undeploy", actor)
            generation = routing.undeploy(connection, route, actor=actor, reason=reason)
            write_audit(
                connection,
                action="undeploy",
                actor=actor,
                kind="model",
                subject=model,
                reason=reason,
                model=model,
                number=route.number,
                before=route_state(route),
                details={"generation": generation},
            )

    def roll_out(
        self,
        model: str,
        number: int | None = None,
        *,
        plan: Plan,
        actor: str | Actor,
        sticky: str | None = None,
        options: Mapping[str, object] | None = None,
        force: bool = False,
        reason: str = "",
    ) -> Rollout:
        """Begin to move a model's calls to a version step by step; raises as `deploy` does.

        Servers move it further, or roll it back where a guard breaks. One that runs is stopped.
        """
        with self._database.write() as connection:
            present = _present(connection, model)
            version = _choose(connection, model, number)
            base = _adjusted(present.only(present.number), sticky, options)
            action = self._allowed(connection, version, "rollout", force)
            change = Change(action=action, number=version.number, route=base, plan=plan)
            make_or_ask(connection, change, actor=actor, reason=reason)
            return rollouts.newest(connection, model)

    @property
    def rollouts(self) -> RolloutBook:
        """The progressive roll-outs, for the servers that move them and for who looks on."""
        return RolloutBook(self._database)

    @property
    def payloads(self) -> PayloadBook:
        """The captured payloads; raises `Unavailable` where nobody gave keys for them."""
        if self._payload_keys is None:
            raise Unavailable("no_payload_keys", "this registry was opened without a home's keys")
        return PayloadBook(self._database, self._payload_keys)

    @property
    def approvals(self) -> ApprovalBook:
        """The changes that wait for a second person, and those that were decided."""
        return ApprovalBook(self._database, self._check_policy)

    def vault(self, blobs: LocalBlobStore, keys: Keyring) -> Vault:
        """The encryption of the store that it has its files in."""
        return Vault(self._database, blobs, self.payloads, keys)

    @property
    def tenants(self) -> TenantBook:
        """The tenants."""
        return TenantBook(self._database)

    @property
    def keys(self) -> KeyBook:
        """The API keys."""
        return KeyBook(self._database)

    @property
    def mappings(self) -> MappingBook:
        """The identity mappings."""
        return MappingBook(self._database)

    def rules(self, known: int | None = None) -> Rules | None:
        """All that a gate goes by; None where its sequence is `known`: one cheap look."""
        with self._database.read() as connection:
            return read_rules(connection, known)

    @property
    def signatures(self) -> SignatureBook:
        """The signatures of bundles."""
        return SignatureBook(self._database)

    @property
    def tariffs(self) -> TariffBook:
        """By what calls are metered and priced."""
        return TariffBook(self._database)

    @property
    def limits(self) -> LimitBook:
        """How much may be called, and how quotas stand."""
        return LimitBook(self._database)

    @property
    def leases(self) -> LeaseBook:
        """The parts of quotas that nodes hold."""
        return LeaseBook(self._database)

    @property
    def usage(self) -> UsageBook:
        """What calls have used."""
        return UsageBook(self._database)

    @property
    def policies(self) -> PolicyBook:
        """The home's policy."""
        return PolicyBook(self._database)

    @property
    def repeats(self) -> RepeatBook:
        """Requests that may be sent again, and are done once all the same."""
        return RepeatBook(self._database)

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

    def audit(
        self, *, model: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[AuditRow]:
        """Who changed what, newest first; only rows with a smaller id than `before`."""
        return self.trail.rows(model=model, limit=limit, before=before)

    def history(self, model: str) -> list[Era]:
        """What answered a model's calls since when, oldest first; raises `NotFound`."""
        with self._database.read() as connection:
            return list_eras(connection, model)

    def answering(self, model: str, at: datetime.datetime) -> Era:
        """What answered a model's calls at a moment: by whom, and on which evidence.

        Raises `NotFound` for a moment before the first deploy, `Invalid` for one yet to come.
        """
        with self._database.read() as connection:
            return find_era(connection, model, at, partial(self._evaluation, connection))

    @property
    def trail(self) -> AuditBook:
        """The audit trail: its rows, its checkpoints, and its proof."""
        return AuditBook(self._database)

    def check(self) -> list[Finding]:
        """Leftovers, and missing or damaged blobs of known versions; reads every byte of them."""
        return repair.check(self._database, self._blobs)

    def repair(self) -> list[Finding]:
        """Collect the leftovers of publishes that died; never what a running one has put.

        Raises `Conflict` while a publish runs.
        """
        return repair.repair(self._database, self._blobs)

    def _allowed(self, connection: Connection, version: Version, verb: str, force: bool) -> str:
        """The verb as the audit shows it; raises `Conflict` for a rejected version, unforced, and
        `Denied` for one that the policy does not let in, forced or not."""
        self._check_policy(connection, version)
        if version.state != "rejected":
            return verb
        if not force:
            raise self._rejected(connection, version)
        return f"{verb}_forced"

    def _check_policy(self, connection: Connection, version: Version) -> None:
        trust = Trust.of(find_policy(connection).policy)
        if trust != ANYTHING:
            bundle = self._bundle(connection, version)
            check_policy(bundle.manifest, bundle.signatures, trust)

    def _evaluation(self, connection: Connection, version: Version) -> Mapping[str, Any] | None:
        try:
            evaluation = self._bundle(connection, version).manifest.evaluation
        except DamagedBundle:
            return None
        plain: Mapping[str, Any] = msgspec.to_builtins(evaluation)
        return plain

    def _rejected(self, connection: Connection, version: Version) -> Conflict:
        name = f"{version.model}:{version.number}"
        failed = _failed(self._bundle(connection, version).manifest.evaluation)
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
    actor: str | Actor,
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
            model=model,
            number=number,
            digest=digest,
            state=state,
            created=now,
            actor=as_actor(actor).name,
        )
    )
    write_audit(
        connection,
        action="publish",
        actor=actor,
        kind="model",
        subject=model,
        reason=reason,
        model=model,
        number=number,
        after={"digest": digest, "state": state},
    )
    return queries.find_version(connection, model, number)


def _choose(connection: Connection, model: str, number: int | None) -> Version:
    if number is None:
        return queries.newest_accepted(connection, model)
    return queries.find_version(connection, model, number)


def _present(connection: Connection, model: str) -> Route:
    queries.list_versions(connection, model)
    route = queries.find_route(connection, model)
    if route is None:
        raise Conflict("not_deployed", f"'{model}' is not deployed", field="model")
    return route


def _place(
    present: Route | None, model: str, number: int, canary: float | None, shadow: float | None
) -> Route:
    """The route with that version in its place, whatever its options."""
    if canary is not None and shadow is not None:
        raise Invalid(
            "canary_and_shadow", "a version is a canary or a shadow, not both", field="shadow"
        )
    if canary is None and shadow is None:
        base = present or Route(model=model, generation=0, targets=(Target(number),))
        return base.only(number)
    if present is None:
        raise Conflict(
            "not_deployed",
            f"'{model}' is not deployed: a {'shadow' if canary is None else 'canary'} needs a "
            f"version beside it that answers; deploy that one first",
            field="model",
        )
    if canary is not None:
        return present.with_canary(number, canary)
    return present.with_shadow(number, 100.0 if shadow is None else shadow)


def _adjusted(route: Route, sticky: str | None, options: Mapping[str, object] | None) -> Route:
    return dataclasses.replace(
        route,
        sticky=route.sticky if sticky is None else check_header(sticky),
        options=change_options(route.options, options or {}),
    )


def _verb(route: Route) -> str:
    if route.canary is not None:
        return "canary"
    return "deploy" if route.shadow is None else "shadow"


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
