"""What a client sends of a request is what a server reads of it."""

import contextlib
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.api.admin.requests import read_request
from modelyard.client.administration import make_path, make_query
from modelyard.core.administration.operation import Body, Operation
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.errors import Invalid

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0,"), min_size=1, max_size=20)
_WHOLE = st.integers(-(2**63), 2**63 - 1)
_NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def requests_of(operation: Operation) -> st.SearchStrategy[Any]:
    """Requests of an operation, with what its fields may be; what may be anything is left out."""
    fields = {
        name: st.deferred(lambda hint=hint: st.from_type(hint))
        for name, hint in get_type_hints(operation.request).items()
        if name != "operation" and "Any" not in str(hint)
    }
    return st.builds(operation.request, **fields)


@pytest.fixture(autouse=True, scope="module")
def _plain_values() -> None:
    st.register_type_strategy(str, _TEXT)
    st.register_type_strategy(int, _WHOLE)
    st.register_type_strategy(float, _NUMBER)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_a_request_arrives_as_it_was_sent(operation: Operation) -> None:
    """Every field of every operation, wherever it travels."""

    @settings(max_examples=8, deadline=None)
    @given(requests_of(operation))
    def send(request: Any) -> None:
        values = msgspec.to_builtins(request)
        make_path(operation, values)
        body = msgspec.json.encode({name: values[name] for name in operation.in_body})
        read = read_request(
            operation.request,
            {name: str(values[name]) for name in operation.in_path},
            list(make_query(operation, values).items()),
            Body.JSON,
            body if operation.in_body else b"",
        )
        assert msgspec.to_builtins(read) == values

    send()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(OPERATIONS), st.binary() | st.text().map(str.encode), st.text(), st.text())
def test_whatever_comes_is_read_or_refused(
    operation: Operation, body: bytes, name: str, value: str
) -> None:
    """Bytes, names and values of any kind raise nothing but `Invalid`."""
    path = dict.fromkeys(operation.in_path, value)
    with contextlib.suppress(Invalid):
        read_request(operation.request, path, [(name, value)], Body.JSON, body)
