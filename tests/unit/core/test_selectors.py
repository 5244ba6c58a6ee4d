"""Names and paths of what a policy means within a payload."""

import pytest

from modelyard.core.errors import Invalid
from modelyard.core.selectors import Selector


@pytest.mark.parametrize(
    ("text", "root", "name", "inner"),
    [
        ("email", "", "email", ()),
        ("a name with $ in it", "", "a name with $ in it", ()),
        ("$.inputs.email", "inputs", "email", ()),
        ("$.inputs.rows.email", "inputs", "rows", ("email",)),
        ("$.inputs.rows[*].email", "inputs", "rows", ("email",)),
        ("$.outputs['a name'].x", "outputs", "a name", ("x",)),
        ("$['inputs'].t[*].people[*].name", "inputs", "t", ("people", "*", "name")),
    ],
)
def test_a_name_or_a_path_is_read(text: str, root: str, name: str, inner: tuple[str, ...]) -> None:
    """Where it begins, which tensor it means, and the way on from there."""
    selector = Selector.parse(text)
    assert (selector.root, selector.name, selector.inner) == (root, name, inner)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "$", "$.", "$.inputs", "$.headers.x", "$.inputs[*]", "$inputs.x", "$.inputs.x[0]",
     "$..email", "$.inputs.x.", "$.inputs['x", "$.inputs.a b"],
)  # fmt: skip
def test_what_is_no_path_is_refused(text: str) -> None:
    """Rather than to redact something else than was meant."""
    with pytest.raises(Invalid) as caught:
        Selector.parse(text)
    assert caught.value.code == "bad_path"
