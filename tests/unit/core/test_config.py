from pathlib import Path
from typing import get_type_hints

import pytest

from modelyard.core.config import Config, load_config, settings, shown_config
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


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("trust_pickle", "maybe", "to 'maybe', but it takes true or false"),
        ("port", "x", "to 'x', but it takes a whole number"),
        ("poll_s", "soon", "to 'soon', but it takes a number"),
    ],
)
def test_a_wrong_value_is_told_what_the_setting_takes(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    """In plain words, not in the names of Python's types."""
    with pytest.raises(Invalid, match=told):
        load_config({"home": tmp_path}, {f"MODELYARD_{name.upper()}": value})


def test_every_type_of_a_setting_has_plain_words(tmp_path: Path) -> None:
    """A refusal can be worded for each setting there is."""
    (tmp_path / "modelyard.toml").write_text("database_url = 5")
    with pytest.raises(Invalid, match="to 5, but it takes text"):
        load_config({"home": tmp_path}, {})
    assert set(get_type_hints(Config).values()) <= {bool, int, float, str, Path}


def test_a_home_cannot_move_itself(tmp_path: Path) -> None:
    """`home` in the file of a home is refused, with the two ways that do choose a home."""
    (tmp_path / "modelyard.toml").write_text("home = '/elsewhere'")
    with pytest.raises(Invalid, match="lies in the home; use --home or MODELYARD_HOME") as caught:
        load_config({"home": tmp_path}, {})
    assert caught.value.field == "home"


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


@pytest.mark.parametrize("setting", ["place", "isolation"])
def test_a_setting_of_few_values_names_them(tmp_path: Path, setting: str) -> None:
    """Where only certain words are taken, any other is refused with the list of them."""
    with pytest.raises(Invalid, match=r"'moon'; it may be .*process") as caught:
        load_config({"home": tmp_path, setting: "moon"}, {})
    assert caught.value.field == setting


def test_what_people_are_shown_has_no_secrets(tmp_path: Path) -> None:
    """Neither the key nor the password of the database, however they are written."""
    key = f"my_{'a' * 12}_{'b' * 51}a"
    for given in (key, "some other secret"):
        config = Config(home=tmp_path, key=given, database_url="postgresql://ann:secret@db/x")
        shown = shown_config(config)
        assert "secret" not in f"{shown} {config}"
        assert "bbbb" not in f"{shown} {config}"
        assert shown["key"].startswith("my_" if given == key else "…")
    assert shown_config(Config(home=tmp_path))["key"] == ""
    assert shown.keys() == {setting.name for setting in settings()}
