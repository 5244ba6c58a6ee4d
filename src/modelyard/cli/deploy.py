"""`modelyard deploy`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from modelyard.cli.following import WAIT_S, Wait, await_servers
from modelyard.cli.screen import say, say_json
from modelyard.cli.settings import Json, Reason, Settings, parse_reference
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard.core.administration.port import Administration
    from modelyard.core.names import Reference
    from modelyard.core.rollout import Rollout
    from modelyard.core.route import Route

_SHADOW = "--shadow"


class DeployVerb(Verb):
    """A bare `--shadow` means all calls: its share may be left out, as in no other option."""

    def parse_args(  # type: ignore[override]
        self, ctx: typer.Context, args: list[str]
    ) -> list[str]:
        """The arguments, with what was left out put in."""
        if _SHADOW in args:
            after = args.index(_SHADOW) + 1
            if after == len(args) or not args[after][:1].isdigit():
                args = [*args[:after], "100%", *args[after:]]
        return super().parse_args(ctx, args)


Force = Annotated[
    bool, typer.Option("--force", help="Deploy a rejected version too; the audit shows it.")
]


def deploy(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[:VERSION|@ALIAS]",
            help="Without a version, the newest that passed its gate.",
            show_default=False,
        ),
    ],
    canary: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Only this share of the calls, such as 10%."),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="[PERCENT]",
            help="No calls, but a copy of this share of them, by default of all; its answers are "
            "compared.",
        ),
    ] = None,
    progressive: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENTS", help="Step by step, as in 1%,10%,50%,100%; servers move it."
        ),
    ] = None,
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="How long each step is held: 60s, 5m, 1h.")
    ] = "60s",
    guard: Annotated[
        str,
        typer.Option(
            metavar="GUARDS",
            help="What must hold, or it is rolled back: error_rate<=0.1%, p99<=1.2x, "
            "agreement>=99%.",
        ),
    ] = "",
    least_calls: Annotated[
        int, typer.Option(metavar="N", help="Calls that a step must have seen before it is left.")
    ] = 100,
    sticky: Annotated[
        str | None,
        typer.Option(
            metavar="HEADER",
            help="Keep callers on one version by this header's value, such as x-user.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="How the model is served, such as p99_ms=20; stays until unset. "
            "Without a version, nothing else is changed.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Back to the server's own setting.")
    ] = None,
    force: Force = False,
    wait: Wait = WAIT_S,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Route calls to a version. Running servers follow within a moment, without a restart."""
    from modelyard.core.administration.routes import Deploy, RollOut
    from modelyard.core.options import parse_assignments
    from modelyard.core.rollout import parse_percent

    reference = parse_reference(model)
    if sum(each is not None for each in (canary, shadow, progressive)) > 1:
        raise typer.BadParameter("use one of --canary, --shadow and --progressive")
    if progressive is None and guard:
        raise typer.BadParameter("--guard is for --progressive")
    options = parse_assignments(assignments or [], unset or []) or None
    with Settings.of(context).administration() as administration:
        common: dict[str, Any] = {
            "model": reference.model,
            "number": _number(administration, reference),
            "sticky": sticky,
            "options": options,
            "force": force,
            "reason": reason,
        }
        if progressive is not None:
            plan = _plan(progressive, every, guard, least_calls)
            _say_rollout(administration.do(RollOut(**plan, **common)), as_json)
            return
        route = administration.do(
            Deploy(
                canary=None if canary is None else parse_percent(canary, "canary"),
                shadow=None if shadow is None else parse_percent(shadow, "shadow"),
                **common,
            )
        )
        await_servers(administration, route.model, route.generation, wait)
    say_route(route, as_json)


def say_route(route: "Route", as_json: bool) -> None:
    """Where calls go now."""
    if as_json:
        say_json(plain_route(route))
    else:
        say(f"calls to {route.model} go to {describe_route(route)}")


def plain_route(route: "Route") -> "Mapping[str, object]":
    """A route for programs: `number` is its stable version."""
    from modelyard.core.options import set_options

    return {
        "model": route.model,
        "number": route.number,
        "generation": route.generation,
        "targets": route.targets,
        "shadow": route.shadow,
        "sticky": route.sticky,
        "options": set_options(route.options),
    }


def describe_route(route: "Route") -> str:
    """A route in words: `version 1 (90%) and version 2 (10%, by x-user)`."""
    from modelyard.core.options import set_options

    text = f"version {route.number}"
    if route.canary is not None:
        by = f", by {route.sticky}" if route.sticky else ""
        text += (
            f" ({route.targets[0].percent:g}%) and "
            f"version {route.canary.version} ({route.canary.percent:g}%{by})"
        )
    if route.shadow is not None:
        whose = "those of the canary" if route.canary is not None else "them"
        percent = f"{route.shadow.percent:g}%"
        text += f"; version {route.shadow.version} gets a copy of {percent} of {whose}"
    options = set_options(route.options)
    if options:
        text += "; with " + ", ".join(f"{name}={_show(value)}" for name, value in options.items())
    return text


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _number(administration: "Administration", reference: "Reference") -> int | None:
    """The version that is named; None where the newest is meant."""
    from modelyard.core.administration.models import GetVersion

    if reference.alias is None:
        return reference.version
    return administration.do(GetVersion(reference=str(reference))).number


def _plan(progressive: str, every: str, guard: str, least_calls: int) -> dict[str, Any]:
    from modelyard.core.rollout import parse_duration_s, parse_guards, parse_steps

    return {
        "steps": parse_steps(progressive),
        "every_s": parse_duration_s(every, "every"),
        "guards": tuple(each.text for each in parse_guards(guard)),
        "least_calls": least_calls,
    }


def _say_rollout(rollout: "Rollout", as_json: bool) -> None:
    if as_json:
        say_json(rollout)
        return
    say(
        f"calls to {rollout.model} move from version {rollout.stable} to {rollout.candidate} in "
        f"{len(rollout.plan.steps)} steps, beginning with {rollout.percent:g}%"
    )
    say(f"running servers move it; see it with: modelyard models show {rollout.model}")
