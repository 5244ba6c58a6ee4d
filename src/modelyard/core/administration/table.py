"""The table of all operations."""

from typing import Any, Final

from modelyard.core.administration import (
    access,
    approvals,
    audit,
    limits,
    models,
    payloads,
    routes,
    rules,
    servers,
    usage,
)
from modelyard.core.administration.operation import Operation, Request

OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    each.operation
    for area in (
        models,
        routes,
        approvals,
        servers,
        access,
        limits,
        rules,
        usage,
        audit,
        payloads,
    )
    for each in vars(area).values()
    if isinstance(each, type)
    and issubclass(each, Request)
    and each is not Request
    and each.__module__ == area.__name__
)
"""In the order in which they are declared."""


def operation_of(request: Request[Any]) -> Operation:
    """What a request is."""
    return type(request).operation
