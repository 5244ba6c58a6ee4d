"""Whom another authority vouches for."""

from modelyard.core.identity import Certificate, Role
from modelyard.core.rules import IdentityMapping, Rules, Tenant
from modelyard.gateway.mappings import certificate_principal, principal_of

ISSUER = "https://issuer.example"


def mapping(source: str = ISSUER, role: Role = Role.CALLER, **more: object) -> IdentityMapping:
    return IdentityMapping(id="x", source=source, role=role, **more)  # type: ignore[arg-type]


def rules(*mappings: IdentityMapping) -> Rules:
    return Rules(tenants={"acme": Tenant(name="acme", models=("a*",))}, mappings=mappings)


def role_of(rules: Rules, claims: dict[str, object]) -> Role | None:
    found = principal_of(rules, ISSUER, claims, key="oidc:x", name="x")
    return None if found is None else found.role


def test_all_claims_must_be_there() -> None:
    """Of a claim that is a list, its member; a mapping without claims fits nobody."""
    known = rules(
        mapping(claims=(("groups", "ml"), ("groups", "ops"), ("aud", "y")), tenant="acme"),
        mapping(tenant="acme", role=Role.ADMIN),
    )
    assert role_of(known, {"groups": ["ml", "ops", "x"], "aud": "y"}) is Role.CALLER
    assert role_of(known, {"groups": ["ml"], "aud": "y"}) is None
    assert role_of(known, {"groups": "mlops", "aud": "y"}) is None
    assert role_of(known, {}) is None
    for odd in (None, 7, True, {"ml": 1}, [["ml"], "ops"], b"ml"):
        assert role_of(known, {"groups": odd, "aud": "y"}) is None


def test_the_mapping_that_asks_for_most_holds() -> None:
    """And of several such the first."""
    known = rules(
        mapping(claims=(("a", "1"),), tenant="acme"),
        mapping(claims=(("a", "1"), ("b", "2")), tenant="acme", role=Role.AUDITOR),
        mapping(claims=(("a", "1"), ("c", "3")), tenant="acme", role=Role.ADMIN),
    )
    assert role_of(known, {"a": "1"}) is Role.CALLER
    assert role_of(known, {"a": "1", "b": "2", "c": "3"}) is Role.AUDITOR
    assert role_of(known, {"a": "1", "c": "3"}) is Role.ADMIN


def test_a_tenant_is_one_that_there_is() -> None:
    """Whether the mapping names it or a claim does."""
    named = rules(mapping(claims=(("a", "1"),), tenant="gone"))
    assert role_of(named, {"a": "1"}) is None
    claimed = rules(mapping(claims=(("a", "1"),), tenant_claim="org"))
    assert role_of(claimed, {"a": "1", "org": "acme"}) is Role.CALLER
    for odd in ("gone", "", None, 7, ["acme"]):
        assert role_of(claimed, {"a": "1", "org": odd}) is None


def test_a_certificate_is_known_by_subject_name_or_fingerprint() -> None:
    """Its key names it without being a secret, and it sees what its tenant sees."""
    certificate = Certificate(subject="CN=scorer", sha256="ab" * 32, names=("scorer.acme",))
    for claim in (("subject", "CN=scorer"), ("sha256", "ab" * 32), ("name", "scorer.acme")):
        found = certificate_principal(
            rules(mapping("certificate", claims=(claim,), tenant="acme")), certificate
        )
        assert found is not None
        assert (found.key, found.name) == ("cert:" + "ab" * 8, "CN=scorer")
        assert found.tenant_models == ("a*",)
    other = rules(mapping(claims=(("subject", "CN=scorer"),), tenant="acme"))
    assert certificate_principal(other, certificate) is None
