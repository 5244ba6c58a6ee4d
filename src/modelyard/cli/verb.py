"""The class of every verb."""

import typer.core


class Verb(typer.core.TyperCommand):
    """A command whose usage line shows each argument just as its metavar is written."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The pieces after the command's name. Typer would put a second bracket around each."""
        arguments = [each for each in self.params if isinstance(each, typer.core.TyperArgument)]
        return ["[OPTIONS]", *(each.metavar or each.display_name_raw for each in arguments)]
