"""The policy and the signatures of a home, on every database."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.signer import make_key, sign_with_key
from modelyard.core.errors import Conflict, Denied, Exhausted, Invalid, ModelyardError
from modelyard.core.identity import Actor
from modelyard.core.policy import NO_POLICY, Capture, Policy
from modelyard.core.rollout import Plan
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.policies import parse_policy, policy_document
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def bundles(tmp_path: Path) -> list[Bundle]:
    """Three versions of one model."""
    return [
        make_bundle(tmp_path / f"b{index}", files={"notes.md": str(index).encode()})
        for index in range(3)
    ]


class Signer:
    """A key in a file."""

    def __init__(self, folder: Path) -> None:
        pair = make_key()
        self._file = folder / f"{pair.public.fingerprint[:8]}.pem"
        self._file.write_text(pair.private)
        self.public = pair.public

    def sign(self, bundle: Bundle) -> bytes:
        return sign_with_key(bundle.manifest, self._file)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def _demand(registry: Registry, *signers: Signer) -> None:
    keys = tuple(each.public.pem for each in signers)
    registry.policies.set(Policy(require_signature=True, trusted_keys=keys), actor="me")


def _refused(error: "pytest.ExceptionInfo[ModelyardError]") -> bool:
    return error.value.code == "unsigned_bundle"


def test_a_policy_is_kept_as_a_whole(registry: Registry, signer: Signer) -> None:
    """What was set is what is read, and its number grows."""
    assert registry.policies.get().policy == NO_POLICY
    first = registry.policies.get().number
    policy = Policy(
        require_signature=True,
        trusted_keys=(signer.public.pem,),
        frameworks=("sklearn", "none"),
        formats=("onnx",),
        four_eyes=("churn*",),
        audit_calls=("loans",),
        captures=(
            Capture(models="churn*", share=2.5, redact=("name", "$.inputs.x"), subject="id"),
        ),
    )
    kept = registry.policies.set(policy, actor="me")
    assert kept.policy == policy
    assert kept.number > first
    assert registry.policies.get() == kept
    assert registry.policies.set(policy, actor="me") == kept
    rules = registry.rules()
    assert rules is not None
    assert rules.policy == policy
    assert parse_policy(policy_document(policy)) == policy


def test_a_changed_policy_is_seen_by_followers(registry: Registry) -> None:
    """The sequence of the rules moves with it, and only with it."""
    before = registry.rules()
    assert before is not None
    kept = registry.policies.set(Policy(audit_calls=("*",)), actor="me")
    after = registry.rules(before.sequence)
    assert after is not None
    assert after.sequence > before.sequence
    registry.policies.set(kept.policy, actor="me")
    assert registry.rules(after.sequence) is None


def test_a_policy_is_changed_from_what_it_was(registry: Registry) -> None:
    """Whoever has seen an older one is refused, and nothing is changed."""
    first = registry.policies.get()
    second = registry.policies.set(Policy(formats=("onnx",)), actor="me", expected=first.number)
    with pytest.raises(Conflict) as caught:
        registry.policies.set(Policy(formats=("skops",)), actor="you", expected=first.number)
    assert caught.value.code == "policy_changed"
    assert registry.policies.get() == second


def test_of_many_who_change_it_at_once_one_succeeds(registry: Registry) -> None:
    """Each from the same number: the others learn that they are late."""
    number = registry.policies.get().number
    outcomes: list[str] = []

    def change(name: str) -> None:
        try:
            registry.policies.set(Policy(four_eyes=(name,)), actor=name, expected=number)
        except Conflict as error:
            outcomes.append(error.code)
        else:
            outcomes.append(name)

    threads = [threading.Thread(target=change, args=(f"m{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("policy_changed") == 7
    (winner,) = set(outcomes) - {"policy_changed"}
    assert registry.policies.get().policy.four_eyes == (winner,)


def test_a_change_of_policy_is_audited(registry: Registry) -> None:
    """Who, from where, why, what it was and what it is."""
    actor = Actor(name="ada", key="k1", source="10.0.0.1", request_id="r1")
    registry.policies.set(Policy(formats=("onnx",)), actor=actor, reason="only ONNX")
    registry.policies.set(Policy(formats=("onnx", "skops")), actor=actor)
    second, first = registry.audit(limit=2)
    assert (first.action, first.actor, first.reason) == ("set_policy", "ada", "only ONNX")
    assert (first.source, first.request_id) == ("10.0.0.1", "r1")
    assert first.before is not None
    assert first.after is not None
    assert second.before is not None
    assert first.before["formats"] == []
    assert first.after["formats"] == second.before["formats"] == ["onnx"]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (Policy(require_signature=True), "require_signature"),
        (Policy(trusted_keys=("no key",)), "key"),
        (Policy(formats=("pickle",)), "formats"),
        (Policy(frameworks=("a b",)), "frameworks"),
        (Policy(four_eyes=("a/b",)), "models"),
        (Policy(audit_calls=("",)), "models"),
        (Policy(captures=(Capture(models="*", share=101.0),)), "captures[0].share"),
        (Policy(captures=(Capture(models="*", share=float("nan")),)), "captures[0].share"),
        (Policy(captures=(Capture(models="*", retention_s=0.0),)), "captures[0].retention_s"),
        (Policy(captures=(Capture(models="*", redact=("",)),)), "captures[0].redact"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(policy: Policy, field: str) -> None:
    """It names what is wrong with it."""
    with pytest.raises(Invalid) as caught:
        parse_policy(policy_document(policy))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "document",
    [
        {"require_signatures": True},
        {"captures": [{"models": "*", "shares": 1}]},
        {"formats": "onnx"},
        {"require_signature": 1},
        {"captures": {}},
    ],
)
def test_a_document_with_unknown_keys_or_types_is_refused(document: dict[str, object]) -> None:
    """A slip of the pen never makes a laxer policy."""
    with pytest.raises(Invalid):
        parse_policy(document)


def test_an_unsigned_version_is_published_and_not_deployed(
    registry: Registry, bundles: list[Bundle], signer: Signer, tmp_path: Path
) -> None:
    """By no way to change a route, forced or not; the version before goes on."""
    for bundle in bundles:
        registry.publish(bundle, actor="me")
    registry.deploy("churn", 1, actor="me")
    _demand(registry, signer)
    attempts = (
        lambda: registry.deploy("churn", 2, actor="me"),
        lambda: registry.deploy("churn", 2, actor="me", force=True),
        lambda: registry.deploy("churn", 2, actor="me", canary=5.0),
        lambda: registry.deploy("churn", 2, actor="me", shadow=5.0),
        lambda: registry.roll_out(
            "churn", 2, plan=Plan(steps=(1.0, 100.0), every_s=60.0), actor="me"
        ),
    )
    for attempt in attempts:
        with pytest.raises(Denied) as caught:
            attempt()
        assert _refused(caught)
    (route,) = registry.routes()
    assert route.versions == (1,)


def test_a_signature_opens_the_way(
    registry: Registry, bundles: list[Bundle], signer: Signer, tmp_path: Path
) -> None:
    """One by a trusted key, whenever it is brought; one by another does not."""
    versions = [registry.publish(bundle, actor="me") for bundle in bundles]
    _demand(registry, signer)
    stranger = Signer(tmp_path)
    registry.signatures.add(versions[0], bundles[0].manifest, stranger.sign(bundles[0]), actor="me")
    with pytest.raises(Denied) as caught:
        registry.deploy("churn", 1, actor="me")
    assert _refused(caught)
    registry.signatures.add(versions[0], bundles[0].manifest, signer.sign(bundles[0]), actor="me")
    registry.deploy("churn", 1, actor="me")
    _demand(registry, signer, stranger)
    registry.deploy("churn", 1, actor="me", canary=None)
    assert {each.signer for each in registry.signatures.of(versions[0].digest)} == {
        stranger.public.fingerprint,
        signer.public.fingerprint,
    }


def test_a_rollback_leads_only_to_what_the_policy_lets_in(
    registry: Registry, bundles: list[Bundle], signer: Signer
) -> None:
    """Otherwise the present route stays."""
    versions = [registry.publish(bundle, actor="me") for bundle in bundles]
    registry.deploy("churn", 1, actor="me")
    registry.deploy("churn", 2, actor="me")
    _demand(registry, signer)
    with pytest.raises(Denied) as caught:
        registry.rollback("churn", actor="me")
    assert _refused(caught)
    (route,) = registry.routes()
    assert route.number == 2
    registry.signatures.add(versions[0], bundles[0].manifest, signer.sign(bundles[0]), actor="me")
    assert registry.rollback("churn", actor="me").number == 1


def test_a_promotion_asks_again(registry: Registry, bundles: list[Bundle], signer: Signer) -> None:
    """A canary that began before the policy does not become the route."""
    for bundle in bundles:
        registry.publish(bundle, actor="me")
    registry.deploy("churn", 1, actor="me")
    registry.deploy("churn", 2, actor="me", canary=5.0)
    _demand(registry, signer)
    with pytest.raises(Denied) as caught:
        registry.promote("churn", actor="me")
    assert _refused(caught)


def test_signatures_come_with_their_bundle(
    registry: Registry, bundles: list[Bundle], signer: Signer
) -> None:
    """What was imported with it is beside it, once, however often it is published."""
    signature = signer.sign(bundles[0])
    signed = Bundle(bundles[0].manifest, bundles[0].files, (signature,))
    version = registry.publish(signed, actor="me")
    registry.publish(signed, actor="me")
    assert registry.bundle(version).signatures == (signature,)
    (kept,) = registry.signatures.of(version.digest)
    assert kept.signer == signer.public.fingerprint
    assert [row.action for row in registry.audit(limit=10)].count("sign") == 1


def test_a_signature_of_something_else_is_not_kept(
    registry: Registry, bundles: list[Bundle], signer: Signer
) -> None:
    """Of another bundle, or of nothing at all; and a publish with such a one publishes nothing."""
    version = registry.publish(bundles[0], actor="me")
    with pytest.raises(Denied):
        registry.signatures.add(version, bundles[0].manifest, signer.sign(bundles[1]), actor="me")
    with pytest.raises(Invalid):
        registry.signatures.add(version, bundles[0].manifest, b"{}", actor="me")
    assert registry.signatures.of(version.digest) == []
    with pytest.raises(Denied):
        registry.publish(
            Bundle(bundles[1].manifest, bundles[1].files, (signer.sign(bundles[2]),)), actor="me"
        )
    assert [each.number for each in registry.versions("churn")] == [1]


def test_signatures_have_a_bound(registry: Registry, bundles: list[Bundle], signer: Signer) -> None:
    """A bundle cannot be buried under them: each signature of one key differs from its last."""
    version = registry.publish(bundles[0], actor="me")
    for _ in range(32):
        registry.signatures.add(version, bundles[0].manifest, signer.sign(bundles[0]), actor="me")
    with pytest.raises(Exhausted) as caught:
        registry.signatures.add(version, bundles[0].manifest, signer.sign(bundles[0]), actor="me")
    assert caught.value.code == "too_many_signatures"


def test_a_policy_of_formats_and_frameworks_holds_at_publish_and_deploy(
    registry: Registry, bundles: list[Bundle]
) -> None:
    """Nothing new comes in, and nothing that came in before is deployed."""
    registry.publish(bundles[0], actor="me")
    registry.policies.set(Policy(formats=("skops",)), actor="me")
    with pytest.raises(Denied) as caught:
        registry.publish(bundles[1], actor="me")
    assert caught.value.code == "format_not_allowed"
    with pytest.raises(Denied) as caught:
        registry.deploy("churn", 1, actor="me")
    assert caught.value.code == "format_not_allowed"
    registry.policies.set(Policy(frameworks=("sklearn",)), actor="me")
    with pytest.raises(Denied) as caught:
        registry.deploy("churn", 1, actor="me")
    assert caught.value.code == "framework_not_allowed"
    assert [each.number for each in registry.versions("churn")] == [1]
