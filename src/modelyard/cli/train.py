"""`modelyard train`: a table and a recipe become a version."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelyard.cli import publishing
from modelyard.cli.progress import Steps
from modelyard.cli.report import describe_conversion, say_evaluation
from modelyard.cli.screen import note, say, say_json
from modelyard.cli.settings import Json, Settings

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Manifest
    from modelyard.core.records import Version
    from modelyard.train.recipe import Recipe
    from modelyard.train.training import Trained


def train(
    context: typer.Context,
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE.toml]", help="How to make the model.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Without a recipe: the table, CSV, TSV or Parquet.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Its column to predict.")] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="random_forest, logistic_regression, ridge, …")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A parameter of the algorithm; repeatable."
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out; repeatable.")
    ] = None,
    task: Annotated[
        Literal["auto", "classification", "regression"], typer.Option(help="Told by the target.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Route calls to it if it passes its gate.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model and publish it.

    From a recipe, or from a table and an algorithm. A version that fails its gate is published
    as rejected, and the exit status is 1.
    """
    from modelyard.train.recipe import load_recipe, recipe_for

    if recipe is not None:
        if any(value is not None for value in (data, target, algorithm, name, parameters, drop)):
            raise typer.BadParameter("a recipe says all of it: give no other option beside it")
        chosen, base = load_recipe(recipe), recipe.parent
    elif data is None or target is None or algorithm is None or name is None:
        raise typer.BadParameter(
            "give a recipe, or all of --data, --target, --algorithm and --name"
        )
    else:
        chosen = recipe_for(
            data,
            target,
            algorithm,
            name,
            task=task,
            parameters=dict(map(_parse_parameter, parameters or [])),
            drop=tuple(drop or ()),
            seed=seed,
        )
        base = data.parent
    settings = Settings.of(context)
    version = _train(settings, chosen, base, as_json)
    if version.state == "rejected":
        note(
            f"error: {version.model}:{version.number} did not pass its gate, so it was "
            "published as rejected and cannot be deployed without --force"
        )
        raise typer.Exit(1)
    if deploy:
        publishing.deploy(settings, version)
        note(f"calls to {version.model} go to version {version.number}")


def _train(settings: Settings, recipe: "Recipe", base: Path, as_json: bool) -> "Version":
    from functools import partial

    from modelyard.train.training import train
    from modelyard.yard import package_trained

    with Steps() as steps:
        trained = train(recipe, base=base, progress=steps)
        steps.step("package", "convert to ONNX, prove it equal, publish")
        published = publishing.publish(settings, partial(package_trained, trained))
    for remark in trained.notes:
        note(f"note: {remark}")
    _say_trained(published.version, published.manifest, trained, as_json)
    return published.version


def _say_trained(
    version: "Version", manifest: "Manifest", trained: "Trained", as_json: bool
) -> None:
    """How good it is, what became of the conversion, and which version it is."""
    if as_json:
        say_json(
            {
                "version": version,
                "evaluation": manifest.evaluation,
                "conversion": manifest.conversion,
                "serving": manifest.serving,
                "notes": trained.notes,
            }
        )
        return
    say_evaluation(manifest.evaluation)
    say()
    say(describe_conversion(manifest.conversion))
    say(f"published {version.model}:{version.number}, {version.state}, {version.digest}")


def _parse_parameter(text: str) -> tuple[str, object]:
    """`key=value`, the value as TOML reads it, or else as the text that it is."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"'{text}' is no parameter; write --set KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
