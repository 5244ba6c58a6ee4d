"""Calls that have ended, for tests of meters; and processes that record them until killed."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import Exhausted, Internal, ModelyardError, TimedOut
from modelyard.core.identity import Principal, Role
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.spool import Spool
from modelyard.gateway.permits import KeyedPermit

_FAILURES: dict[Outcome, type[ModelyardError]] = {
    Outcome.REFUSED: Exhausted,
    Outcome.FAILED: Internal,
    Outcome.TIMEOUT: TimedOut,
}


@dataclass(frozen=True)
class Version:
    """What a call is for, as far as a meter asks."""

    model: str = "churn"
    version: int = 1


CHURN = Version()


def make_permit(tenant: str = "acme", key: str = "k1", model: str = "churn") -> KeyedPermit:
    """Leave to call a model, without limits."""
    principal = Principal(tenant=tenant, key=key, name=key, role=Role.CALLER)
    return KeyedPermit(principal, model, None)


def make_call(
    permit: KeyedPermit,
    outcome: Outcome | None = Outcome.OK,
    *,
    served: Version = CHURN,
    rows: int = 1,
) -> Call:
    """A call that has ended so; with None, one that has not."""
    call = Call(served, {}, rows, lambda _: None)  # type: ignore[arg-type]
    call.permit = permit
    match outcome:
        case Outcome.OK:
            call.answer({})
        case Outcome.CANCELLED:
            call.cancel()
        case Outcome.CLIENT_GONE:
            call.abandon()
        case None:
            pass
        case _:
            call.fail(_FAILURES[outcome]("made", "made up"))
    return call


def record_and_tell(folder: Path, segment_bytes: int, told: Connection) -> None:
    """Record calls for ever, of many keys, and tell the id of each when it is recorded."""
    spool = Spool(folder, bound_bytes=2**30, segment_bytes=segment_bytes)
    spool.start()
    meter = SpooledMeter(spool)
    for number in itertools.count():
        call = make_call(make_permit(key=f"k{number % 7}"))
        meter.record(call)
        # As an answer that has left: what comes after may never happen.
        os.write(told.fileno(), f"{call.id}\n".encode())


def told_ids(told: Connection) -> Iterator[str]:
    """The ids that `record_and_tell` has told, to the end; a last one that is cut off is none."""
    data = b""
    while chunk := os.read(told.fileno(), 65536):
        data += chunk
    yield from data.decode().split("\n")[:-1]
