"""`modelyard config`."""

import typer

from modelyard.cli.screen import say_json, say_table
from modelyard.cli.settings import Json, Settings


def config(context: typer.Context, as_json: Json = False) -> None:
    """Show the settings in force.

    Command line over environment (MODELYARD_…) over modelyard.toml in the home over default.
    """
    from modelyard.core.config import settings, shown_config

    values = shown_config(Settings.of(context).here().config())
    if as_json:
        say_json(values)
        return
    say_table(
        ("setting", "value", "meaning"),
        [(setting.name, values[setting.name], setting.metadata["doc"]) for setting in settings()],
    )
