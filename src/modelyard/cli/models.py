"""`modelyard models`: what there is in the registry."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.report import describe, say_evaluation
from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Settings, parse_reference
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.names import Reference
    from modelyard.yard import Yard

app = typer.Typer(help="List models, or show one.", invoke_without_command=True)


@app.callback()
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List every model, or `models show` one."""
    if context.invoked_subcommand is not None:
        return
    with Settings.of(context).yard() as yard:
        found = yard.registry.models()
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
    with Settings.of(context).yard() as yard:
        if reference.version is None and reference.alias is None:
            _show_model(yard, reference, as_json)
        else:
            _show_version(yard, reference, as_json)


def _show_model(yard: "Yard", reference: "Reference", as_json: bool) -> None:
    versions = yard.registry.versions(reference.model)
    routed = next((r for r in yard.registry.routes() if r.model == reference.model), None)
    history = yard.registry.route_history(reference.model)
    if as_json:
        say_json(
            {"model": reference.model, "route": routed, "versions": versions, "history": history}
        )
        return
    say_table(
        ("version", "state", "deployed", "aliases", "created", "by", "bundle"),
        [
            (
                version.number,
                version.state,
                "yes" if routed is not None and routed.number == version.number else "",
                [f"@{alias}" for alias in version.aliases],
                version.created,
                version.actor,
                version.digest[:19],
            )
            for version in versions
        ],
        title=reference.model,
    )
    if history:
        say()
        say_table(
            ("when", "who", "did", "version", "why"),
            [
                (change.changed, change.actor, change.action, change.number, change.reason)
                for change in history
            ],
            title="routes, oldest first",
        )


def _show_version(yard: "Yard", reference: "Reference", as_json: bool) -> None:
    version = yard.registry.resolve(reference)
    manifest = yard.registry.bundle(version).manifest
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
