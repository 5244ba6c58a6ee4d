import pytest

from modelyard.core.errors import Invalid
from modelyard.core.names import Reference


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("churn", Reference("churn")),
        ("churn:3", Reference("churn", version=3)),
        ("churn@champion", Reference("churn", alias="champion")),
        ("a.b-c_1:12", Reference("a.b-c_1", version=12)),
    ],
)
def test_references_read_and_write_the_same(text: str, wanted: Reference) -> None:
    """A reference is read into its parts and written as it was."""
    assert Reference.parse(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text",
    ["", "-x", "a/b", "../a", "a b", "é", "a:", "a:0", "a:-1", "a:1.5", "a:٣", "a:99999999999",
     "a@", "a@b@c", "x" * 129, "a:1@b", "a\n"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    """Names that could leave a folder, a URL or a line are no names."""
    with pytest.raises(Invalid):
        Reference.parse(text)
