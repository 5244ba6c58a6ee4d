"""`bundle.json`: what a bundle is, where it came from, how good it is, and every byte's digest."""

import dataclasses
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

import msgspec

from modelyard.bundle.digest import PREFIX, canonical_json, sha256_bytes
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature

SCHEMA: Final = "modelyard.bundle/1"
MANIFEST_PATH: Final = "bundle.json"
MOST_MANIFEST_BYTES: Final = 16 * 1024 * 1024
MOST_FILE_BYTES: Final = 2**50
MOST_FILES: Final = 10_000

_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSIONS: Final = r"(~=|===?|!=|<=?|>=?)[A-Za-z0-9._*+!-]+"
_REQUIREMENT: Final = rf"\A{_NAME}(\[{_NAME}(,{_NAME})*\])?({_VERSIONS}(,{_VERSIONS})*)?\Z"


class Format(StrEnum):
    """How the file that the runtime opens is written. None of them can run code when opened."""

    ONNX = "onnx"
    SKOPS = "skops"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"


class FileEntry(msgspec.Struct, frozen=True):
    """One file: its POSIX path inside the bundle, sha256 (hex), size in bytes, media type."""

    path: str
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    size: Annotated[int, msgspec.Meta(ge=0, le=MOST_FILE_BYTES)]
    media_type: str


class Framework(msgspec.Struct, frozen=True):
    """What the model was made with: `sklearn 1.9.1`."""

    name: str
    version: str


Requirement = Annotated[str, msgspec.Meta(pattern=_REQUIREMENT, max_length=200)]
"""A package by name and versions, as PEP 508 writes them; no addresses, no markers."""


class Serving(msgspec.Struct, frozen=True):
    """Which file answers calls, in which format, and what packages of its own that needs."""

    format: Format
    path: str
    packages: tuple[Requirement, ...] = ()


class Conversion(msgspec.Struct, frozen=True):
    """What became of the attempt to serve the model in a faster, safer format.

    `verdict`: `equal` (proven on `rows` rows: no label differs, no number by more than
    `tolerance`, relative to the larger of 1 and its size), `unequal`, `unsupported` (no converter,
    or it failed) or `native` (the model came in this format). `reason` says why, in a sentence.
    """

    target: Format
    verdict: Literal["equal", "unequal", "unsupported", "native"]
    reason: str = ""
    rows: int = 0
    labels_differing: int = 0
    max_difference: float = 0.0
    tolerance: float = 0.0


class Dataset(msgspec.Struct, frozen=True):
    """A table that was used: its name, where it came from, and the digest of its content."""

    name: str
    source: str
    sha256: str
    rows: int
    columns: int


class SourceCommit(msgspec.Struct, frozen=True):
    """The git commit of the folder that training ran in, and whether it had changes of its own."""

    commit: str
    dirty: bool


