"""What a file is, by its content; its name is only believed where the content agrees."""

import io
import pickletools
import stat
from enum import StrEnum
from pathlib import Path
from typing import Final

from modelyard.core.errors import Invalid

_LARGEST_BYTES: Final = 64 * 1024**3
_HEAD: Final = 4096
_ENOUGH_OPCODES: Final = 8
"""So many in a row are a pickle: a comma and a line's end are no opcodes, so text has few."""


class Kind(StrEnum):
    """The files that `package_file` knows."""

    ONNX = "onnx"
    SKOPS = "skops"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    PICKLE = "pickle"


_SUFFIXES: Final = {
    ".onnx": Kind.ONNX,
    ".skops": Kind.SKOPS,
    ".json": Kind.XGBOOST,
    ".ubj": Kind.XGBOOST,
    ".txt": Kind.LIGHTGBM,
    ".pkl": Kind.PICKLE,
    ".pickle": Kind.PICKLE,
    ".joblib": Kind.PICKLE,
}
# What joblib compresses a pickle with: zlib at its four strengths, gzip, bzip2, xz, lzma, lz4.
_COMPRESSED: Final = (
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"\x1f\x8b",
    b"BZ",
    b"\xfd7zXZ",
    b"\x5d\x00\x00",
    b"\x04\x22\x4d\x18",
)
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\r"))


def detect(path: Path) -> Kind:
    """The kind of a model file; raises `Invalid` for no model, or not the one its name says."""
    head = _head(path)
    found = _by_content(head)
    named = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise Invalid(
            "unknown_format",
            f"'{path.name}' is no model that Modelyard reads: ONNX, skops, XGBoost JSON or UBJSON, "
            "LightGBM text, pickle or joblib" + _advice(head),
            field=path.name,
        )
    if named is not None and named is not found:
        raise Invalid(
            "wrong_format",
            f"'{path.name}' is called a {named} file, but its content looks like {found}",
            field=path.name,
        )
    return found


def _head(path: Path) -> bytes:
    try:
        status = path.lstat()
    except OSError:
        raise Invalid("no_such_file", f"there is no file '{path}'", field=path.name) from None
    if stat.S_ISLNK(status.st_mode):
        raise Invalid(
            "not_a_file", f"'{path.name}' is a symbolic link; name the file itself", field=path.name
        )
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(
            "not_a_file", f"'{path.name}' is a folder or device, not a model file", field=path.name
        )
    if status.st_size == 0:
        raise Invalid("empty_file", f"'{path.name}' is empty", field=path.name)
    if status.st_size > _LARGEST_BYTES:
        raise Invalid("file_too_large", f"'{path.name}' is larger than 64 GiB", field=path.name)
    with path.open("rb") as file:
        return file.read(_HEAD)


def _by_content(head: bytes) -> Kind | None:
    if head.startswith(b"PK\x03\x04"):
        return Kind.SKOPS
    if head.startswith(b"tree\n"):
        return Kind.LIGHTGBM
    # UBJSON types the length of the first key; JSON opens it with a quote.
    if head[:2] in (b"{L", b"{l", b"{i", b"{U", b"{I") or head.lstrip()[:1] == b"{":
        return Kind.XGBOOST
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return Kind.PICKLE
    if head.startswith(_COMPRESSED):
        return Kind.PICKLE
    if _is_message(head) and not _is_text(head):
        return Kind.ONNX
    if _is_old_pickle(head):
        return Kind.PICKLE
    return None


def _is_message(head: bytes) -> bool:
    """Whether it can open an ONNX ModelProto: one of its fields, with a fitting wire type."""
    number, wire = head[0] >> 3, head[0] & 7
    return (number == 1 and wire == 0) or (number in (2, 3, 4, 6, 7, 8, 14, 20, 25) and wire == 2)


def _is_old_pickle(head: bytes) -> bool:
    """Whether it opens a pickle of protocol 0 or 1, which have no magic number.

    The opcodes are read, and nothing of what they would do is done.
    """
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(io.BytesIO(head)), start=1):
            if opcode.name == "STOP" or count == _ENOUGH_OPCODES:
                return True
    except (ValueError, OverflowError):
        pass
    return False


def _is_text(head: bytes) -> bool:
    return head == head.translate(None, _CONTROLS)


def _advice(head: bytes) -> str:
    if _is_text(head) or head.startswith(b"PAR1"):
        return "; to train from a table use 'modelyard train --data'"
    return ""
