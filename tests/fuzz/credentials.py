"""Fuzzes what is read of a request before anybody knows who sends it.

    python -m tests.fuzz.credentials FOLDER -max_total_time=60

FOLDER gets the seeds, and what is found beside them.
The first byte says which headers the rest is given as. Whatever they hold, a caller is let in only
by the very key that was made; everything else is `Unauthenticated` or `Exhausted`.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["modelyard.gateway"]):
    from modelyard.gateway import credentials
    from modelyard.gateway.access import KeyedAccess
    from modelyard.gateway.guesses import source_of

from modelyard.core.errors import Exhausted, Unauthenticated
from modelyard.core.identity import Peer, Role
from modelyard.core.rules import Key, Rules, Tenant

SALT = b"s" * 16
SECRET = bytes(range(32))
GOOD = credentials.write_key(credentials.Credential("a" * 12, SECRET)).encode()
KEY = Key(
    id="a" * 12,
    tenant="acme",
    name="ann",
    role=Role.CALLER,
    salt=SALT,
    digest=credentials.digest(SALT, SECRET),
    created_at=0.0,
)
ACCESS = KeyedAccess(Rules(sequence=1, tenants={"acme": Tenant(name="acme")}, keys={KEY.id: KEY}))


SEEDS = (
    b"\x00Bearer " + GOOD,
    b"\x00bearer  " + GOOD,
    b"\x00Basic eDp5",
    b"\x01" + GOOD,
    b"\x01eyJhbGciOiJub25lIn0.e30.",
    b"\x02" + GOOD[:-1],
    b"\x03Bearer " + GOOD[:-7] + GOOD,
    b"my_",
    GOOD,
    b"::ffff:10.0.0.1",
    b"fe80::1%eth0",
)


def headers_of(data: bytes) -> dict[bytes, bytes]:
    """One header or both, whole or the two halves of the rest."""
    kind, rest = data[:1] or b"\x00", data[1:]
    half = len(rest) // 2
    match kind[0] % 4:
        case 0:
            return {b"authorization": rest}
        case 1:
            return {b"x-api-key": rest}
        case 2:
            return {b"authorization": b"Bearer " + rest}
        case _:
            return {b"authorization": rest[:half], b"x-api-key": rest[half:]}


def fuzz(data: bytes) -> None:
    """One request."""
    headers = headers_of(data)
    try:
        ACCESS.identify(headers, Peer(address=data[:40].decode("latin-1")))
    except (Unauthenticated, Exhausted):
        pass
    else:
        given = b" ".join(headers.values())
        assert GOOD in given, given
    try:
        key = credentials.read_key(data)
    except Unauthenticated:
        pass
    else:
        assert credentials.write_key(key).encode() == data
    source_of(data.decode("latin-1"))


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
