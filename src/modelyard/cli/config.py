"""`modelyard config`."""

import typer

from modelyard.cli.screen import say_json, say_table
from modelyard.cli.settings import Json, Settings


def config(context: typer.Context, as_json: Json = False) -> None:
    """Show the settings in force.

    Command line over environment (MODELYARD_…) over modelyard.toml in the home over default.
    """
    from modelyard.core.config import settings

    present = Settings.of(context).here().config()
    values = {setting.name: getattr(present, setting.name) for setting in settings()}
    if as_json:
        say_json({name: _plain(value) for name, value in values.items()})
        return
    say_table(
        ("setting", "value", "meaning"),
        [
            (setting.name, _plain(values[setting.name]), setting.metadata["doc"])
            for setting in settings()
        ],
    )


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float) else str(value)
