import tomllib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from modelyard.train.toml import dumps

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(TEXT, VALUE, max_size=5))
def test_what_was_written_reads_back_the_same(document: dict[str, object]) -> None:
    """Every document of strings, numbers, booleans, lists and tables survives."""
    kept = _without_empty_tables(document)
    assert tomllib.loads(dumps(kept)) == kept


def test_none_is_left_out() -> None:
    """TOML has no null; a value that is not set is not written."""
    assert tomllib.loads(dumps({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}


def test_what_toml_cannot_say_is_refused() -> None:
    """An object of Python's own is an error, not its repr."""
    with pytest.raises(TypeError, match="object"):
        dumps({"a": object()})


def _without_empty_tables(value: object) -> object:
    # A table without anything in it is not written: to a recipe it says nothing.
    if isinstance(value, list):
        return [_without_empty_tables(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty_tables(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner != {}}
