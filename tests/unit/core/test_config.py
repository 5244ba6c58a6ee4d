from pathlib import Path

import pytest

from modelyard.core.config import Config, load_config, settings
from modelyard.core.errors import Invalid


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    """Each layer overrides the one below it, and only where it says something."""
    (tmp_path / "modelyard.toml").write_text("port = 1\ngrpc_port = 2\nlanes = 3\n")
    config = load_config(
        {"home": tmp_path, "port": 11, "lanes": None},
        {"MODELYARD_PORT": "21", "MODELYARD_GRPC_PORT": "22"},
    )
    assert (config.port, config.grpc_port, config.lanes) == (11, 22, 3)


@pytest.mark.parametrize(
    ("text", "environ", "field"),
    [
        ("prot = 1", {}, "prot"),
        ("port = 'x'", {}, "port"),
        ("port = true", {}, "port"),
        ("port = 99999", {}, "port"),
        ("trust_pickle = 'maybe'", {}, "trust_pickle"),
        ("", {"MODELYARD_PROT": "1"}, "prot"),
        ("", {"MODELYARD_PORT": "1.5"}, "port"),
    ],
)
def test_what_cannot_be_meant_is_an_error(
    tmp_path: Path, text: str, environ: dict[str, str], field: str
) -> None:
    """An unknown key or a value of the wrong type or range is refused by name."""
    (tmp_path / "modelyard.toml").write_text(text)
    with pytest.raises(Invalid) as caught:
        load_config({"home": tmp_path}, environ)
    assert caught.value.field == field


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is not TOML is refused by its path."""
    file = tmp_path / "modelyard.toml"
    file.write_text("port = = 1")
    with pytest.raises(Invalid, match=r"modelyard\.toml is not TOML"):
        load_config({"home": tmp_path}, {})


def test_the_registry_defaults_to_sqlite_in_the_home(tmp_path: Path) -> None:
    """Without a database URL the registry is one file in the home."""
    config = load_config({"home": tmp_path}, {})
    assert config.registry_url == f"sqlite:///{tmp_path}/registry.db"


def test_every_setting_is_documented() -> None:
    """The generated reference has a sentence for each setting."""
    assert all(field.metadata["doc"] for field in settings())
    assert Config().is_loopback
