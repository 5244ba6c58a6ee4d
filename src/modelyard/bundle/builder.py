"""Builds a bundle in a staging folder: files first, the manifest last."""

import datetime
import shutil
from pathlib import Path

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.digest import sha256_file
from modelyard.bundle.manifest import (
    Card,
    Conversion,
    Evaluation,
    FileEntry,
    Framework,
    Lineage,
    Manifest,
    Serving,
    check_paths,
)
from modelyard.core.signature import Signature

_MEDIA_TYPES = {
    ".onnx": "application/onnx",
    ".json": "application/json",
    ".toml": "application/toml",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".skops": "application/vnd.skops+zip",
}


class BundleBuilder:
    """Collects files under `staging`, an empty folder that the caller owns and removes."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        self._entries: dict[str, FileEntry] = {}

    def add(self, path: str, source: Path | bytes, media_type: str | None = None) -> None:
        """Put a file into the bundle, copied from a path or written from bytes."""
        check_paths([*self._entries, path])
        target = self._staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(source, target)
        self._entries[path] = FileEntry(
            path=path,
            sha256=sha256_file(target),
            size=target.stat().st_size,
            media_type=media_type
            or _MEDIA_TYPES.get(target.suffix.lower(), "application/octet-stream"),
        )

    def build(
        self,
        *,
        name: str,
        framework: Framework,
        serving: Serving,
        conversion: Conversion,
        signature: Signature,
        lineage: Lineage,
        evaluation: Evaluation | None = None,
        samples: str | None = None,
        card: Card | None = None,
    ) -> Bundle:
        """The finished bundle, its files still in the staging folder."""
        manifest = Manifest(
            name=name,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            framework=framework,
            serving=serving,
            conversion=conversion,
            signature=signature,
            files=tuple(sorted(self._entries.values(), key=lambda entry: entry.path)),
            lineage=lineage,
            evaluation=evaluation or Evaluation(),
            samples=samples,
            card=card or Card(),
        )
        # Reading it back proves that whoever opens the bundle will accept what we wrote.
        Manifest.decode(manifest.encode())
        return Bundle(manifest, {path: self._staging / path for path in self._entries})
