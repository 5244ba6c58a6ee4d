"""What every verb is given: the home or the server, and how the rest is read from there."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from modelyard.core.administration.port import Administration
    from modelyard.core.config import Config
    from modelyard.core.names import Reference
    from modelyard.yard import Yard

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Reason = Annotated[str, typer.Option(help="Why; written to the audit.")]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that stand before the verb."""

    home: Path | None = None
    server: str | None = None
    key: str | None = None

    @staticmethod
    def of(context: typer.Context) -> "Settings":
        """Those of the command that is running."""
        settings: Settings = context.ensure_object(Settings)
        return settings

    def config(self, **overrides: object) -> "Config":
        """The configuration in force; `overrides` are the verb's own, None meaning unset."""
        from modelyard.core.config import load_config

        given = {"home": self.home, "server": self.server, "key": self.key}
        return load_config({**given, **overrides})

    def yard(self, **overrides: object) -> "Yard":
        """The yard of the home on this machine; close it, or use it as a context manager.

        For a verb that no server does: where one is named, that is wrong use.
        """
        from modelyard.yard import Yard

        self.stay_here()
        return Yard(self.config(**overrides))

    def here(self) -> "Settings":
        """These, for a verb that is of this machine only: a server on the command line is wrong."""
        self.stay_here()
        return self

    def stay_here(self) -> None:
        """Refuse a server on the command line."""
        if self.server:
            raise typer.BadParameter(
                "this is done on the machine itself, by its home: leave --server away"
            )

    @contextlib.contextmanager
    def administration(self) -> "Iterator[Administration]":
        """That of the server which is named, or else of the home on this machine."""
        config = self.config()
        if config.server:
            from modelyard.client.administration import RemoteAdministration

            with RemoteAdministration(config.server, config.key) as remote:
                yield remote
            return
        from modelyard.yard import Yard

        with Yard(config) as yard:
            yield yard.administration


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
