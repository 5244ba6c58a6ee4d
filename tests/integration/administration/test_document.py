"""The administration's document, held against the server by schemathesis."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from modelyard.core.administration.operation import Body
from modelyard.core.administration.table import OPERATIONS
from tests.integration.administration.conftest import Place

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
KNOWN = {
    "model": ["churn", "iris"],
    "reference": ["churn:1", "churn@champion", "iris", "churn:2147483648"],
    "alias": ["champion"],
    "name": ["default"],
    "models": ["*", "churn"],
    "id": ["000000000000", "1"],
    "number": ["1", "0", "9223372036854775807"],
}


@schemathesis.serializer("application/x-tar")
def _as_tar(context: object, value: object) -> object:
    """Bytes as they are: no archive, whatever else."""
    return value if isinstance(value, bytes) else repr(value).encode()


@pytest.fixture
def document(admin: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = admin.get("/openapi.json").json()
    return found


def test_the_document_has_every_operation(document: dict[str, Any]) -> None:
    """Each at its path and method, with a summary of its own and a schema of its answer."""
    ids = [
        described["operationId"]
        for place in document["paths"].values()
        for described in place.values()
    ]
    assert sorted(ids) == sorted(operation.name for operation in OPERATIONS)
    assert len(ids) == len(set(ids))
    for operation in OPERATIONS:
        described = document["paths"]["/api/v1" + operation.path][operation.method.lower()]
        assert described["summary"]
        answer = described["responses"][str(operation.status)]["content"]
        assert list(answer) == [operation.gives]
        assert operation.gives is not Body.JSON or answer[Body.JSON]["schema"]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_operation_keeps_what_the_document_says(
    place: Place, document: dict[str, Any], mode: schemathesis.GenerationMode
) -> None:
    """Whatever fits or breaks the schema, the answer is one that the document has, and no 500."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=place.url)
    headers = {"authorization": f"Bearer {place.key()}"}
    asked = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()
        takes_any = operation.path_parameters or operation.query or operation.body
        if mode is schemathesis.GenerationMode.NEGATIVE and not takes_any:
            continue

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def ask(case: Any, data: st.DataObject) -> None:
            # Made-up names are of nothing: half of the time it is something that is there.
            if case.path_parameters and data.draw(st.booleans()):
                case.path_parameters = {
                    name: data.draw(st.sampled_from(KNOWN[name])) for name in case.path_parameters
                }
            case.call_and_validate(checks=CHECKS, headers=headers)

        ask()
        asked += 1
    assert asked > len(OPERATIONS) // 2
