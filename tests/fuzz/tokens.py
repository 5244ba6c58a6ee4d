"""Fuzzes the tokens of an issuer, from their text to who somebody is.

    python -m tests.fuzz.tokens FOLDER -max_total_time=60

FOLDER gets the seeds, and what is found beside them.
The first byte says what the rest is: a whole token, or the header, payload or signature of one.
What is signed by nobody is nobody's; what the issuer itself has signed may say anything.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["modelyard.gateway"]):
    from modelyard.gateway.jwks import parse_keys
    from modelyard.gateway.oidc import OidcAuthority

from modelyard.core.errors import Invalid
from modelyard.core.identity import Principal, Role
from modelyard.core.rules import IdentityMapping, Rules, Tenant
from modelyard.gateway.jwks import VerifyingKey
from tests.unit.gateway.issuer import AUDIENCE, Issuer, encode, sign

ISSUER = Issuer()
KEY = ISSUER.add("k", "ES256")
(VERIFYING,) = parse_keys(ISSUER.document())
GOOD = ISSUER.token("k", exp=4_000_000_000)
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")
RULES = Rules(
    sequence=1,
    tenants={"acme": Tenant(name="acme")},
    mappings=(
        IdentityMapping(
            id="1", source=ISSUER.url, claims=(("groups", "ml"),), role=Role.CALLER, tenant="acme"
        ),
    ),
)


class Keys:
    """The one key, by whatever name."""

    def find(self, key_id: str, algorithm: str) -> VerifyingKey:
        """It."""
        return VERIFYING


AUTHORITY = OidcAuthority(ISSUER.url, AUDIENCE, Keys())
SEEDS = (
    b"\x00" + GOOD,
    b'\x01{"alg":"ES256","kid":"k"}',
    b'\x01{"alg":"none"}',
    b'\x02{"iss":"https://issuer.example","aud":"modelyard","exp":4e9,"sub":"x"}',
    b"\x03" + SIGNATURE,
    b'\x04{"iss":"https://issuer.example","aud":"modelyard","exp":4e9,"sub":"x","groups":["ml"]}',
    b"\x05" + ISSUER.document(),
)


def fuzz(data: bytes) -> None:
    """One token, or one set of keys."""
    kind, rest = data[:1] or b"\x00", data[1:]
    match kind[0] % 6:
        case 0:
            expect_nobody(rest)
        case 1:
            expect_nobody(b".".join((encode(rest), PAYLOAD, SIGNATURE)))
        case 2:
            expect_nobody(b".".join((HEADER, encode(rest), SIGNATURE)))
        case 3:
            expect_nobody(b".".join((HEADER, PAYLOAD, encode(rest))))
        case 4:
            token = sign({"alg": "ES256", "kid": "k"}, rest, KEY, "ES256")
            found = AUTHORITY.principal_of(token, RULES)
            assert found is None or isinstance(found, Principal)
        case _:
            read_keys(rest)


def expect_nobody(token: bytes) -> None:
    """Only the one good token is somebody's."""
    assert AUTHORITY.principal_of(token, RULES) is None or token == GOOD, token


def read_keys(document: bytes) -> None:
    """A set of keys, or none."""
    try:
        found = parse_keys(document)
    except Invalid:
        return
    assert all(each.algorithms for each in found)


def sow(folder: Path) -> None:
    """Something to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sow(Path(sys.argv[1]))
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
