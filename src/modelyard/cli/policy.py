"""`modelyard policy`: what may be loaded, what needs two people, what is written down."""

import dataclasses
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.screen import say, say_facts, say_json
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.policy import PolicyVersion

app = typer.Typer(help="The home's policy: show, set, apply.", no_args_is_help=True)

Expected = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="NUMBER",
        help="Change it only if it is still at this number.",
        show_default=False,
    ),
]


def _patterns(text: str) -> Any:
    return typer.Option(metavar="A,B,…", help=f"{text}; '' for none.", show_default=False)


@app.command("show", cls=Verb)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the policy in force."""
    from modelyard.core.administration.rules import GetPolicy

    with Settings.of(context).administration() as administration:
        _say(administration.do(GetPolicy()), as_json)


@app.command("set", cls=Verb)
def set_some(
    context: typer.Context,
    require_signature: Annotated[
        bool | None,
        typer.Option(
            "--require-signature/--no-require-signature",
            help="Deploy and load only bundles that a trusted key has signed.",
            show_default=False,
        ),
    ] = None,
    trusted_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE.pem",
            help="A public key whose signatures count, instead of those before; may be given "
            "several times, '' for none.",
            show_default=False,
        ),
    ] = None,
    frameworks: Annotated[str | None, _patterns("Only models of these frameworks")] = None,
    formats: Annotated[str | None, _patterns("Only models served from these formats")] = None,
    four_eyes: Annotated[
        str | None, _patterns("Models that are deployed only when a second person approves")
    ] = None,
    audit_calls: Annotated[
        str | None, _patterns("Models of which every call becomes an audit row")
    ] = None,
    expected: Expected = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change what is given and leave the rest as it is."""
    lists = {
        "frameworks": frameworks,
        "formats": formats,
        "four_eyes": four_eyes,
        "audit_calls": audit_calls,
    }
    changes: dict[str, Any] = {
        name: tuple(part.strip() for part in given.split(",") if part.strip())
        for name, given in lists.items()
        if given is not None
    }
    if require_signature is not None:
        changes["require_signature"] = require_signature
    if trusted_key is not None:
        changes["trusted_keys"] = tuple(_read(Path(each)) for each in trusted_key if each)
    if not changes:
        raise typer.BadParameter("give at least one option that changes something")
    from modelyard.core.administration.rules import GetPolicy, SetPolicy

    with Settings.of(context).administration() as administration:
        before = administration.do(GetPolicy())
        after = administration.do(
            SetPolicy(
                policy=dataclasses.replace(before.policy, **changes),
                reason=reason,
                # What is left as it is must be what was read.
                expected=before.number if expected is None else expected,
            )
        )
    _say(after, as_json)


@app.command("apply", cls=Verb)
def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML or JSON, told by its suffix.")],
    expected: Expected = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Replace the whole policy by a document; what it does not name is as by default."""
    from modelyard.core.administration.rules import SetPolicy
    from modelyard.registry.policies import parse_policy

    policy = parse_policy(_document(file))
    with Settings.of(context).administration() as administration:
        after = administration.do(SetPolicy(policy=policy, reason=reason, expected=expected))
    _say(after, as_json)


def _document(file: Path) -> dict[str, Any]:
    import msgspec

    from modelyard.core.errors import Invalid

    text = _read(file)
    try:
        document = (
            msgspec.json.decode(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
        )
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid("bad_policy", f"{file} cannot be read: {error}", field="file") from None
    if not isinstance(document, dict):
        raise Invalid("bad_policy", f"{file} holds no policy document", field="file")
    return document


def _read(file: Path) -> str:
    from modelyard.core.errors import Invalid, NotFound

    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound("no_such_file", f"there is no file {file}", field=str(file)) from None
    except UnicodeDecodeError:
        raise Invalid("bad_file", f"{file} is no text", field=str(file)) from None


def _say(version: "PolicyVersion", as_json: bool) -> None:
    from modelyard.bundle.signing import PublicKey

    policy = version.policy
    if as_json:
        say_json(version)
        return
    say_facts(
        [
            ("number", version.number),
            ("signature required", policy.require_signature),
            ("trusted keys", [PublicKey.parse(each).short for each in policy.trusted_keys]),
            ("frameworks", policy.frameworks or "all"),
            ("formats", policy.formats or "all"),
            ("four eyes", policy.four_eyes or "none"),
            ("audited calls", policy.audit_calls or "none"),
        ]
    )
    for capture in policy.captures:
        say(
            f"captures {capture.share:g}% of the calls to {capture.models}, "
            f"for {capture.retention_s / 86_400:g} days"
        )
