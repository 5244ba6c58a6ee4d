"""`modelyard approvals`: changes that one person has asked for, and another approves."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.deploy import describe_route
from modelyard.cli.following import WAIT_S, Wait, await_servers
from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.approval import Approval, Change

app = typer.Typer(help="Changes that wait for a second person.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="ID", show_default=False)]


@app.command("list", cls=Verb)
def list_approvals(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were decided, or have expired.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    as_json: Json = False,
) -> None:
    """List the changes that wait."""
    from modelyard.core.administration.approvals import ListApprovals
    from modelyard.core.administration.port import every

    wanted = ListApprovals(model=model or "", everything=everything)
    with Settings.of(context).administration() as administration:
        found = list(every(administration, wanted))
    if as_json:
        say_json(found)
        return
    say_table(
        ("id", "model", "change", "asked by", "asked", "expires", "state"),
        [
            (
                each.id,
                each.model,
                f"{each.change.action} {each.change.number}",
                each.asked_by.name,
                each.asked,
                each.expires,
                each.state,
            )
            for each in found
        ],
    )


@app.command("show", cls=Verb)
def show(context: typer.Context, number: Number, as_json: Json = False) -> None:
    """Show exactly what was asked for, by whom and why, and what became of it."""
    from modelyard.core.administration.approvals import GetApproval

    with Settings.of(context).administration() as administration:
        found = administration.do(GetApproval(number=number))
    if as_json:
        say_json(found)
    else:
        say_facts(_facts(found))


@app.command("approve", cls=Verb)
def approve(
    context: typer.Context,
    number: Number,
    wait: Wait = WAIT_S,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let a change that somebody else has asked for take place."""
    from modelyard.core.administration.approvals import Approve

    with Settings.of(context).administration() as administration:
        done = administration.do(Approve(number=number, reason=reason))
        await_servers(administration, done.model, done.result, wait)
    if as_json:
        say_json(done)
    else:
        say(f"request {done.id} of '{done.asked_by.name}' is approved: {_tell(done.change)}")


@app.command("reject", cls=Verb)
def reject(
    context: typer.Context,
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; written to the audit.")],
    as_json: Json = False,
) -> None:
    """Refuse a change, or take one's own request back."""
    from modelyard.core.administration.approvals import Reject

    with Settings.of(context).administration() as administration:
        done = administration.do(Reject(number=number, reason=reason))
    if as_json:
        say_json(done)
    else:
        say(f"request {done.id} of '{done.asked_by.name}' is rejected")


def _facts(found: "Approval") -> list[tuple[str, object]]:
    return [
        ("request", found.id),
        ("state", found.state),
        ("model", found.model),
        ("change", _tell(found.change)),
        ("asked by", found.asked_by.name),
        ("asked", found.asked),
        ("why", found.asked_reason),
        ("expires", found.expires),
        ("decided by", None if found.decided_by is None else found.decided_by.name),
        ("decided", found.decided),
        ("reason", found.decided_reason),
    ]


def _tell(change: "Change") -> str:
    text = f"{change.action}: calls go to {describe_route(change.route)}"
    if change.plan is None:
        return text
    steps = ", ".join(f"{step:g}%" for step in change.plan.steps)
    guards = ", ".join(guard.text for guard in change.plan.guards)
    return f"{text}, then to version {change.number} by {steps}" + (
        f" while {guards}" if guards else ""
    )
