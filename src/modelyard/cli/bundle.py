"""`modelyard bundle`: look into packages, prove them whole, carry them between homes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.report import describe, say_evaluation
from modelyard.cli.screen import say, say_facts, say_json
from modelyard.cli.settings import Json, Settings, parse_reference
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Manifest

app = typer.Typer(help="Show, verify, export and import bundles.", no_args_is_help=True)

Subject = Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]|FILE", show_default=False)]


@app.command("show", cls=Verb)
def show(context: typer.Context, subject: Subject, as_json: Json = False) -> None:
    """Show what a bundle is, where it came from and how good it is."""
    manifest = _manifest(context, subject)
    if as_json:
        say_json(manifest)
        return
    say_facts([("name", manifest.name), ("created", manifest.created), *describe(manifest)])
    say_evaluation(manifest.evaluation)


@app.command("verify", cls=Verb)
def verify(context: typer.Context, subject: Subject, as_json: Json = False) -> None:
    """Read every byte and hold it against its digest; names the damaged file."""
    file = _file(subject)
    if file is not None:
        from modelyard.bundle.archive import verify_archive

        manifest, _ = verify_archive(file)
    else:
        with Settings.of(context).yard() as yard:
            bundle = yard.bundle(parse_reference(subject))
            bundle.verify()
        manifest = bundle.manifest
    size_bytes = sum(entry.size for entry in manifest.files)
    if as_json:
        say_json(
            {
                "digest": manifest.digest,
                "files": len(manifest.files),
                "size_bytes": size_bytes,
                "whole": True,
            }
        )
    else:
        say(f"{manifest.digest}: all {len(manifest.files)} files whole, {size_bytes:,} bytes")


@app.command("export", cls=Verb)
def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="By default MODEL-VERSION.tar.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a version's bundle into one file, an OCI image layout; replaces the file."""
    reference = parse_reference(model)
    with Settings.of(context).yard() as yard:
        version = yard.registry.resolve(reference)
        target = file or Path(f"{version.model}-{version.number}.tar")
        bundle = yard.export(reference, target)
    if as_json:
        say_json(
            {
                "model": version.model,
                "number": version.number,
                "digest": bundle.digest,
                "file": str(target),
                "size_bytes": target.stat().st_size,
            }
        )
    else:
        say(f"wrote {version.model}:{version.number} to {target}, {bundle.digest}")


@app.command("import", cls=Verb)
def import_archive(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    as_json: Json = False,
) -> None:
    """Publish a bundle from a file that `bundle export` wrote, verified first."""
    with Settings.of(context).yard() as yard:
        version = yard.import_archive(file)
    if as_json:
        say_json(version)
    else:
        say(f"published {version.model}:{version.number}, {version.state}, {version.digest}")


def _manifest(context: typer.Context, subject: str) -> "Manifest":
    file = _file(subject)
    if file is not None:
        from modelyard.bundle.archive import verify_archive

        return verify_archive(file)[0]
    with Settings.of(context).yard() as yard:
        return yard.bundle(parse_reference(subject)).manifest


def _file(subject: str) -> Path | None:
    """The file that is meant, if it is one: no reference has a slash, few models a suffix."""
    path = Path(subject)
    is_file = "/" in subject or path.suffix == ".tar" or (path.suffix and path.is_file())
    return path if is_file else None
