"""Errors over gRPC."""

import grpc
import pytest

from modelyard.api.grpc.errors import STATUSES, Status, details, trailers
from modelyard.core.errors import Exhausted, Invalid, Kind
from modelyard.core.limits import Headroom


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_status(kind: Kind) -> None:
    """No error of ours is without a status, and none counts as success."""
    assert STATUSES[kind] is not Status.OK


@pytest.mark.parametrize("status", Status)
def test_statuses_are_grpcs(status: Status) -> None:
    """Every status has the number that gRPC gives its name."""
    assert grpc.StatusCode[status.name].value[0] == status


def test_statuses_tell_kinds_apart() -> None:
    """A client can read the kind back from the status alone."""
    assert len(set(STATUSES.values())) == len(STATUSES) == len(Kind)


def test_trailers_are_ascii() -> None:
    """Message and field of any script fit into header fields, which hold only ASCII."""
    assert trailers(Invalid("bad", "größe\n100%", field="größe\n")) == (
        (b"grpc-status", b"3"),
        (b"grpc-message", b"gr%C3%B6%C3%9Fe%0A100%25"),
        (b"modelyard-kind", b"invalid"),
        (b"modelyard-code", b"bad"),
        (b"modelyard-field", b"gr%C3%B6%C3%9Fe%0A"),
    )


def test_trailers_say_when_to_try_again() -> None:
    """Whole seconds for people, and milliseconds for clients with a retry policy of gRPC's."""
    said = dict(trailers(Exhausted("full", "later", retry_after_s=0.25)))
    assert said[b"retry-after"] == b"1"
    assert said[b"grpc-retry-pushback-ms"] == b"250"
    assert b"modelyard-field" not in said


def test_trailers_say_how_a_limit_stands() -> None:
    """As HTTP's headers do, by the limit's unit; money has no plural."""
    error = Exhausted("rate_reached", "later", retry_after_s=2.0)
    error.headroom = Headroom(limit=60, remaining=0, unit="token", resets_s=1.5)
    said = dict(trailers(error))
    assert said[b"x-ratelimit-limit-tokens"] == b"60"
    assert said[b"x-ratelimit-remaining-tokens"] == b"0"
    assert said[b"x-ratelimit-reset-tokens"] == b"2"
    error.headroom = Headroom(limit=5, remaining=0, unit="money")
    said = dict(trailers(error))
    assert said[b"x-ratelimit-limit-money"] == b"5"
    assert not any(name.startswith(b"x-ratelimit-reset") for name in said)


def test_details_are_bounded() -> None:
    """A message with a caller's endless name in it stays below what a header may hold."""
    assert details(Invalid("bad", "short")) == "short"
    assert len(details(Invalid("bad", "x" * 100_000))) == 500
