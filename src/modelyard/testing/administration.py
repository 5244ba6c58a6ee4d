"""What an administration must do, wherever it is. Subclass it in a test, and give it a `place`."""

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelyard.bundle.archive import export_bundle, verify_archive
from modelyard.core.administration import (
    access,
    approvals,
    audit,
    limits,
    models,
    payloads,
    routes,
    rules,
    servers,
    usage,
)
from modelyard.core.administration.port import Administration, every
from modelyard.core.errors import Conflict, Denied, Invalid, ModelyardError, NotFound
from modelyard.core.policy import Policy
from modelyard.core.records import Version
from modelyard.core.route import Shadow, Target
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle


@dataclass(frozen=True, slots=True)
class Place:
    """An administration, and the registry behind it."""

    administration: Administration
    registry: Registry


class AdministrationSuite(ABC):
    """The administration's conformance suite: the same here and over the network."""

    @pytest.fixture
    @abstractmethod
    def place(self, tmp_path: Path) -> Iterator[Place]:
        """An administration of an empty registry."""

    @pytest.fixture
    def administration(self, place: Place) -> Administration:
        """That of the place."""
        return place.administration

    def test_a_published_archive_is_a_version(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """What is published is listed, described, and comes back byte for byte."""
        archive = _archive(tmp_path, "churn", b"one")
        version = administration.publish(models.Publish(reason="first"), archive)
        assert (version.model, version.number, version.state) == ("churn", 1, "accepted")
        assert administration.publish(models.Publish(), archive) == version
        assert administration.do(models.GetVersion(reference="churn")) == version
        assert administration.do(models.ListVersions(model="churn")).items == (version,)
        [listed] = administration.do(models.ListModels()).items
        assert listed == administration.do(models.GetModel(model="churn"))
        manifest = administration.do(models.GetManifest(reference="churn:1"))
        assert manifest["name"] == "churn"
        whole = administration.do(models.VerifyVersion(reference="churn:1"))
        assert whole.digest == version.digest
        assert whole.files == len(manifest["files"])
        administration.export(models.Export(reference="churn:1"), tmp_path / "back.tar")
        assert (tmp_path / "back.tar").read_bytes() == archive.read_bytes()

    def test_a_damaged_archive_is_refused(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """Nothing is published of it."""
        archive = _archive(tmp_path, "churn", b"one")
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 1
        archive.write_bytes(data)
        with pytest.raises(ModelyardError) as refused:
            administration.publish(models.Publish(), archive)
        assert refused.value.code in ("damaged_bundle", "bad_manifest")
        assert administration.do(models.ListModels()).items == ()

    def test_what_is_not_there_is_not_found(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """The error says what there is instead, and no file is left behind."""
        _publish(administration, tmp_path, "churn", b"one")
        with pytest.raises(NotFound, match="did you mean 'churn'") as error:
            administration.do(models.ListVersions(model="churm"))
        assert (error.value.code, error.value.field) == ("unknown_model", "model")
        with pytest.raises(NotFound):
            administration.export(models.Export(reference="churn:7"), tmp_path / "none.tar")
        assert not (tmp_path / "none.tar").exists()
        with pytest.raises(NotFound):
            administration.do(routes.GetRoute(model="churn"))

    def test_routes_are_changed_and_changed_back(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """Deploy, canary, shadow, options, promote, roll back, undeploy."""
        for content in (b"one", b"two"):
            _publish(administration, tmp_path, "churn", content)
        do = administration.do
        first = do(routes.Deploy(model="churn", number=1, reason="because"))
        assert first.targets == (Target(1),)
        assert do(routes.GetRoute(model="churn")) == first
        canary = do(routes.Deploy(model="churn", number=2, canary=10.0, sticky="x-user"))
        assert canary.targets == (Target(1, 90.0), Target(2, 10.0))
        assert do(routes.Promote(model="churn")).targets == (Target(2),)
        assert do(routes.Rollback(model="churn")).targets == canary.targets
        shadowed = do(routes.Deploy(model="churn", number=2, shadow=50.0))
        assert (shadowed.targets, shadowed.shadow) == ((Target(1),), Shadow(2, 50.0))
        tuned = do(routes.Deploy(model="churn", options={"p99_ms": 20, "lanes": 2}))
        assert (tuned.options.p99_ms, tuned.options.lanes) == (20.0, 2)
        assert do(routes.Deploy(model="churn", options={"lanes": None})).options.lanes is None
        assert [route.model for route in every(administration, routes.ListRoutes())] == ["churn"]
        history = do(models.ListRouteChanges(model="churn")).items
        assert [change.action for change in history][:4] == [
            "deploy",
            "canary",
            "promote",
            "rollback",
        ]
        assert history[0].reason == "because"
        assert do(routes.Undeploy(model="churn")).number is None
        with pytest.raises(Conflict):
            do(routes.Undeploy(model="churn"))
        assert do(routes.Follow(model="churn", patience_s=0.0)).reasons == ()

    def test_a_roll_out_begins(self, administration: Administration, tmp_path: Path) -> None:
        """Its plan comes back as it was given."""
        for content in (b"one", b"two"):
            _publish(administration, tmp_path, "churn", content)
        administration.do(routes.Deploy(model="churn", number=1))
        begun = administration.do(
            routes.RollOut(
                model="churn", number=2, steps=(1.0, 100.0), guards=("error_rate<=0.1%",)
            )
        )
        assert (begun.stable, begun.candidate, begun.plan.steps) == (1, 2, (1.0, 100.0))
        [listed] = administration.do(routes.ListRollouts(model="churn")).items
        assert listed.plan == begun.plan
        with pytest.raises(Invalid):
            administration.do(routes.RollOut(model="churn", number=2, steps=(50.0,)))

    def test_an_alias_names_a_version(self, administration: Administration, tmp_path: Path) -> None:
        """It is set, read, and resolved."""
        version = _publish(administration, tmp_path, "churn", b"one")
        named = administration.do(models.SetAlias(model="churn", alias="champion", number=1))
        assert administration.do(models.GetAlias(model="churn", alias="champion")) == named
        resolved = administration.do(models.GetVersion(reference="churn@champion"))
        assert resolved.digest == version.digest

    def test_pages_are_stable_under_inserts(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """What comes between two pages neither repeats nor hides anything."""
        for name in ("b", "d", "f"):
            _publish(administration, tmp_path, name, b"one")
        first = administration.do(models.ListModels(limit=2))
        assert [each.name for each in first.items] == ["b", "d"]
        assert first.next is not None
        for name in ("a", "e"):
            _publish(administration, tmp_path, name, b"one")
        second = administration.do(models.ListModels(limit=2, cursor=first.next))
        assert [each.name for each in second.items] == ["e", "f"]
        assert second.next is None
        assert len(list(every(administration, models.ListModels(limit=1)))) == 5
        for wrong in ({"cursor": "!"}, {"cursor": "MQ"}, {"limit": 0}, {"limit": 1001}):
            with pytest.raises(Invalid):
                administration.do(models.ListModels(**wrong))

    def test_keys_come_and_go(self, administration: Administration) -> None:
        """A key is made, seen without its secret, rotated and revoked."""
        do = administration.do
        made = do(
            access.CreateKey(name="scorer", models=("churn*",), verbs=("call",), lifetime_s=60.0)
        )
        assert made.text.startswith(f"my_{made.record.id}_")
        assert do(access.GetKey(id=made.record.id)) == made.record
        again = do(access.RotateKey(id=made.record.id, overlap_s=30.0))
        assert again.record.replaces == made.record.id
        assert do(access.RevokeKey(id=again.record.id)).state == "revoked"
        listed = list(every(administration, access.ListKeys(limit=1)))
        assert {made.record.id, again.record.id} <= {each.id for each in listed}
        with pytest.raises(Invalid):
            do(access.CreateKey(name="odd", role="emperor"))
        with pytest.raises(NotFound):
            do(access.GetKey(id="nobody"))

    def test_tenants_and_identities_come_and_go(self, administration: Administration) -> None:
        """A tenant, and who a certificate makes somebody."""
        do = administration.do
        tenant = do(access.CreateTenant(name="acme", models=("churn*",)))
        assert do(access.GetTenant(name="acme")) == tenant
        assert do(access.SetTenant(name="acme", models=("*",))).models == ("*",)
        mapping = do(
            access.AddIdentity(source="certificate", claims=(("subject", "CN=a"),), tenant="acme")
        )
        assert do(access.ListIdentities()).items == (mapping,)
        assert do(access.RemoveIdentity(id=mapping.id)).removed == mapping.id
        assert do(access.RemoveTenant(name="acme")).removed == "acme"
        assert "acme" not in [each.name for each in do(access.ListTenants()).items]

    def test_limits_tariffs_and_usage_are_told(self, administration: Administration) -> None:
        """Each is set, listed, and removed."""
        do = administration.do
        limit = do(limits.SetLimit(kind="quota", amount=1000, models="churn*", period="day"))
        assert do(limits.GetLimit(id=limit.id)) == limit
        assert [each.limit for each in do(limits.ListLimits()).items] == [limit]
        assert do(limits.RemoveLimit(id=limit.id)).removed == limit.id
        tariff = do(rules.SetTariff(models="churn*", unit="row", price="0.0004"))
        assert do(rules.ListTariffs()) == (tariff,)
        assert do(rules.RemoveTariff(models="churn*")).removed == "churn*"
        report = do(usage.ReportUsage(by=("tenant", "model")))
        assert report.lines == ()
        assert list(administration.lines(usage.ListUsageEvents())) == []
        assert do(usage.ReconcileUsage()).differences == ()

    def test_the_policy_changes_as_a_whole(self, administration: Administration) -> None:
        """Its number grows, and what was made from an older one is refused."""
        before = administration.do(rules.GetPolicy())
        wanted = Policy(formats=("onnx",), audit_calls=("churn*",))
        after = administration.do(rules.SetPolicy(policy=wanted))
        assert after.policy == wanted
        assert after.number > before.number
        assert administration.do(rules.GetPolicy()) == after
        with pytest.raises(Conflict):
            administration.do(rules.SetPolicy(policy=Policy(), expected=before.number))

    def test_a_second_person_must_approve_where_the_policy_says_so(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """What is asked for waits, and who asked cannot approve it, but take it back."""
        do = administration.do
        _publish(administration, tmp_path, "churn", b"one")
        do(rules.SetPolicy(policy=Policy(four_eyes=("churn*",))))
        with pytest.raises(Conflict) as waits:
            do(routes.Deploy(model="churn", number=1, reason="because"))
        assert waits.value.code == "approval_needed"
        [asked] = every(administration, approvals.ListApprovals())
        assert (asked.model, asked.change.number, asked.asked_reason) == ("churn", 1, "because")
        assert do(approvals.GetApproval(number=asked.id)) == asked
        with pytest.raises(Denied):
            do(approvals.Approve(number=asked.id))
        assert do(approvals.Reject(number=asked.id, reason="no")).state == "rejected"
        assert do(approvals.ListApprovals()).items == ()
        assert do(approvals.ListApprovals(everything=True)).items[0].decided_reason == "no"
        assert do(routes.ListRoutes()).items == ()

    def test_what_answered_when_is_told(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """Era by era, and with its evidence for a moment."""
        _publish(administration, tmp_path, "churn", b"one")
        administration.do(routes.Deploy(model="churn", number=1))
        [era] = administration.do(approvals.ListEras(model="churn")).items
        assert era.until is None
        told = administration.do(approvals.GetEra(model="churn", at=era.since))
        assert [each.version for each in told.evidence] == [1]
        with pytest.raises(NotFound):
            administration.do(
                approvals.GetEra(model="churn", at=era.since - datetime.timedelta(days=1))
            )

    def test_payloads_and_signatures_are_asked_for(
        self, administration: Administration, tmp_path: Path
    ) -> None:
        """Where there are none, that is told, and looking is audited."""
        do = administration.do
        _publish(administration, tmp_path, "churn", b"one")
        assert do(models.ListSignatures(reference="churn:1")) == ()
        with pytest.raises(ModelyardError):
            do(models.AddSignature(reference="churn:1", content=b"no signature"))
        assert do(payloads.ListPayloads(subject="somebody")).items == ()
        assert list(administration.lines(payloads.ExportPayloads())) == []
        assert do(payloads.ErasePayloads(subject="somebody")).payloads == 0
        assert do(payloads.SweepPayloads()).deleted == 0
        with pytest.raises(NotFound):
            do(payloads.GetPayload(id=7))
        rows = every(administration, audit.ListAudit(kind="payload"))
        assert {"list_payloads", "export_payloads", "erase_payloads"} <= {
            row.action for row in rows
        }

    def test_everything_is_audited(self, administration: Administration, tmp_path: Path) -> None:
        """Newest first, in pages, proven, and taken away as lines."""
        _publish(administration, tmp_path, "churn", b"one")
        administration.do(routes.Deploy(model="churn", reason="because"))
        rows = list(every(administration, audit.ListAudit(model="churn", limit=1)))
        assert [row.action for row in rows] == ["deploy", "publish"]
        assert rows[0].reason == "because"
        verdict = administration.do(audit.VerifyAudit())
        assert verdict.is_whole
        assert verdict.rows >= 2
        lines = list(administration.lines(audit.ExportAudit()))
        assert len(lines) >= verdict.rows
        assert all(line.endswith(b"\n") for line in lines)

    def test_who_asks_is_known(self, administration: Administration) -> None:
        """And what they may."""
        who = administration.do(servers.WhoAmI())
        assert who.name
        assert "admin" in who.verbs
        assert administration.do(servers.Status()) == ()


def _archive(folder: Path, name: str, content: bytes) -> Path:
    target = folder / f"{name}-{content.decode()}.tar"
    if not target.exists():
        bundle = make_bundle(folder / f"bundle-{name}-{content.decode()}", name=name, model=content)
        export_bundle(bundle, target)
    verify_archive(target)
    return target


def _publish(administration: Administration, folder: Path, name: str, content: bytes) -> Version:
    return administration.publish(models.Publish(), _archive(folder, name, content))
