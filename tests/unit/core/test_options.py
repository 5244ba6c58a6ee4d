"""Options of a route: set by value or text, unset by None, refused with what they take."""

import pytest

from modelyard.core.errors import Invalid
from modelyard.core.options import change_options, check_header, parse_assignments, set_options
from modelyard.core.route import Options


def test_options_are_set_from_text_and_from_values() -> None:
    """Both ways give the same, in the option's own type."""
    texts = {
        "p99_ms": "20",
        "cache_bytes": "1024",
        "preferred_rows": "32,8,8",
        "isolation": "process",
    }
    values = {
        "p99_ms": 20.0,
        "cache_bytes": 1024,
        "preferred_rows": [8, 32],
        "isolation": "process",
    }
    wanted = Options(p99_ms=20.0, cache_bytes=1024, preferred_rows=(8, 32), isolation="process")
    assert change_options(Options(), texts) == change_options(Options(), values) == wanted
    assert set_options(wanted) == {**values, "preferred_rows": (8, 32)}


def test_changes_keep_the_others_and_none_unsets() -> None:
    """What is not named stays."""
    present = Options(p99_ms=20.0, lanes=2, preferred_rows=(8,))
    changed = change_options(present, {"lanes": None, "preferred_rows": None, "threads": 1})
    assert changed == Options(p99_ms=20.0, threads=1)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("p99", "20", "did you mean 'p99_ms'"),
        ("colour", "red", "there are queue_rows"),
        ("p99_ms", "fast", "takes a number from 0.1"),
        ("p99_ms", "nan", "takes a number"),
        ("lanes", "0", "takes a whole number from 1 to 1024"),
        ("lanes", "1.5", "takes a whole number"),
        ("lanes", 1.5, "takes a whole number"),
        ("lanes", True, "takes a whole number"),
        ("preferred_rows", "8,x", "numbers such as 8,32"),
        ("preferred_rows", 8, "numbers such as 8,32"),
        ("isolation", "thread", "'none' or 'process'"),
    ],
)
def test_what_an_option_does_not_take_is_refused(name: str, value: object, words: str) -> None:
    """The message says what it takes, and the field is its name."""
    with pytest.raises(Invalid) as caught:
        change_options(Options(), {name: value})
    assert words in caught.value.message
    assert caught.value.field == name


def test_assignments_are_name_and_value() -> None:
    """`NAME=VALUE` sets, a name alone unsets; anything else is refused."""
    assert parse_assignments(["p99_ms = 20"], ["lanes"]) == {"p99_ms": "20", "lanes": None}
    with pytest.raises(Invalid, match="write NAME=VALUE"):
        parse_assignments(["p99_ms"])


def test_a_header_is_a_token_in_lower_case() -> None:
    """As it is looked up among a request's headers."""
    assert check_header("X-User") == "x-user"
    assert check_header("") == ""
    with pytest.raises(Invalid):
        check_header("x user")
