"""What a registry must do on every database. Subclass it in a test, and give it a `registry`."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.core.errors import Conflict, DamagedBundle, Invalid, NotFound
from modelyard.core.names import Reference
from modelyard.core.route import Target
from modelyard.registry.registry import Registry
from modelyard.registry.values import Problem, Version
from modelyard.testing.bundles import make_bundle


def publish(
    registry: Registry, folder: Path, *, name: str = "churn", passed: bool | None = None
) -> Version:
    """Publish a bundle unlike all others under `folder`."""
    number = sum(1 for _ in folder.glob("bundle-*"))
    bundle = make_bundle(
        folder / f"bundle-{number}", name=name, model=f"{number}".encode(), passed=passed
    )
    return registry.publish(bundle, actor="ann", reason="because")


class RegistrySuite(ABC):
    """The registry's conformance suite."""

    @pytest.fixture
    @abstractmethod
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        """An empty registry."""

    def test_an_empty_registry_says_so(self, registry: Registry) -> None:
        """Nothing is listed, and what is asked for is not found."""
        assert registry.models() == []
        assert registry.routes() == []
        assert registry.generation() == 0
        assert registry.audit() == []
        assert registry.check() == []
        with pytest.raises(NotFound, match="nothing was published yet"):
            registry.resolve(Reference("churn"))

    def test_a_published_bundle_comes_back(self, registry: Registry, tmp_path: Path) -> None:
        """The version is number 1, and its bundle has the same digest and bytes."""
        bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
        version = registry.publish(bundle, actor="ann")
        assert (version.model, version.number, version.state) == ("churn", 1, "accepted")
        assert version.digest == bundle.digest
        assert version.created.utcoffset() is not None
        again = registry.bundle(version)
        again.verify()
        assert again.manifest == bundle.manifest
        assert again.read("notes.md") == b"hello"

    def test_numbers_are_consecutive_for_each_model(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Every model counts for itself."""
        names = ["churn", "churn", "iris", "churn"]
        numbers = [publish(registry, tmp_path, name=name).number for name in names]
        assert numbers == [1, 2, 1, 3]
        assert [version.number for version in registry.versions("churn")] == [1, 2, 3]
        assert [(model.name, model.latest) for model in registry.models()] == [
            ("churn", 3),
            ("iris", 1),
        ]

    def test_publishing_the_same_bundle_again_gives_the_same_version(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Publish is idempotent, and what did not happen is not audited."""
        bundle = make_bundle(tmp_path / "b")
        first = registry.publish(bundle, actor="ann")
        assert registry.publish(bundle, actor="bob") == first
        assert len(registry.versions("churn")) == 1
        assert len(registry.audit()) == 1

    def test_a_file_changed_after_building_is_refused(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The file at fault is named, and nothing is published."""
        bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
        (tmp_path / "b" / "notes.md").write_bytes(b"other")
        with pytest.raises(DamagedBundle) as caught:
            registry.publish(bundle, actor="ann")
        assert caught.value.field == "notes.md"
        (tmp_path / "b" / "notes.md").unlink()
        with pytest.raises(DamagedBundle):
            registry.publish(bundle, actor="ann")
        assert registry.models() == []

    def test_leftovers_are_named_and_collected(self, registry: Registry, tmp_path: Path) -> None:
        """Blobs of a publish that did not end are found, and go; those of versions stay."""
        version = publish(registry, tmp_path)
        bundle = make_bundle(tmp_path / "b", files={"a.md": b"put", "z.md": b"gone"})
        (tmp_path / "b" / "z.md").unlink()
        with pytest.raises(DamagedBundle):
            registry.publish(bundle, actor="ann")
        findings = registry.check()
        assert {finding.problem for finding in findings} == {Problem.UNREFERENCED_BLOB}
        assert len(findings) == 2
        assert registry.repair() == findings
        assert registry.check() == []
        registry.bundle(version).verify()

    def test_references_resolve(self, registry: Registry, tmp_path: Path) -> None:
        """A number, an alias, and a bare model: routed before newest accepted."""
        for passed in (True, True, False):
            publish(registry, tmp_path, passed=passed)
        registry.set_alias("churn", "champion", 1, actor="ann")

        def number(text: str) -> int:
            return registry.resolve(Reference.parse(text)).number

        assert number("churn") == 2
        assert number("churn:3") == 3
        assert number("churn@champion") == 1
        registry.deploy("churn", 1, actor="ann")
        assert number("churn") == 1
        assert registry.resolve(Reference("churn")).aliases == ("champion",)

    def test_what_does_not_resolve_says_what_there_is(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The message names the nearest model, the versions, or the aliases."""
        publish(registry, tmp_path)
        publish(registry, tmp_path, passed=False, name="iris")
        for text, words in (
            ("chrun", "did you mean 'churn'"),
            ("zzz", "there are churn, iris"),
            ("churn:2", "it has version 1"),
            ("churn@champion", "it has none"),
            ("iris", "no version of 'iris' passed its gate"),
        ):
            with pytest.raises(NotFound, match=words):
                registry.resolve(Reference.parse(text))
        registry.set_alias("churn", "best", 1, actor="ann")
        with pytest.raises(NotFound, match="it has best"):
            registry.resolve(Reference.parse("churn@champion"))

    def test_an_alias_moves(self, registry: Registry, tmp_path: Path) -> None:
        """Setting it again points it elsewhere; versions and models show it; both are audited."""
        publish(registry, tmp_path)
        publish(registry, tmp_path)
        registry.set_alias("churn", "champion", 1, actor="ann")
        registry.set_alias("churn", "champion", 2, actor="bob", reason="better")
        registry.set_alias("churn", "champion", 2, actor="bob")
        assert [version.aliases for version in registry.versions("churn")] == [(), ("champion",)]
        assert registry.models()[0].aliases == {"champion": 2}
        rows = [row for row in registry.audit() if row.action == "set_alias"]
        assert [(row.actor, row.number, row.details["previous"]) for row in rows] == [
            ("bob", 2, 1),
            ("ann", 1, None),
        ]
        with pytest.raises(NotFound):
            registry.set_alias("churn", "champion", 3, actor="ann")
        with pytest.raises(Invalid):
            registry.set_alias("churn", "not a name", 1, actor="ann")

    def test_deploy_routes_the_newest_accepted_version(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Without a number, rejected versions are passed over."""
        for passed in (None, True, False):
            publish(registry, tmp_path, passed=passed)
        route = registry.deploy("churn", actor="ann", reason="go")
        assert (route.number, route.targets) == (2, (Target(2),))
        assert registry.routes() == [route]
        assert registry.generation() == route.generation > 0
        assert registry.models()[0].routed == 2

    def test_a_rejected_version_needs_force_and_force_is_audited(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The refusal names the failed thresholds; the audit tells a forced deploy from others."""
        publish(registry, tmp_path, passed=False)
        assert registry.versions("churn")[0].state == "rejected"
        with pytest.raises(
            Conflict, match=r"accuracy on test is 0\.5, not at least 0\.8"
        ) as caught:
            registry.deploy("churn", 1, actor="ann")
        assert caught.value.code == "rejected_version"
        with pytest.raises(NotFound):
            registry.deploy("churn", actor="ann")
        assert registry.generation() == 0
        registry.deploy("churn", 1, actor="ann", force=True, reason="an emergency")
        newest = registry.audit()[0]
        assert (newest.action, newest.reason) == ("deploy_forced", "an emergency")
        assert registry.route_history("churn")[0].action == "deploy_forced"

    def test_force_on_an_accepted_version_is_a_plain_deploy(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """What was not needed is not audited as used."""
        publish(registry, tmp_path, passed=True)
        registry.deploy("churn", actor="ann", force=True)
        assert registry.audit()[0].action == "deploy"

    def test_deploying_the_routed_version_changes_nothing(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """No generation, no history, no audit; a rollback is not caught by it."""
        publish(registry, tmp_path)
        route = registry.deploy("churn", actor="ann")
        assert registry.deploy("churn", 1, actor="bob") == route
        assert len(registry.route_history("churn")) == 1
        assert len(registry.audit()) == 2

    def test_rollbacks_walk_back_and_stop(self, registry: Registry, tmp_path: Path) -> None:
        """1, 2, 3, then back to 2, to 1, and no further."""
        for number in (1, 2, 3):
            publish(registry, tmp_path)
            registry.deploy("churn", number, actor="ann")
        assert registry.rollback("churn", actor="bob").number == 2
        assert registry.rollback("churn", actor="bob").number == 1
        with pytest.raises(Conflict) as caught:
            registry.rollback("churn", actor="bob")
        assert caught.value.code == "nothing_earlier"
        assert [change.number for change in registry.route_history("churn")] == [1, 2, 3, 2, 1]
        assert registry.audit()[0].details["previous"] == 2

    def test_a_deploy_after_a_rollback_goes_on_from_there(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The version that was rolled back from is not returned to."""
        for _ in range(4):
            publish(registry, tmp_path)
        for number in (1, 2, 3):
            registry.deploy("churn", number, actor="ann")
        registry.rollback("churn", actor="ann")
        registry.deploy("churn", 4, actor="ann")
        assert registry.rollback("churn", actor="ann").number == 2
        assert registry.rollback("churn", actor="ann").number == 1

    def test_models_roll_back_for_themselves(self, registry: Registry, tmp_path: Path) -> None:
        """A change of one model's route is no step of another's."""
        for name in ("churn", "iris"):
            publish(registry, tmp_path, name=name)
            publish(registry, tmp_path, name=name)
        for number in (1, 2):
            registry.deploy("churn", number, actor="ann")
            registry.deploy("iris", number, actor="ann")
        assert registry.rollback("churn", actor="ann").number == 1
        assert [route.number for route in registry.routes()] == [1, 2]

    def test_undeploy_takes_the_route_and_rollback_returns_it(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Undeploying changes the generation; deploying the same version again is no step back."""
        publish(registry, tmp_path)
        deployed = registry.deploy("churn", actor="ann")
        registry.undeploy("churn", actor="ann", reason="retired")
        assert registry.routes() == []
        assert registry.generation() > deployed.generation
        assert registry.models()[0].routed is None
        with pytest.raises(Conflict, match="not deployed"):
            registry.undeploy("churn", actor="ann")
        assert registry.rollback("churn", actor="ann").number == 1
        registry.undeploy("churn", actor="ann")
        registry.deploy("churn", actor="ann")
        with pytest.raises(Conflict, match="no version was routed before"):
            registry.rollback("churn", actor="ann")

    @pytest.mark.parametrize("verb", ["deploy", "rollback", "undeploy", "versions", "history"])
    def test_an_unknown_model_is_named(self, registry: Registry, verb: str) -> None:
        """Every verb answers `NotFound` with the field."""
        verbs: dict[str, Callable[[], object]] = {
            "deploy": lambda: registry.deploy("churn", actor="ann"),
            "rollback": lambda: registry.rollback("churn", actor="ann"),
            "undeploy": lambda: registry.undeploy("churn", actor="ann"),
            "versions": lambda: registry.versions("churn"),
            "history": lambda: registry.route_history("churn"),
        }
        with pytest.raises(NotFound) as caught:
            verbs[verb]()
        assert (caught.value.code, caught.value.field) == ("unknown_model", "model")

    def test_rolling_back_what_was_never_deployed_says_so(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The message is not about an earlier version."""
        publish(registry, tmp_path)
        with pytest.raises(Conflict, match="never deployed"):
            registry.rollback("churn", actor="ann")

    def test_every_change_is_audited(self, registry: Registry, tmp_path: Path) -> None:
        """Newest first, with who, what, which and why; by model, and no more than asked for."""
        publish(registry, tmp_path)
        publish(registry, tmp_path)
        publish(registry, tmp_path, name="iris")
        registry.set_alias("churn", "champion", 1, actor="ann")
        registry.deploy("churn", 1, actor="bob", reason="go")
        registry.deploy("churn", 2, actor="bob")
        registry.rollback("churn", actor="eve", reason="it was bad")
        registry.undeploy("churn", actor="eve")
        rows = registry.audit(model="churn")
        assert [row.action for row in rows] == [
            "undeploy",
            "rollback",
            "deploy",
            "deploy",
            "set_alias",
            "publish",
            "publish",
        ]
        rollback = rows[1]
        assert (rollback.actor, rollback.model, rollback.number) == ("eve", "churn", 1)
        assert rollback.reason == "it was bad"
        assert rows[-1].details["state"] == "accepted"
        assert len(registry.audit()) == 8
        assert registry.audit(limit=2) == registry.audit()[:2]

    def test_two_threads_publish_distinct_consecutive_numbers(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Racing publishers take turns."""
        bundles = [make_bundle(tmp_path / f"{n}", model=f"{n}".encode()) for n in range(8)]

        def work(mine: int) -> None:
            for bundle in bundles[mine::2]:
                registry.publish(bundle, actor=f"thread {mine}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        versions = registry.versions("churn")
        assert [version.number for version in versions] == list(range(1, 9))
        assert {version.digest for version in versions} == {bundle.digest for bundle in bundles}
