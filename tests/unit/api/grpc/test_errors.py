"""Errors over gRPC."""

import grpc
import pytest

from modelyard.api.grpc.errors import STATUSES, details, trailers
from modelyard.core.errors import Exhausted, Invalid, Kind


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_status(kind: Kind) -> None:
    """No error of ours is without a status, and none counts as success."""
    assert STATUSES[kind] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)


def test_statuses_tell_kinds_apart() -> None:
    """A client can read the kind back from the status alone."""
    assert len(set(STATUSES.values())) == len(STATUSES) == len(Kind)


def test_trailers_are_ascii() -> None:
    """A field of any script fits into metadata, which holds only ASCII."""
    assert trailers(Invalid("bad", "no", field="größe\n")) == (
        ("modelyard-kind", "invalid"),
        ("modelyard-code", "bad"),
        ("modelyard-field", "gr%C3%B6%C3%9Fe%0A"),
    )


def test_trailers_without_a_field() -> None:
    """An error of no field has no such trailer."""
    assert trailers(Exhausted("full", "later")) == (
        ("modelyard-kind", "exhausted"),
        ("modelyard-code", "full"),
    )


def test_details_are_bounded() -> None:
    """A message with a caller's endless name in it stays below what a header may hold."""
    assert details(Invalid("bad", "short")) == "short"
    assert len(details(Invalid("bad", "x" * 100_000))) == 500
