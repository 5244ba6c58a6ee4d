"""The periods of quotas, by the UTC calendar."""

import datetime

from modelyard.core.limits import Period


def period_at(period: Period, at_s: float) -> str:
    """The name of the period that a Unix moment is in: `2026-11-22T06`, `2026-11`, `total`, …."""
    match period:
        case Period.HOUR:
            return f"{_utc(at_s):%Y-%m-%dT%H}"
        case Period.DAY:
            return f"{_utc(at_s):%Y-%m-%d}"
        case Period.MONTH:
            return f"{_utc(at_s):%Y-%m}"
        case Period.TOTAL:
            return str(period)


def period_end(period: Period, at_s: float) -> float | None:
    """The Unix moment at which that period ends; None for never."""
    at = _utc(at_s).replace(minute=0, second=0, microsecond=0)
    match period:
        case Period.HOUR:
            end = at + datetime.timedelta(hours=1)
        case Period.DAY:
            end = at.replace(hour=0) + datetime.timedelta(days=1)
        case Period.MONTH:
            # Every month has a 28th, and four days on it is the next.
            end = (at.replace(day=28, hour=0) + datetime.timedelta(days=4)).replace(day=1)
        case Period.TOTAL:
            return None
    return end.timestamp()


def _utc(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC)
