"""`modelyard status`: what the servers of a home are doing."""

from typing import TYPE_CHECKING, Any

import typer

from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Settings
from modelyard.cli.shadows import say_shadows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelyard.core.payloads import CaptureState
    from modelyard.core.usage import SpoolState
    from modelyard.serving.supervision.overview import Overview


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show running servers: workers, endpoints, queues, rates, memory, and what is wrong.

    Asks each server of the home on its machine. Ends with status 1 where none runs.
    """
    import msgspec

    from modelyard.core.errors import Unavailable
    from modelyard.serving.supervision.overview import Overview

    settings = Settings.of(context)
    overviews = msgspec.convert(_ask(settings), list[Overview])
    if as_json:
        say_json(overviews)
    for number, overview in enumerate(overviews if not as_json else ()):
        if number:
            say()
        _show(overview)
    if not overviews:
        raise Unavailable(
            "no_server",
            f"no server runs on {settings.config().home} on this machine; "
            "start one: modelyard serve",
        )


def _ask(settings: Settings) -> "Sequence[Mapping[str, Any]]":
    """What they answer, also while their registry does not: that is when one wants to know."""
    config = settings.config()
    if not config.server:
        from modelyard.wiring.administration import look_at_servers

        return look_at_servers(config.home)
    from modelyard.core.administration.servers import Status

    with settings.administration() as administration:
        return administration.do(Status())


def _show(overview: "Overview") -> None:
    say_facts(
        [
            ("HTTP", overview.url),
            ("gRPC", overview.grpc_address),
            ("home", overview.home),
            ("pid", overview.pid),
            ("up", _age(overview.age_s)),
            ("memory", _all_memory(overview)),
            ("usage", _usage(overview.usage)),
            ("payloads", _payloads(overview.payloads)),
        ]
    )
    say()
    say_table(
        ("worker", "pid", "state", "up", "restarts", "connections", "memory"),
        [
            (
                worker.slot,
                worker.pid,
                worker.state,
                _age(worker.age_s),
                worker.restarts,
                worker.connections,
                _megabytes(worker.pss_bytes),
            )
            for worker in overview.workers
        ],
    )
    _show_endpoints(overview)
    say_shadows(overview.routes)
    _show_processes(overview)
    for problem in overview.problems:
        say(f"{problem.model}:{problem.version} is not served: {problem.reason}")


def _payloads(captures: "CaptureState") -> str:
    """What an operator should know of payloads that were to be captured and were not."""
    reasons = {
        "for want of room": captures.no_room,
        "too large": captures.too_large,
        "about nobody known": captures.no_subject,
        "not written": captures.failed,
    }
    told = [f"{count} {reason}" for reason, count in reasons.items() if count]
    return f"{captures.dropped} not kept: {', '.join(told)}" if told else ""


def _usage(spool: "SpoolState") -> str:
    """What an operator should know of the usage that is not in the registry."""
    parts = [f"{spool.waiting} events wait to be copied"] if spool.waiting else []
    if spool.unrecorded:
        parts.append(f"{spool.unrecorded} calls could not be recorded")
    if spool.trouble:
        parts.append(spool.trouble)
    return "; ".join(parts)


def _show_endpoints(overview: "Overview") -> None:
    if not overview.endpoints:
        return
    shares = {
        (route.model, target.version): f"{target.given:g}%"
        for route in overview.routes
        for target in route.targets
    }
    shadows = {
        (route.model, route.shadow.version): f"shadow {route.shadow.percent:g}%"
        for route in overview.routes
        if route.shadow is not None
    }
    say()
    say_table(
        (
            *("endpoint", "share", "where", "open", "queued rows"),
            *("calls/s", "p50 ms", "p99 ms", "calls", "errors", "refused"),
        ),
        [
            (
                f"{each.model}:{each.version}",
                {**shadows, **shares}.get((each.model, each.version)),
                ", ".join(each.places),
                each.open_calls,
                each.queued_rows,
                f"{each.per_second:.1f}",
                f"{each.p50_ms:.2f}",
                f"{each.p99_ms:.2f}",
                each.calls,
                each.errors,
                each.refusals,
            )
            for each in overview.endpoints
        ],
    )
    for each in overview.endpoints:
        for trouble in each.trouble:
            say(f"{each.model}:{each.version} cannot answer: {trouble}")


def _show_processes(overview: "Overview") -> None:
    if not overview.processes:
        return
    say()
    say_table(
        ("model process", "pid", "restarts", "users", "memory"),
        [
            (
                each.place.name,
                each.place.pid,
                each.place.restarts,
                each.place.users,
                _megabytes(each.pss_bytes),
            )
            for each in overview.processes
        ],
    )


def _all_memory(overview: "Overview") -> str | None:
    """Of all processes; where the system tells no more than some, none."""
    parts = [
        overview.pss_bytes,
        *(each.pss_bytes for each in overview.workers),
        *(each.pss_bytes for each in overview.processes),
    ]
    known = [each for each in parts if each is not None]
    return _megabytes(sum(known)) if len(known) == len(parts) else None


def _megabytes(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else f"{size_bytes / 1e6:.0f} MB"


def _age(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.0f} d"
    if hours >= 2:
        return f"{hours:.0f} h"
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
