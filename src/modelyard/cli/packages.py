"""What a verb of `bundle` is about: a version of this home, an archive, or an unpacked folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from modelyard.cli.manifests import read_manifest
from modelyard.cli.settings import Settings, parse_reference

if TYPE_CHECKING:
    from modelyard.bundle.bundle import Bundle
    from modelyard.bundle.manifest import Manifest
    from modelyard.bundle.trust import Trust
    from modelyard.core.records import Version

_MOST_BESIDE: Final = 32
METAVAR: Final = "MODEL[:VERSION|@ALIAS]|FILE|FOLDER"


@dataclass(frozen=True, slots=True)
class Package:
    """A bundle, all of its bytes verified, and the signatures that lie beside it.

    `version` and `trust`, what the home's policy demands, are those of one in this home; `path` is
    where any other lies.
    """

    manifest: "Manifest"
    signatures: tuple[bytes, ...]
    version: "Version | None" = None
    trust: "Trust | None" = None
    path: Path | None = None


def path_of(subject: str) -> Path | None:
    """The file or folder that is meant, if it is one: no reference has a slash, few models a
    suffix."""
    path = Path(subject)
    is_path = "/" in subject or path.suffix == ".tar" or (path.suffix and path.exists())
    return path if is_path else None


def find(context: typer.Context, subject: str) -> Package:
    """What is meant, verified to its last byte; raises `DamagedBundle`, `NotFound`."""
    path = path_of(subject)
    if path is None:
        return _in_home(context, subject)
    beside = _beside(path)
    if path.is_dir():
        bundle = _folder(path)
        bundle.verify()
        return Package(bundle.manifest, beside, path=path)
    from modelyard.bundle.archive import verify_archive

    manifest, signatures = verify_archive(path)
    return Package(manifest, (*signatures, *beside), path=path)


def manifest_of(context: typer.Context, subject: str) -> "Manifest":
    """The manifest of what is meant; of a version or a folder, the files are not verified."""
    path = path_of(subject)
    if path is None:
        from modelyard.core.administration.models import GetVersion

        with Settings.of(context).administration() as administration:
            reference = str(parse_reference(subject))
            version = administration.do(GetVersion(reference=reference))
            return read_manifest(administration, version)
    return _folder(path).manifest if path.is_dir() else find(context, subject).manifest


def signature_path(path: Path, index: int = 0) -> Path:
    """Where a signature of an archive or folder lies: beside it; further ones are numbered."""
    return path.with_name(f"{path.name}.{index + 1}.sig" if index else f"{path.name}.sig")


def _in_home(context: typer.Context, subject: str) -> Package:
    from modelyard.bundle.trust import Trust
    from modelyard.core.administration.models import GetVersion, ListSignatures, VerifyVersion
    from modelyard.core.administration.rules import GetPolicy

    with Settings.of(context).administration() as administration:
        do = administration.do
        version = do(GetVersion(reference=str(parse_reference(subject))))
        exact = f"{version.model}:{version.number}"
        do(VerifyVersion(reference=exact))
        manifest = read_manifest(administration, version)
        signatures = do(ListSignatures(reference=exact))
        trust = Trust.of(do(GetPolicy()).policy)
    return Package(manifest, tuple(each.content for each in signatures), version, trust)


def _folder(path: Path) -> "Bundle":
    from modelyard.bundle.unpacked import read_folder

    return read_folder(path)


def _beside(path: Path) -> tuple[bytes, ...]:
    files = (signature_path(path, index) for index in range(_MOST_BESIDE))
    return tuple(file.read_bytes() for file in files if file.is_file())
