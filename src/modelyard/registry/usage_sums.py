"""What usage is added up by, and in which columns."""

from collections.abc import Mapping
from typing import Any, Final

from modelyard.core.usage import Subject
from modelyard.gateway.metering.batch import Group, Sums, moment
from modelyard.gateway.metering.layout import HOUR_NS
from modelyard.registry.tables import usage_hours

KEY: Final = tuple(column.name for column in usage_hours.primary_key)
"""When, for whom, of what, in which unit and currency, how it is known, how it ended."""
ADDED: Final = ("calls", "rows", "amount", "cost", "took_us")

Kept = dict[tuple[Any, ...], Sums]
"""Sums by the values of `KEY`."""


def by_key(sums: Mapping[Group, Sums], subjects: Mapping[int, Subject]) -> Kept:
    """The sums of an hour each: subjects that differ in nothing but their price are one."""
    kept: Kept = {}
    for group, each in sums.items():
        subject = subjects[group.subject]
        key = (
            moment(group.hour * HOUR_NS),
            subject.tenant,
            subject.key,
            subject.model,
            subject.version,
            subject.unit.value,
            subject.currency,
            group.known.value,
            group.outcome.value,
        )
        kept[key] = kept.get(key, Sums()) + each
    return kept


def by_day(hours: Mapping[tuple[Any, ...], Sums]) -> Kept:
    """The sums of a day each."""
    days: Kept = {}
    for (hour, *rest), each in hours.items():
        key = (hour.replace(hour=0), *rest)
        days[key] = days.get(key, Sums()) + each
    return days
