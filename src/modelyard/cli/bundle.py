"""`modelyard bundle`: look into packages, prove them whole, sign them, carry them to homes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli import signing
from modelyard.cli.packages import METAVAR, find, manifest_of, signature_path
from modelyard.cli.report import describe, say_evaluation
from modelyard.cli.screen import say, say_facts, say_json
from modelyard.cli.settings import Json, Settings, parse_reference
from modelyard.cli.signing import check_signatures, check_sigstore, read
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Manifest

app = typer.Typer(help="Show, verify, sign, export and import bundles.", no_args_is_help=True)

Subject = Annotated[str, typer.Argument(metavar=METAVAR, show_default=False)]

app.command("keygen", cls=Verb)(signing.keygen)
app.command("sign", cls=Verb)(signing.sign)


@app.command("show", cls=Verb)
def show(context: typer.Context, subject: Subject, as_json: Json = False) -> None:
    """Show what a bundle is, where it came from and how good it is."""
    manifest = manifest_of(context, subject)
    if as_json:
        say_json(manifest)
        return
    say_facts([("name", manifest.name), ("created", manifest.created), *describe(manifest)])
    say_evaluation(manifest.evaluation)


@app.command("verify", cls=Verb)
def verify(
    context: typer.Context,
    subject: Subject,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE.pem",
            help="A public key that must have signed it; with several, one of them.",
            show_default=False,
        ),
    ] = None,
    signature: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A signature that lies elsewhere; by default those beside the bundle.",
            show_default=False,
        ),
    ] = None,
    identity: Annotated[
        str,
        typer.Option(help="Who must have signed it by Sigstore, as an e-mail; needs a network."),
    ] = "",
    issuer: Annotated[str, typer.Option(help="Who vouches for that identity, as a URL.")] = "",
    as_json: Json = False,
) -> None:
    """Read every byte and hold it against its digest, and the signatures against their keys.

    Without --key, a version of this home is held against the home's policy.
    """
    if bool(identity) != bool(issuer):
        raise typer.BadParameter("--identity and --issuer go together")
    package = find(context, subject)
    signatures = tuple(read(each) for each in signature) if signature else package.signatures
    if identity:
        signers = [check_sigstore(package.manifest, signatures, identity, issuer)]
    else:
        signers = check_signatures(package, signatures, [read(Path(each)) for each in key or ()])
    _say_verified(package.manifest, len(signatures), signers, as_json)


def _say_verified(manifest: "Manifest", signatures: int, signers: list[str], as_json: bool) -> None:
    size_bytes = sum(entry.size for entry in manifest.files)
    if as_json:
        say_json(
            {
                "digest": manifest.digest,
                "files": len(manifest.files),
                "size_bytes": size_bytes,
                "whole": True,
                "signatures": signatures,
                "signed_by": signers,
            }
        )
        return
    say(f"{manifest.digest}: all {len(manifest.files)} files whole, {size_bytes:,} bytes")
    for signer in signers:
        say(f"signed by {signer}")
    if signatures and not signers:
        say(f"{signatures} signatures, not checked: name a key with --key")


@app.command("unpack", cls=Verb)
def unpack(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a version's files into a new folder, its signatures beside it.

    Any verifier of the OpenSSF format can hold the one against the other.
    """
    from modelyard.bundle.unpacked import unpack as unpack_bundle

    with Settings.of(context).yard() as yard:
        bundle = yard.bundle(parse_reference(subject))
        unpack_bundle(bundle, folder)
    files = [signature_path(folder, index) for index in range(len(bundle.signatures))]
    for file, content in zip(files, bundle.signatures, strict=True):
        file.write_bytes(content)
    if as_json:
        say_json(
            {"digest": bundle.digest, "folder": str(folder), "signatures": list(map(str, files))}
        )
    else:
        say(f"wrote {bundle.digest} to {folder}")
        for file in files:
            say(f"and its signature to {file}")


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
    from modelyard.core.administration.models import Export, GetVersion

    reference = parse_reference(model)
    with Settings.of(context).administration() as administration:
        version = administration.do(GetVersion(reference=str(reference)))
        exact = f"{version.model}:{version.number}"
        target = file or Path(f"{version.model}-{version.number}.tar")
        administration.export(Export(reference=exact), target)
    if as_json:
        say_json(
            {
                "model": version.model,
                "number": version.number,
                "digest": version.digest,
                "file": str(target),
                "size_bytes": target.stat().st_size,
            }
        )
    else:
        say(f"wrote {exact} to {target}, {version.digest}")


@app.command("import", cls=Verb)
def import_archive(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    as_json: Json = False,
) -> None:
    """Publish a bundle from a file that `bundle export` wrote, verified first."""
    from modelyard.core.administration.models import Publish

    with Settings.of(context).administration() as administration:
        version = administration.publish(Publish(reason=f"imported {file.name}"), file)
    if as_json:
        say_json(version)
    else:
        say(f"published {version.model}:{version.number}, {version.state}, {version.digest}")
