"""What a registry must do on every database. Subclass it in a test, and give it a `registry`."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.core.errors import Conflict, DamagedBundle, Invalid, NotFound
from modelyard.core.names import Reference
from modelyard.core.records import Problem, Version
from modelyard.core.rollout import Figures, Plan, Reading, Rollout, parse_guards
from modelyard.core.route import Options, Shadow, Target
from modelyard.registry.registry import Registry
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
        assert [(row.actor, row.number, row.before) for row in rows] == [
            ("bob", 2, {"alias": "champion", "version": 1}),
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
        assert (registry.audit()[0].before or {})["targets"][0]["version"] == 2

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
        assert (rows[-1].after or {})["state"] == "accepted"
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

    def test_a_canary_a_shadow_and_promotion(self, registry: Registry, tmp_path: Path) -> None:
        """The route says who gets what, a rollback walks back over each change, and each is
        audited with what it said."""
        for _ in range(3):
            publish(registry, tmp_path)
        registry.deploy("churn", 1, actor="ann")
        canary = registry.deploy("churn", 2, canary=10.0, sticky="X-User", actor="ann")
        assert canary.targets == (Target(1, 90.0), Target(2, 10.0))
        assert registry.routes() == [canary]
        assert registry.models()[0].routed == 1
        assert registry.resolve(Reference("churn")).number == 1
        wider = registry.deploy("churn", 2, canary=50.0, actor="ann")
        assert (wider.targets[1].percent, wider.sticky) == (50.0, "x-user")
        shadow = registry.deploy("churn", 3, shadow=25.0, actor="ann")
        assert (shadow.targets, shadow.shadow) == ((Target(1),), Shadow(3, 25.0))
        assert registry.promote("churn", actor="bob", reason="it is better").targets == (Target(3),)
        assert [row.action for row in registry.audit(model="churn")[:5]] == [
            "promote",
            "shadow",
            "canary",
            "canary",
            "deploy",
        ]
        newest = registry.audit()[0]
        assert (newest.actor, newest.number, newest.reason) == ("bob", 3, "it is better")
        assert (newest.after or {})["targets"] == [{"version": 3, "weight": 100.0}]
        for before in (shadow, wider, canary):
            assert registry.rollback("churn", actor="ann").says(before)
        assert registry.promote("churn", actor="ann").number == 2
        assert registry.rollback("churn", actor="ann").says(canary)
        assert registry.rollback("churn", actor="ann").number == 1
        assert len(registry.route_history("churn")) == 11

    def test_a_canary_needs_a_version_beside_it(self, registry: Registry, tmp_path: Path) -> None:
        """Without a route, on the routed version, or with a share out of range it is refused."""
        publish(registry, tmp_path)
        publish(registry, tmp_path)
        with pytest.raises(Conflict, match="deploy that one first"):
            registry.deploy("churn", 2, actor="ann", canary=10.0)
        with pytest.raises(Conflict, match="deploy that one first"):
            registry.deploy("churn", 2, actor="ann", shadow=10.0)
        with pytest.raises(Conflict, match="is not deployed"):
            registry.promote("churn", actor="ann")
        registry.deploy("churn", 1, actor="ann")
        generation = registry.generation()
        with pytest.raises(Conflict, match="already"):
            registry.deploy("churn", 1, canary=10.0, actor="ann")
        with pytest.raises(Invalid, match="all of them"):
            registry.deploy("churn", 2, canary=100.0, actor="ann")
        with pytest.raises(Invalid, match="not both"):
            registry.deploy("churn", 2, canary=10.0, shadow=10.0, actor="ann")
        with pytest.raises(Conflict, match="neither a canary nor a shadow"):
            registry.promote("churn", actor="ann")
        assert registry.generation() == generation

    def test_a_rejected_version_is_no_canary_unforced(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Nor is it promoted so; force is audited each time."""
        publish(registry, tmp_path)
        publish(registry, tmp_path, passed=False)
        registry.deploy("churn", 1, actor="ann")
        plan = Plan(steps=(10.0, 100.0))
        for change in (
            lambda: registry.deploy("churn", 2, canary=10.0, actor="ann"),
            lambda: registry.deploy("churn", 2, shadow=10.0, actor="ann"),
            lambda: registry.roll_out("churn", 2, plan=plan, actor="ann"),
        ):
            with pytest.raises(Conflict, match="did not pass its gate"):
                change()
        registry.deploy("churn", 2, canary=10.0, actor="ann", force=True)
        with pytest.raises(Conflict, match="did not pass its gate"):
            registry.promote("churn", actor="ann")
        registry.promote("churn", actor="ann", force=True)
        registry.rollback("churn", actor="ann")
        registry.roll_out("churn", 2, plan=plan, actor="ann", force=True)
        actions = [row.action for row in registry.audit() if "forced" in row.action]
        assert actions == ["rollout_forced", "promote_forced", "canary_forced"]

    def test_options_stay_until_they_are_unset(self, registry: Registry, tmp_path: Path) -> None:
        """They are set alone or with a version, kept by later deploys, and rolled back too."""
        publish(registry, tmp_path)
        publish(registry, tmp_path)
        registry.deploy("churn", 1, actor="ann", options={"p99_ms": "20"})
        route = registry.deploy("churn", actor="ann", options={"preferred_rows": "8,32"})
        assert route.number == 1
        assert route.options == Options(p99_ms=20.0, preferred_rows=(8, 32))
        assert registry.audit()[0].action == "options"
        assert registry.deploy("churn", 2, actor="ann").options == route.options
        assert registry.routes()[0].options == route.options
        plain = registry.deploy("churn", actor="ann", options={"preferred_rows": None})
        assert plain.options == Options(p99_ms=20.0)
        assert registry.deploy("churn", actor="ann", options={"p99_ms": 20}) == plain
        assert registry.rollback("churn", actor="ann").options == route.options
        with pytest.raises(Invalid, match="did you mean 'p99_ms'"):
            registry.deploy("churn", actor="ann", options={"p99": 1})

    def test_a_roll_out_moves_step_by_step(self, registry: Registry, tmp_path: Path) -> None:
        """Each step is a route of its own, with the stable version as the candidate's shadow where
        answers are compared; at the end all calls go to the candidate."""
        rollout = self.begin(registry, tmp_path, guards="error_rate<=1%, agreement>=99%")
        [route] = registry.routes()
        assert route.targets == (Target(1, 90.0), Target(2, 10.0))
        assert route.shadow == Shadow(1)
        book = registry.rollouts
        assert book.running() == [rollout]
        assert book.lead(rollout.id, "w1", 60.0) is not None
        readings = [Reading(guard="error_rate<=1%", verdict="held", value=0.0, bound=0.01, calls=9)]
        assert book.move(rollout.id, "w1", 0, readings)
        assert registry.routes()[0].targets == (Target(1, 50.0), Target(2, 50.0))
        assert not book.move(rollout.id, "w1", 0, readings), "a step is made once"
        assert book.move(rollout.id, "w1", 1, readings)
        [route] = registry.routes()
        assert (route.targets, route.shadow) == ((Target(2),), None)
        assert book.running() == []
        [done] = book.of("churn")
        assert (done.state, done.step, done.next_at) == ("done", 2, None)
        assert [(move.verdict, move.percent) for move in done.moves] == [
            ("begun", 10.0),
            ("moved", 50.0),
            ("done", 100.0),
        ]
        assert done.moves[1].readings == tuple(readings)
        actors = [row.actor for row in registry.audit(model="churn") if row.action == "rollout"]
        assert actors == ["rollout", "rollout", "ann"]
        assert registry.rollback("churn", actor="ann").number == 1

    def test_a_roll_out_is_broken_off_as_a_whole(self, registry: Registry, tmp_path: Path) -> None:
        """From any step it goes back to the route that it began from, with its reason."""
        rollout = self.begin(registry, tmp_path)
        book = registry.rollouts
        assert book.lead(rollout.id, "w1", 60.0) is not None
        assert book.move(rollout.id, "w1", 0, [])
        assert book.break_off(rollout.id, "w1", [], "p99 was 3 s")
        assert registry.routes()[0].targets == (Target(1),)
        [ended] = book.of("churn")
        assert (ended.state, ended.reason) == ("rolled_back", "p99 was 3 s")
        assert not book.move(rollout.id, "w1", 1, [])
        newest = registry.audit()[0]
        assert (newest.actor, newest.action, newest.reason) == (
            "rollout",
            "rollback",
            "p99 was 3 s",
        )
        with pytest.raises(Conflict):
            registry.rollback("churn", actor="ann")

    @pytest.mark.parametrize("verb", ["deploy", "options", "promote", "rollback", "undeploy"])
    def test_a_change_by_hand_stops_a_roll_out(
        self, registry: Registry, tmp_path: Path, verb: str
    ) -> None:
        """Whoever changes the route takes it from the roll-out, which says so and moves no more."""
        rollout = self.begin(registry, tmp_path)
        assert registry.rollouts.lead(rollout.id, "w1", 60.0) is not None
        verbs: dict[str, Callable[[], object]] = {
            "deploy": lambda: registry.deploy("churn", 2, canary=33.0, actor="bob"),
            "options": lambda: registry.deploy("churn", options={"lanes": 1}, actor="bob"),
            "promote": lambda: registry.promote("churn", actor="bob"),
            "rollback": lambda: registry.rollback("churn", actor="bob"),
            "undeploy": lambda: registry.undeploy("churn", actor="bob"),
        }
        verbs[verb]()
        [stopped] = registry.rollouts.of("churn")
        assert stopped.state == "stopped"
        assert stopped.reason.startswith("bob changed the route: ")
        assert stopped.moves[-1].verdict == "stopped"
        generation = registry.generation()
        assert not registry.rollouts.move(rollout.id, "w1", 0, [])
        assert not registry.rollouts.break_off(rollout.id, "w1", [], "late")
        assert registry.rollouts.lead(rollout.id, "w1", 60.0) is None
        assert registry.generation() == generation

    def test_one_worker_leads_until_its_lease_runs_out(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Others wait; when the leader has died, another takes over and the dead one moves
        nothing."""
        rollout = self.begin(registry, tmp_path)
        book = registry.rollouts
        assert book.lead(rollout.id, "w1", 0.2) is not None
        assert book.lead(rollout.id, "w2", 60.0) is None
        assert book.lead(rollout.id, "w1", 0.0) is not None
        assert book.lead(rollout.id, "w2", 60.0) is not None
        assert book.lead(rollout.id, "w1", 60.0) is None
        assert not book.move(rollout.id, "w1", 0, [])
        assert not book.break_off(rollout.id, "w1", [], "no")
        assert book.move(rollout.id, "w2", 0, [])

    def test_workers_figures_add_up_and_a_step_counts_from_its_begin(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Each worker replaces its own row; a move begins a new window at their sum."""
        rollout = self.begin(registry, tmp_path)
        book = registry.rollouts
        five = Figures(calls=5, failures=1, buckets={3: 4, 7: 1})
        book.report(rollout.id, "w1", {1: five, 2: five})
        book.report(rollout.id, "w1", {1: five, 2: five + five})
        book.report(rollout.id, "w2", {2: five})
        standing = book.lead(rollout.id, "w1", 60.0)
        assert standing is not None
        assert standing.figures == {1: five, 2: five + five + five}
        assert book.move(rollout.id, "w1", 0, [])
        book.report(rollout.id, "w2", {2: five + five})
        standing = book.lead(rollout.id, "w1", 60.0)
        assert standing is not None
        assert standing.figures == {1: Figures(), 2: five}
        assert standing.rollout.percent == 50.0

    def test_a_new_roll_out_takes_the_place_of_another(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The first is stopped, and the second begins from the stable version alone."""
        self.begin(registry, tmp_path)
        publish(registry, tmp_path)
        second = registry.roll_out(
            "churn", 3, plan=Plan(steps=(5.0, 100.0)), actor="bob", options={"lanes": 1}
        )
        first, _ = registry.rollouts.of("churn")
        assert first.state == "stopped"
        assert registry.rollouts.running() == [second]
        [route] = registry.routes()
        assert route.targets == (Target(1, 95.0), Target(3, 5.0))
        assert route.options == Options(lanes=1)
        assert registry.rollback("churn", actor="ann").targets == (Target(1),)

    def begin(self, registry: Registry, folder: Path, guards: str = "") -> Rollout:
        """A roll-out from version 1 to 2 over 10% and 50%."""
        publish(registry, folder)
        publish(registry, folder)
        registry.deploy("churn", 1, actor="ann")
        plan = Plan(steps=(10.0, 50.0, 100.0), every_s=60.0, guards=parse_guards(guards))
        rollout = registry.roll_out("churn", 2, plan=plan, actor="ann", reason="go")
        assert (rollout.state, rollout.percent, rollout.plan) == ("running", 10.0, plan)
        return rollout
