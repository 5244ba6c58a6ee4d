"""`modelyard audit`: who changed what, and the proof that nobody changed that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
import typer.core

from modelyard.cli.moments import Since, Until, parse_moment
from modelyard.cli.screen import note, say, say_json, say_table
from modelyard.cli.settings import Json, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.audit import Verdict

_LIST = "list"


class _ListsByDefault(typer.core.TyperGroup):
    """`audit` and `audit MODEL` list, so that the verb of every day stays short."""

    def parse_args(  # type: ignore[override]
        self, ctx: typer.Context, args: list[str]
    ) -> list[str]:
        """The arguments, with what was left out put in."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [_LIST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListsByDefault,
    help="Show who changed what, when and why; sign it, prove it, take it away.",
)

Keys = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Public keys in PEM, as 'audit key' prints them: only what these signed counts.",
    ),
]


@app.command(_LIST, cls=Verb)
def list_rows(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this model's.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only what is about a model, key, limit, call, ….")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show who changed what, when and why."""
    from modelyard.core.administration.audit import ListAudit
    from modelyard.core.administration.port import first

    wanted = ListAudit(
        model=model or "",
        kind=kind or "",
        since=parse_moment(since, "--since"),
        until=parse_moment(until, "--until"),
    )
    with Settings.of(context).administration() as administration:
        rows = first(limit, administration, wanted)
    if as_json:
        say_json(rows)
        return
    say_table(
        ("when", "who", "from", "did", "to", "why"),
        [
            (
                row.at,
                row.actor,
                row.source,
                row.action,
                _subject(row.kind, row.subject, row.number),
                row.reason,
            )
            for row in rows
        ],
    )


@app.command("verify", cls=Verb)
def verify(
    context: typer.Context,
    keys: Keys = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verify this export, without any database."),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier export: shows rows that were cut off the end since it was made.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find every row that was changed, removed, inserted or moved; ends with 1 where one was.

    Rows after the last checkpoint hang together, but only an earlier export shows whether some of
    them were cut off.
    """
    from modelyard.core.administration.audit import VerifyAudit
    from modelyard.registry.exports import read_checkpoints, verify_export

    pems = _read_keys(keys or [])
    if export is not None:
        with _open(export) as lines:
            verdict = verify_export(lines, keys=pems)
    else:
        seen = []
        if earlier is not None:
            with _open(earlier) as lines:
                seen = list(read_checkpoints(lines))
        with Settings.of(context).administration() as administration:
            verdict = administration.do(VerifyAudit(keys=pems, earlier=tuple(seen)))
    if as_json:
        say_json({"whole": verdict.is_whole, "verdict": verdict})
    else:
        _say_verdict(verdict)
    if not verdict.is_whole:
        raise typer.Exit(1)


@app.command("export", cls=Verb)
def export_rows(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; by default here.")
    ] = None,
) -> None:
    """Write the audit as JSON lines, with checkpoints and public keys: its proof goes along."""
    import contextlib
    import sys

    from modelyard.core.administration.audit import ExportAudit

    wanted = ExportAudit(since=parse_moment(since, "--since"), until=parse_moment(until, "--until"))
    with (
        Settings.of(context).administration() as administration,
        contextlib.ExitStack() as stack,
    ):
        target = sys.stdout.buffer if out is None else stack.enter_context(out.open("wb"))
        for line in administration.lines(wanted):
            target.write(line)


@app.command("checkpoint", cls=Verb)
def checkpoint(context: typer.Context, as_json: Json = False) -> None:
    """Sign now how far the audit has come. Running servers do so by themselves."""
    from modelyard.gateway.node_key import node_key

    with Settings.of(context).yard() as yard:
        made = yard.registry.trail.checkpoint(node_key(yard.config.home))
    if as_json:
        say_json(made)
    elif not made:
        say("nothing is new since the last checkpoint")
    for each in [] if as_json else made:
        say(f"{each.node} is signed for up to row {each.sequence}: {each.hash}")


@app.command("key", cls=Verb)
def key(context: typer.Context, as_json: Json = False) -> None:
    """Print the public key by which this home's checkpoints are known; keep it elsewhere."""
    from modelyard.gateway.node_key import node_key, node_name
    from modelyard.registry.verification import public_pem

    with Settings.of(context).yard() as yard:
        public = node_key(yard.config.home).public_key()
    if as_json:
        say_json({"node": node_name(public), "public_key": public_pem(public)})
    else:
        say(public_pem(public).rstrip())


@app.command("grants", cls=Verb)
def grants(
    role: Annotated[str, typer.Option(help="The role of PostgreSQL that servers connect as.")],
) -> None:
    """Print the SQL by which a role may add to the history, and neither change nor remove it.

    The tables must belong to another role, who runs this, and upgrades the registry.
    """
    from modelyard.registry.grants import grants_for

    for statement in grants_for(role):
        say(f"{statement};")


def _subject(kind: str, subject: str, number: int | None) -> str:
    name = subject if number is None else f"{subject}:{number}"
    return name if kind == "model" else f"{kind} {subject}"


def _say_verdict(verdict: "Verdict") -> None:
    say_table(
        ("node", "rows", "signed up to", "checkpoints"),
        [
            (chain.node, f"{chain.first} to {chain.last}", chain.proven, chain.checkpoints)
            for chain in verdict.chains
        ],
    )
    say()
    if verdict.is_whole:
        say(f"nothing is wrong: {verdict.rows} rows hang together")
        return
    say_table(
        ("flaw", "node", "where"),
        [(found.flaw, found.node, found.message) for found in verdict.findings],
    )
    if verdict.found > len(verdict.findings):
        note(f"note: {verdict.found - len(verdict.findings)} more are not shown")


def _read_keys(files: list[Path]) -> tuple[str, ...]:
    from modelyard.core.errors import Invalid

    mark = "-----BEGIN"
    found = []
    for file in files:
        with _open(file) as lines:
            text = lines.read().decode("ascii", "replace")
        if mark not in text:
            raise Invalid("bad_public_key", f"{file} holds no public key in PEM", field="keys")
        found += [f"{mark}{part}" for part in text.split(mark)[1:]]
    return tuple(found)


def _open(file: Path) -> BinaryIO:
    from modelyard.core.errors import NotFound

    try:
        return file.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound("no_such_file", f"there is no file {file}", field=str(file)) from None