class Parent(msgspec.Struct, frozen=True):
    """A bundle that this one was made of, and how."""

    digest: str
    how: str


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bundle came from, completely enough to make it again."""

    parents: tuple[Parent, ...] = ()
    recipe: str | None = None
    parameters: dict[str, Any] = {}
    seed: int | None = None
    data: tuple[Dataset, ...] = ()
    source: SourceCommit | None = None
    packages: dict[str, str] = {}
    python: str = ""


class Confusion(msgspec.Struct, frozen=True):
    """A confusion matrix: `matrix[i][j]` rows of class `labels[i]` were called `labels[j]`."""

    labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How the model did on one part of the data (`train`, `validation`, `test`)."""

    dataset: str
    rows: int
    metrics: dict[str, float]
    confusion: Confusion | None = None


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of the gate, the value it was held against, and whether it was met."""

    metric: str
    dataset: str
    value: float
    passed: bool
    minimum: float | None = None
    maximum: float | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Scores, the gate's conditions and its verdict. `plots` are paths inside the bundle."""

    scores: tuple[Score, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    verdict: Literal["passed", "failed", "ungated"] = "ungated"
    plots: tuple[str, ...] = ()


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader must know before using the model."""

    intended_use: str = ""
    limits: str = ""
    licence: str = ""
    contacts: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `bundle.json`. `samples` is the path of the sample file, if there is one."""

    schema: Literal["modelyard.bundle/1"] = SCHEMA
    name: str
    created: str
    kind: Literal["predictive", "embedding", "generative", "custom"] = "predictive"
    framework: Framework
    serving: Serving
    conversion: Conversion
    signature: Signature
    files: Annotated[tuple[FileEntry, ...], msgspec.Meta(max_length=MOST_FILES)]
    lineage: Lineage = Lineage()
    evaluation: Evaluation = Evaluation()
    samples: str | None = None
    card: Card = Card()

    def encode(self) -> bytes:
        """The canonical bytes; their sha256 is the bundle's digest.

        What has its default value is not written, so that a field added later leaves the bytes,
        and so the digest, of every bundle before it as they were.
        """
        return canonical_json({"schema": self.schema, **_without_defaults(self)})

    @property
    def digest(self) -> str:
        """The bundle's digest, `sha256:…`."""
        return PREFIX + sha256_bytes(self.encode())

    @staticmethod
    def decode(data: bytes) -> "Manifest":
        """Read canonical manifest bytes; raises `Invalid` naming what is wrong."""
        if len(data) > MOST_MANIFEST_BYTES:
            raise Invalid(
                "bad_manifest", "this is far too large for a manifest", field=MANIFEST_PATH
            )
        try:
            manifest = _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise Invalid(
                "bad_manifest", f"this is no {SCHEMA} manifest: {error}", field=MANIFEST_PATH
            ) from error
        check_paths(entry.path for entry in manifest.files)
        paths = {entry.path for entry in manifest.files}
        for path in (manifest.serving.path, manifest.samples, *manifest.evaluation.plots):
            if path is not None and path not in paths:
                raise Invalid(
                    "bad_manifest", f"'{path}' is not among the bundle's files", field=path
                )
        if manifest.encode() != data:
            raise Invalid(
                "bad_manifest", "the manifest is not in its canonical form", field=MANIFEST_PATH
            )
        return manifest


_DECODER = msgspec.json.Decoder(Manifest)


def _without_defaults(record: object) -> dict[str, Any]:
    """A struct or dataclass as plain values, without fields that equal their default.

    msgspec's own `omit_defaults` compares by identity: an equal number from elsewhere is written,
    and one value would have two spellings.
    """
    return {
        name: _plain(value)
        for name, value, default in _fields(record)
        if default is _NO_DEFAULT or value != default
    }


_NO_DEFAULT: Final = object()


def _fields(record: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(record, msgspec.Struct):
        for struct_field in msgspec.structs.fields(record):
            default = struct_field.default
            if (
                default is msgspec.NODEFAULT
                and struct_field.default_factory is not msgspec.NODEFAULT
            ):
                default = struct_field.default_factory()
            elif default is msgspec.NODEFAULT:
                default = _NO_DEFAULT
            yield struct_field.name, getattr(record, struct_field.name), default
    elif dataclasses.is_dataclass(record):
        for field in dataclasses.fields(record):
            default = _NO_DEFAULT if field.default is dataclasses.MISSING else field.default
            yield field.name, getattr(record, field.name), default


def _plain(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        return _without_defaults(value)
    return value


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths that leave the bundle, hide in it, collide, or shadow the manifest."""
    seen: set[str] = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        if (
            not path
            or len(path) > 512
            or path != "/".join(parts)
            or any(part in ("..", ".") or part.startswith("/") for part in parts)
            or any(character in path for character in '\\:\0\n\r"')
            or path.casefold() == MANIFEST_PATH
        ):
            raise Invalid(
                "bad_path", f"'{path!s:.80}' is no path for a file in a bundle", field=path
            )
        if path.casefold() in seen:
            raise Invalid("bad_path", f"two files of the bundle are called '{path}'", field=path)
        seen.add(path.casefold())
