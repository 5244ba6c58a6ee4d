"""`modelyard models`: what there is in the registry."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.deploy import describe_route, plain_route
from modelyard.cli.history import history
from modelyard.cli.manifests import read_manifest
from modelyard.cli.report import describe, say_evaluation
from modelyard.cli.rollouts import say_rollout
from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Settings, parse_reference
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.administration.port import Administration
    from modelyard.core.names import Reference
    from modelyard.core.route import Route

app = typer.Typer(help="List models, or show one.", invoke_without_command=True)


app.command("history", cls=Verb)(history)


@app.callback()
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List every model, or `models show` one."""
    if context.invoked_subcommand is not None:
        return
    from modelyard.core.administration.models import ListModels
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        found = list(every(administration, ListModels()))
    if as_json:
        say_json(found)
    elif not found:
        say("no model was published yet: 'modelyard train' or 'modelyard import' makes the first")
    else:
        say_table(
            ("model", "newest", "deployed", "aliases", "created"),
            [
                (
                    model.name,
                    model.latest,
                    model.routed,
                    [f"@{alias}={number}" for alias, number in model.aliases.items()],
                    model.created,
                )
                for model in found
            ],
        )


@app.command("show", cls=Verb)
def show(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a model's versions and routes, or all about one version."""
    reference = parse_reference(model)
    with Settings.of(context).administration() as administration:
        if reference.version is None and reference.alias is None:
            _show_model(administration, reference, as_json)
        else:
            _show_version(administration, reference, as_json)


def _show_model(administration: "Administration", reference: "Reference", as_json: bool) -> None:
    from modelyard.core.administration.models import ListRouteChanges, ListVersions
    from modelyard.core.administration.port import every
    from modelyard.core.administration.routes import ListRollouts

    model = reference.model
    versions = list(every(administration, ListVersions(model=model)))
    route = _route(administration, model)
    history = list(every(administration, ListRouteChanges(model=model)))
    rollouts = list(every(administration, ListRollouts(model=model)))
    if as_json:
        say_json(
            {
                "model": reference.model,
                "route": None if route is None else plain_route(route),
                "versions": versions,
                "history": history,
                "rollouts": rollouts,
            }
        )
        return
    say_table(
        ("version", "state", "deployed", "aliases", "created", "by", "bundle"),
        [
            (
                version.number,
                version.state,
                _place(route, version.number),
                [f"@{alias}" for alias in version.aliases],
                version.created,
                version.actor,
                version.digest[:19],
            )
            for version in versions
        ],
        title=reference.model,
    )
    if route is not None:
        say()
        say(f"calls go to {describe_route(route)}")
    for rollout in rollouts:
        say_rollout(rollout)
    if history:
        say()
        say_table(
            ("when", "who", "did", "version", "why"),
            [
                (
                    change.changed,
                    change.actor,
                    change.action,
                    None if change.route is None else _versions(change.route),
                    change.reason,
                )
                for change in history
            ],
            title="routes, oldest first",
        )


def _route(administration: "Administration", model: str) -> "Route | None":
    from modelyard.core.administration.routes import GetRoute
    from modelyard.core.errors import NotFound

    try:
        return administration.do(GetRoute(model=model))
    except NotFound:
        return None


def _place(route: "Route | None", number: int) -> str:
    if route is None or number not in route.versions:
        return ""
    shares = [target.percent for target in route.targets if target.version == number]
    if not shares:
        return "shadow"
    return "yes" if shares == [100.0] else f"{shares[0]:g}%"


def _versions(route: "Route") -> str:
    text = " and ".join(
        f"{target.version}" if target.percent == 100 else f"{target.version} ({target.percent:g}%)"
        for target in route.targets
    )
    return text if route.shadow is None else f"{text}, shadow {route.shadow.version}"


def _show_version(administration: "Administration", reference: "Reference", as_json: bool) -> None:
    from modelyard.core.administration.models import GetVersion

    version = administration.do(GetVersion(reference=str(reference)))
    manifest = read_manifest(administration, version)
    if as_json:
        say_json({"version": version, "bundle": manifest})
        return
    say_facts(
        [
            ("version", f"{version.model}:{version.number}"),
            ("state", version.state),
            ("aliases", version.aliases),
            ("published", version.created),
            ("by", version.actor),
            *describe(manifest),
        ]
    )
    say_evaluation(manifest.evaluation)
