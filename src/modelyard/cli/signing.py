"""`modelyard bundle sign` and `keygen`, and how signatures are checked for `bundle verify`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.packages import METAVAR, Package, find, signature_path
from modelyard.cli.screen import say, say_json
from modelyard.cli.settings import Json, Reason, Settings

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Manifest

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A file with the private key's password.", show_default=False
    ),
]


def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", show_default=False)],
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Make a pair of keys: NAME.pem signs and stays with you, NAME.pub.pem is for everybody."""
    from modelyard.bundle.signer import make_key
    from modelyard.core.errors import Conflict

    private, public = name.with_name(f"{name.name}.pem"), name.with_name(f"{name.name}.pub.pem")
    pair = make_key(_password(password_file))
    for path, text, mode in ((private, pair.private, 0o600), (public, pair.public.pem, 0o644)):
        try:
            path.touch(mode, exist_ok=False)
        except FileExistsError:
            raise Conflict("file_exists", f"{path} is there already", field=str(path)) from None
        path.write_text(text)
    if as_json:
        say_json(
            {
                "private": str(private),
                "public": str(public),
                "fingerprint": pair.public.fingerprint,
            }
        )
    else:
        say(f"wrote {private} and {public}, {pair.public.fingerprint}")


def sign(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar=METAVAR, show_default=False)],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE.pem", help="The private key to sign with.", show_default=False),
    ] = None,
    password_file: PasswordFile = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign as yourself by Sigstore; needs a network.")
    ] = False,
    signature: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A signature that was made elsewhere, as by 'model_signing sign': put it beside "
            "the version.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the signature; by default beside a file or folder.",
            show_default=False,
        ),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Sign a bundle; that of a version keeps the signature beside it in the home."""
    if (key is not None) + sigstore + (signature is not None) != 1:
        raise typer.BadParameter("give one of --key, --sigstore and --signature")
    package = find(context, subject)
    made = (
        read(signature)
        if signature is not None
        else _sign(package.manifest, key, _password(password_file))
    )
    signer = _keep(context, package, made, reason)
    target = out or (None if package.path is None else signature_path(package.path))
    if target is not None:
        target.write_bytes(made)
    if as_json:
        say_json(
            {
                "digest": package.manifest.digest,
                "signer": signer,
                "file": None if target is None else str(target),
            }
        )
    else:
        where = "" if target is None else f", in {target}"
        say(f"signed {package.manifest.digest} as {signer or 'Sigstore says'}{where}")


def check_signatures(
    package: Package, signatures: Sequence[bytes], keys: Sequence[bytes]
) -> list[str]:
    """The fingerprints of those that have signed it: of `keys`, or of the policy's trusted keys.

    Raises `Denied` where none of `keys` has, or the policy asks for one and none of its keys has.
    """
    from modelyard.bundle.signing import PublicKey, signers
    from modelyard.bundle.trust import ANYTHING, Trust, check_policy

    trust = package.trust or ANYTHING
    if keys:
        texts = tuple(each.decode("utf-8", "replace") for each in keys)
        trust = Trust(require_signature=True, trusted_keys=texts)
    check_policy(package.manifest, signatures, trust)
    trusted = [PublicKey.parse(each) for each in trust.trusted_keys]
    return [each.fingerprint for each in signers(package.manifest, signatures, trusted)]


def check_sigstore(
    manifest: "Manifest", signatures: Sequence[bytes], identity: str, issuer: str
) -> str:
    """The identity, if one of the signatures is its own by Sigstore; raises `Denied`."""
    from modelyard.bundle.signer import verify_with_sigstore
    from modelyard.core.errors import Denied

    refusal = Denied("unsigned_bundle", "the bundle is not signed", field="signature")
    for each in signatures:
        try:
            verify_with_sigstore(manifest, each, identity=identity, issuer=issuer)
        except Denied as error:
            refusal = error
        else:
            return identity
    raise refusal


def _sign(manifest: "Manifest", key: Path | None, password: str) -> bytes:
    from modelyard.bundle.signer import sign_with_key, sign_with_sigstore

    return sign_with_sigstore(manifest) if key is None else sign_with_key(manifest, key, password)


def _keep(context: typer.Context, package: Package, made: bytes, reason: str) -> str:
    """Put the signature beside a version of this home; the fingerprint of its signer."""
    from modelyard.bundle.signing import SignedStatement

    if package.version is None:
        statement = SignedStatement.decode(made)
        statement.check_subject(package.manifest)
        return statement.signer
    from modelyard.core.administration.models import AddSignature

    exact = f"{package.version.model}:{package.version.number}"
    with Settings.of(context).administration() as administration:
        wanted = AddSignature(reference=exact, content=made, reason=reason)
        return administration.do(wanted).signer


def _password(file: Path | None) -> str:
    return "" if file is None else read(file).decode("utf-8", "replace").partition("\n")[0]


def read(file: Path) -> bytes:
    """A file's bytes; raises `NotFound`."""
    from modelyard.core.errors import NotFound

    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound("no_such_file", f"there is no file {file}", field=str(file)) from None
