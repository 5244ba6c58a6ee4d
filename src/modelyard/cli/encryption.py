"""`modelyard encryption`: the keys that model files and payloads are encrypted with."""

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.screen import note, say, say_facts, say_json
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

app = typer.Typer(
    help="Encryption of model files and payloads: key, status, enable, rotate.",
    no_args_is_help=True,
)


@app.command("key", cls=Verb)
def make_key(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make a key in a file of its own, or put a new one before those that are in it.

    The first key of a file encrypts, all decrypt: after 'encryption rotate' older ones can go.
    """
    from modelyard.bundle.keyring import add_key

    Settings.of(context).stay_here()
    key = add_key(file)
    if as_json:
        say_json({"file": str(file.absolute()), "key": key.id})
        return
    say(f"{file}: key {key.id}")
    note(f'set encryption_key = "file:{file.absolute()}", and keep a copy of that file elsewhere: ')
    note("without it, nothing that it encrypts can ever be read again")


@app.command("status", cls=Verb)
def status(context: typer.Context, as_json: Json = False) -> None:
    """Tell what is encrypted, with which keys, and whether they are there."""
    with Settings.of(context).yard() as yard:
        state = yard.vault.state()
    if as_json:
        say_json(state)
        return
    say_facts(
        [
            ("source", state.source or "none: encryption_key is not set"),
            ("key", state.key),
            ("older keys", state.older_keys),
            ("encrypted files", state.encrypted),
            ("plain files", state.plain),
            *((f"opened by {key}", count) for key, count in sorted(state.wrapped_by.items())),
            ("missing keys", state.missing),
        ]
    )
    if state.key and state.plain:
        note("some files are not encrypted: modelyard encryption enable")
    if state.key and state.wrapped_by.keys() - {state.key}:
        note("some files can be opened by an older key: modelyard encryption rotate")


@app.command("enable", cls=Verb)
def enable(context: typer.Context, reason: Reason = "", as_json: Json = False) -> None:
    """Encrypt the model files that are not. Interrupted, it goes on where it was.

    Restart servers that were started without the key first.
    """
    with Settings.of(context).yard() as yard:
        names = list(yard.vault.encrypt(actor=yard.actor, reason=reason))
    if as_json:
        say_json({"encrypted": names})
    else:
        say(f"{len(names)} files encrypted")


@app.command("rotate", cls=Verb)
def rotate(context: typer.Context, reason: Reason = "", as_json: Json = False) -> None:
    """Let the first key open all model files, and no other key; their contents stay.

    Interrupted, it goes on where it was, and everything can be read with one of the keys.
    """
    with Settings.of(context).yard() as yard:
        names = list(yard.vault.rotate(actor=yard.actor, reason=reason))
        key = yard.vault.state().key
    if as_json:
        say_json({"key": key, "rewrapped": names})
    else:
        say(f"{len(names)} files opened by {key} now")
