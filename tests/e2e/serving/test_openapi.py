"""The served OpenAPI document, held against the server by schemathesis."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from sklearn.linear_model import LogisticRegression

from tests.e2e.serving.conftest import Place
from tests.zoo import load, mixed_pipeline

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# schemathesis' own pytest plugin does not know this pytest; its operations are strategies anyway.
BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def document(place: Place) -> Any:
    data = load("mixed_strings")
    estimator = mixed_pipeline(LogisticRegression(max_iter=1000)).fit(data.train, data.target)
    place.publish(estimator, name="documented", sample=data.train)
    return (
        schemathesis.openapi.from_url(f"{place.server.url}/openapi.json")
        .include(path_regex="documented|^/v2(/[a-z]+/[a-z]+)?$|^/(ping|invocations|score)$")
        .exclude(
            # It would be true, and nothing would answer any more.
            path_regex="/unload$"
        )
    )


def operations(document: Any) -> list[Any]:
    found = [result.ok() for result in document.get_all_operations()]
    assert found
    return found


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_path_keeps_what_the_document_says(
    place: Place, document: Any, mode: schemathesis.GenerationMode
) -> None:
    """Whatever fits or breaks the schema, the answer is one that the document has, and no 500."""
    asked = 0
    for operation in operations(document):
        if mode is schemathesis.GenerationMode.NEGATIVE and not operation.body:
            # A request without body or parameters has nothing in it that could be wrong.
            continue

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        ask()
        asked += 1
    assert asked
    assert place.client.is_ready("documented")


def test_rows_that_fit_the_document_are_answered(document: Any) -> None:
    """Any row that a model's own schema describes gets a prediction."""
    [operation] = [each for each in operations(document) if each.path.startswith("/predict/")]

    @BOUNDED
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call_and_validate(checks=[*CHECKS, positive_data_acceptance])
        assert response.status_code == 200

    ask()
