"""Finding the runtime of a format."""

import sys
from pathlib import Path

import pytest

from modelyard.core.errors import NotFound
from modelyard.runtimes.open import find_opener, platform_of


def test_an_installed_plug_in_opens_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry point of the group opens a format of its own, and cannot take a built-in one."""
    info = tmp_path / "yard_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yard-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[modelyard.runtimes]\nabacus = yard_plugin:open_abacus\nonnx = yard_plugin:open_abacus\n"
    )
    (tmp_path / "yard_plugin.py").write_text("def open_abacus(bundle, threads): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_opener("abacus").__module__ == "yard_plugin"
    assert find_opener("onnx").__module__ == "modelyard.runtimes.onnx"
    sys.modules.pop("yard_plugin", None)


def test_an_unknown_format_is_not_found() -> None:
    """A format that nothing installed opens is named."""
    with pytest.raises(NotFound, match="abacus"):
        find_opener("abacus")


def test_platforms_are_the_protocols_names() -> None:
    """The Open Inference Protocol's spelling for metadata."""
    assert platform_of("onnx") == "onnxruntime_onnx"
    assert platform_of("skops") == "sklearn"
