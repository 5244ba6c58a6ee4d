"""The command `modelyard`: its verbs, and how each way of failing is told."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
import typer.core

from modelyard import __version__
from modelyard.cli import (
    alias,
    approvals,
    audit,
    bundle,
    config,
    demo,
    deploy,
    doctor,
    encryption,
    identities,
    importing,
    keys,
    limits,
    models,
    payloads,
    policy,
    predict,
    promote,
    rollback,
    serve,
    status,
    tenants,
    train,
    undeploy,
    usage,
)
from modelyard.cli.screen import note, say
from modelyard.cli.settings import Settings
from modelyard.cli.verb import Verb
from modelyard.core.errors import ModelyardError

_OK: Final = 0
_FAILED: Final = 1
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
_VERBS: Final = (
    "demo",
    "train",
    "import",
    "models",
    "deploy",
    "promote",
    "rollback",
    "undeploy",
    "alias",
    "predict",
    "bundle",
    "serve",
    "status",
    "keys",
    "tenants",
    "identities",
    "limits",
    "policy",
    "usage",
    "payloads",
    "approvals",
    "audit",
    "encryption",
    "config",
    "doctor",
)


class _InOrder(typer.core.TyperGroup):
    """Lists verbs in the order in which a newcomer meets them, groups among them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [verb for verb in _VERBS if verb in self.commands]


app = typer.Typer(
    name="modelyard",
    cls=_InOrder,
    help="Any model becomes a governed network service: train, publish, deploy, serve, roll back.",
    no_args_is_help=True,
    # Rich's boxes would more than double the time of `--help`.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Verb)(demo.demo)
app.command("train", cls=Verb)(train.train)
app.command("import", cls=Verb)(importing.import_file)
app.add_typer(models.app, name="models")
app.command("deploy", cls=deploy.DeployVerb)(deploy.deploy)
app.command("promote", cls=Verb)(promote.promote)
app.command("rollback", cls=Verb)(rollback.rollback)
app.command("undeploy", cls=Verb)(undeploy.undeploy)
app.add_typer(alias.app, name="alias")
app.command("predict", cls=Verb)(predict.predict)
app.add_typer(bundle.app, name="bundle")
app.command("serve", cls=Verb)(serve.serve)
app.command("status", cls=Verb)(status.status)
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(identities.app, name="identities")
app.add_typer(limits.app, name="limits")
app.add_typer(policy.app, name="policy")
app.add_typer(usage.app, name="usage")
app.add_typer(approvals.app, name="approvals")
app.add_typer(audit.app, name="audit")
app.add_typer(payloads.app, name="payloads")
app.add_typer(encryption.app, name="encryption")
app.command("doctor", cls=Verb)(doctor.doctor)
app.command("config", cls=Verb)(config.config)


def _print_version(asked: bool) -> None:
    if asked:
        say(f"modelyard {__version__}")
        raise typer.Exit


@app.callback()
def _before_the_verb(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The home: registry, blobs, modelyard.toml. Also MODELYARD_HOME; "
            "by default ~/.modelyard.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Speak to this server instead of to a home. Also MODELYARD_SERVER.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="The key to speak to it with; better set as MODELYARD_KEY."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    context.obj = Settings(home, server, key)


def run() -> None:
    """Run the command of this process and exit with its status."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns 0, 1 for what failed, 2 for wrong use, 130 when interrupted."""
    warnings.showwarning = _warn
    try:
        ended = app(list(arguments), prog_name="modelyard", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has read enough.
        _drop_output()
        return _FAILED
    except typer.TyperException as error:
        return _refuse(error)
    except ModelyardError as error:
        return _fail(error.message, _FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - nobody at a terminal is helped by a traceback
        _drop_output()
        return _fail(_unexpected(error), _FAILED)
    if ended == _INTERRUPTED:
        return _fail("interrupted", _INTERRUPTED)
    return ended if isinstance(ended, int) else _OK


def _drop_output() -> None:
    """Lose what cannot be written: the interpreter's own flush at exit must not complain of it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    if os.environ.get("MODELYARD_DEBUG", "").lower() in ("1", "true", "yes"):
        import traceback

        traceback.print_exc()
    note("error: " + " ".join(message.split()))
    return status


def _refuse(error: typer.TyperException) -> int:
    """Say what is wrong with the command line."""
    format_message = getattr(error, "format_message", None)
    message = str(format_message() if format_message else error).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "modelyard"
    if message.startswith("Usage:"):
        # A bare `modelyard` asks for help, and gets it where it does not look like a result.
        note(message)
        return _WRONG_USE
    if "--home" in message:
        return _fail("--home stands before the verb: modelyard --home DIR …", _WRONG_USE)
    return _fail(f"{message}; see '{path} --help'", _WRONG_USE)


def _unexpected(error: Exception) -> str:
    hint = "set MODELYARD_DEBUG=1 to see where"
    if isinstance(error, OSError) and error.strerror:
        name = f" '{error.filename}'" if error.filename else ""
        return f"the system refused{name}: {error.strerror} ({hint})"
    return f"unexpected {type(error).__name__}: {error!s:.300} ({hint})"


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A library's warning as one line; where in the library it arose helps nobody here."""
    note(f"note: {category.__name__}: {' '.join(str(message).split())}")
