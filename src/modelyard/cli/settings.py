"""What every verb is given: the home on the command line, and how the rest is read from there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from modelyard.core.config import Config
    from modelyard.core.names import Reference
    from modelyard.yard import Yard

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Reason = Annotated[str, typer.Option(help="Why; written to the audit.")]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that stand before the verb."""

    home: Path | None = None

    @staticmethod
    def of(context: typer.Context) -> "Settings":
        """Those of the command that is running."""
        settings: Settings = context.ensure_object(Settings)
        return settings

    def config(self, **overrides: object) -> "Config":
        """The configuration in force; `overrides` are the verb's own, None meaning unset."""
        from modelyard.core.config import load_config

        return load_config({"home": self.home, **overrides})

    def yard(self, **overrides: object) -> "Yard":
        """The yard of the home; close it, or use it as a context manager."""
        from modelyard.yard import Yard

        return Yard(self.config(**overrides))


def parse_reference(text: str) -> "Reference":
    """A model's reference on the command line; a text that is none is wrong use."""
    from modelyard.core.errors import Invalid
    from modelyard.core.names import Reference

    try:
        return Reference.parse(text)
    except Invalid as error:
        raise typer.BadParameter(error.message) from None


def parse_model(text: str, verb: str) -> str:
    """A model's name on the command line; a version or an alias beside it is wrong use."""
    reference = parse_reference(text)
    if str(reference) != reference.model:
        raise typer.BadParameter(
            f"{verb} takes a model, not a version or alias: modelyard {verb} {reference.model}"
        )
    return reference.model
