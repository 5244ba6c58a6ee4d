"""A chain is canonical, and no tampering with its rows goes unseen."""

import base64
import datetime
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.audit import Checkpoint
from modelyard.gateway.node_key import node_name
from modelyard.registry.chain import FIELDS, GENESIS, checkpoint_text, hash_row, mark_row
from modelyard.registry.exports import RowLine
from modelyard.registry.verification import Keys, Verification, public_pem

_KEY = Ed25519PrivateKey.generate()
_NODE = node_name(_KEY.public_key())
_LENGTH = 12
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def _row(sequence: int) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(FIELDS, "")
    values |= {"id": sequence, "node": _NODE, "sequence": sequence, "number": None, "model": None}
    values |= {"at": "2026-11-22T06:11:43.123456Z", "actor": f"ann-{sequence}", "before": None}
    return values


def _chain() -> list[RowLine]:
    lines, previous = [], GENESIS
    for sequence in range(1, _LENGTH + 1):
        row = _row(sequence)
        digest = hash_row(row, previous)
        lines.append(RowLine(row=row, previous=previous, hash=digest, marks=mark_row(row)))
        previous = digest
    return lines


_CHAIN = _chain()


def _checkpoint() -> Checkpoint:
    values: dict[str, Any] = {
        "signer": _NODE,
        "node": _NODE,
        "sequence": _LENGTH,
        "hash": _CHAIN[-1].hash,
        "at": datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    }
    signature = _KEY.sign(checkpoint_text(Checkpoint(**values, signature="")))
    return Checkpoint(**values, signature=base64.b64encode(signature).decode())


_CHECKPOINT = _checkpoint()


def _found(lines: list[RowLine]) -> int:
    verification = Verification(Keys())
    verification.key(_NODE, public_pem(_KEY.public_key()))
    for line in lines:
        verification.row(line.row, line.previous, line.hash, line.marks)
    verification.checkpoint(_CHECKPOINT)
    return verification.end().found


def _rehashed(rows: list[dict[str, Any]]) -> list[RowLine]:
    lines, previous = [], GENESIS
    for row in rows:
        digest = hash_row(row, previous)
        lines.append(RowLine(row=row, previous=previous, hash=digest, marks=mark_row(row)))
        previous = digest
    return lines


@given(
    st.dictionaries(st.sampled_from(FIELDS), st.one_of(_TEXTS, st.integers(0, 2**53), st.none()))
)
def test_the_hashed_text_is_canonical(values: dict[str, Any]) -> None:
    """It is what RFC 8785 says of strings, whole numbers and null: Python's own writer agrees."""
    import hashlib

    plain = {**dict.fromkeys(FIELDS), **values}
    text = json.dumps(
        {**plain, "previous": GENESIS}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert hash_row(plain, GENESIS) == hashlib.sha256(text.encode()).hexdigest()


def test_an_untouched_chain_is_whole() -> None:
    """Nothing is found where nothing was done."""
    assert _found(_CHAIN) == 0


@given(st.permutations(range(_LENGTH)))
def test_no_other_order_goes_unseen(order: list[int]) -> None:
    """Of rows as they are, and of rows that were numbered and hashed anew."""
    if order != list(range(_LENGTH)):
        assert _found([_CHAIN[index] for index in order])
        rows = [dict(_CHAIN[index].row) for index in order]
        for sequence, row in enumerate(rows, start=1):
            row["sequence"] = row["id"] = sequence
        assert _found(_rehashed(rows))


@given(st.sets(st.integers(0, _LENGTH - 1), min_size=1))
def test_no_missing_row_goes_unseen(gone: set[int]) -> None:
    """Whichever they are, with the rest as it is or numbered and hashed anew."""
    left = [line for index, line in enumerate(_CHAIN) if index not in gone]
    assert _found(left)
    rows = [{**line.row, "sequence": n, "id": n} for n, line in enumerate(left, start=1)]
    assert _found(_rehashed(rows))


@settings(max_examples=200)
@given(
    st.integers(0, _LENGTH - 1),
    st.sampled_from([field for field in FIELDS if field != "node"]),
    st.one_of(_TEXTS, st.integers(0, 1000), st.none()),
)
def test_no_changed_field_goes_unseen(index: int, field: str, value: Any) -> None:
    """With the hashes as they were, and with the whole chain hashed anew."""
    if value == _CHAIN[index].row[field]:
        return
    row = {**_CHAIN[index].row, field: value}
    line = _CHAIN[index]
    changed = RowLine(row=row, previous=line.previous, hash=line.hash, marks=line.marks)
    assert _found([*_CHAIN[:index], changed, *_CHAIN[index + 1 :]])
    rows = [each.row for each in _CHAIN]
    assert _found(_rehashed([*rows[:index], row, *rows[index + 1 :]]))


@given(st.integers(0, _LENGTH), st.integers(0, _LENGTH - 1))
def test_no_inserted_row_goes_unseen(place: int, copied: int) -> None:
    """A copy of a row anywhere, as it is or numbered and hashed anew with all after it."""
    assert _found([*_CHAIN[:place], _CHAIN[copied], *_CHAIN[place:]])
    rows = [line.row for line in _CHAIN]
    rows.insert(place, {**_CHAIN[copied].row, "actor": "mallory"})
    renumbered = [{**row, "sequence": n, "id": n} for n, row in enumerate(rows, start=1)]
    if place < _LENGTH:
        assert _found(_rehashed(renumbered))
