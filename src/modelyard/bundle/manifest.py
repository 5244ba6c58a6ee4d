"""`bundle.json`: what a bundle is, where it came from, how good it is, and every byte's digest."""

import dataclasses
from collections.abc import Iterable
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

import msgspec

from modelyard.bundle.digest import PREFIX, canonical_json, sha256_bytes
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature

SCHEMA: Final = "modelyard.bundle/1"
MANIFEST_PATH: Final = "bundle.json"


class Format(StrEnum):
    """How the file that the runtime opens is written. None of them can run code when opened."""

    ONNX = "onnx"
    SKOPS = "skops"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a manifest. What has its default value is not written, so that a field added later
    leaves the bytes, and so the digest, of every bundle before it as they were."""


class FileEntry(_Record, frozen=True):
    """One file: its POSIX path inside the bundle, sha256 (hex), size in bytes, media type."""

    path: str
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    size: Annotated[int, msgspec.Meta(ge=0)]
    media_type: str


class Framework(_Record, frozen=True):
    """What the model was made with: `sklearn 1.9.1`."""

    name: str
    version: str


class Serving(_Record, frozen=True):
    """Which file answers calls, and in which format."""

    format: Format
    path: str


class Conversion(_Record, frozen=True):
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


class Dataset(_Record, frozen=True):
    """A table that was used: its name, where it came from, and the digest of its content."""

    name: str
    source: str
    sha256: str
    rows: int
    columns: int


class SourceCommit(_Record, frozen=True):
    """The git commit of the folder that training ran in, and whether it had changes of its own."""

    commit: str
    dirty: bool


class Parent(_Record, frozen=True):
    """A bundle that this one was made of, and how."""

    digest: str
    how: str


class Lineage(_Record, frozen=True, kw_only=True):
    """Where the bundle came from, completely enough to make it again."""

    parents: tuple[Parent, ...] = ()
    recipe: str | None = None
    parameters: dict[str, Any] = {}
    seed: int | None = None
    data: tuple[Dataset, ...] = ()
    source: SourceCommit | None = None
    packages: dict[str, str] = {}
    python: str = ""


class Confusion(_Record, frozen=True):
    """A confusion matrix: `matrix[i][j]` rows of class `labels[i]` were called `labels[j]`."""

    labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


class Score(_Record, frozen=True, kw_only=True):
    """How the model did on one part of the data (`train`, `validation`, `test`)."""

    dataset: str
    rows: int
    metrics: dict[str, float]
    confusion: Confusion | None = None


class Threshold(_Record, frozen=True, kw_only=True):
    """One condition of the gate, the value it was held against, and whether it was met."""

    metric: str
    dataset: str
    value: float
    passed: bool
    minimum: float | None = None
    maximum: float | None = None


class Evaluation(_Record, frozen=True, kw_only=True):
    """Scores, the gate's conditions and its verdict. `plots` are paths inside the bundle."""

    scores: tuple[Score, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    verdict: Literal["passed", "failed", "ungated"] = "ungated"
    plots: tuple[str, ...] = ()


class Card(_Record, frozen=True, kw_only=True):
    """What a reader must know before using the model."""

    intended_use: str = ""
    limits: str = ""
    licence: str = ""
    contacts: tuple[str, ...] = ()


class Manifest(_Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `bundle.json`. `samples` is the path of the sample file, if there is one."""

    schema: Literal["modelyard.bundle/1"] = SCHEMA
    name: str
    created: str
    kind: Literal["predictive", "embedding", "generative", "custom"] = "predictive"
    framework: Framework
    serving: Serving
    conversion: Conversion
    signature: Signature
    files: tuple[FileEntry, ...]
    lineage: Lineage = Lineage()
    evaluation: Evaluation = Evaluation()
    samples: str | None = None
    card: Card = Card()

    def encode(self) -> bytes:
        """The canonical bytes; their sha256 is the bundle's digest."""
        content = msgspec.to_builtins(self)
        content["schema"] = self.schema
        content["signature"] = _without_defaults(self.signature)
        return canonical_json(content)

    @property
    def digest(self) -> str:
        """The bundle's digest, `sha256:…`."""
        return PREFIX + sha256_bytes(self.encode())

    @staticmethod
    def decode(data: bytes) -> "Manifest":
        """Read canonical manifest bytes; raises `Invalid` naming what is wrong."""
        try:
            manifest = _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
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


def _without_defaults(value: object) -> object:
    """A dataclass of the core as plain values, without fields that have their default."""
    if isinstance(value, tuple):
        return [_without_defaults(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    return {
        field.name: _without_defaults(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    }


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
