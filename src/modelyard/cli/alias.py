"""`modelyard alias`: movable names for versions."""

from typing import Annotated

import typer

from modelyard.cli.screen import say, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings, parse_reference
from modelyard.cli.verb import Verb

app = typer.Typer(help="Movable names for versions: churn@champion.", no_args_is_help=True)


@app.command("set", cls=Verb)
def set_alias(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL@ALIAS VERSION",
            help="Also MODEL ALIAS VERSION.",
            show_default=False,
        ),
    ],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let an alias name a version, wherever it pointed before."""
    from modelyard.core.administration.models import SetAlias

    model, alias, number = _parse(words)
    with Settings.of(context).administration() as administration:
        named = administration.do(SetAlias(model=model, alias=alias, number=number, reason=reason))
    if as_json:
        say_json(named)
    else:
        say(f"{model}@{alias} is version {number}")


@app.command("list", cls=Verb)
def list_aliases(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List aliases and the versions that they name."""
    from modelyard.core.administration.models import GetModel, ListModels
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        if model is None:
            models = list(every(administration, ListModels()))
        else:
            models = [administration.do(GetModel(model=model))]
    found = [
        {"model": each.name, "alias": alias, "number": number}
        for each in models
        for alias, number in each.aliases.items()
    ]
    if as_json:
        say_json(found)
    else:
        say_table(("model", "alias", "version"), [tuple(each.values()) for each in found])


def _parse(words: list[str]) -> tuple[str, str, int]:
    if len(words) == 3:
        words = [f"{words[0]}@{words[1]}", words[2]]
    reference = parse_reference(words[0])
    if len(words) != 2 or reference.alias is None:
        raise typer.BadParameter("write: modelyard alias set MODEL@ALIAS VERSION")
    version = parse_reference(f"{reference.model}:{words[1].removeprefix(':')}").version
    return reference.model, reference.alias, version or 0
