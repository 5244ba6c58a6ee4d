"""The generated pages."""

import pytest
from docs.generate import FOLDER, pages


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    """Each page of the reference is what `make docs` would write now."""
    assert (FOLDER / name).read_text("utf-8") == pages()[name], "run: make docs"


def test_nothing_else_is_in_the_reference() -> None:
    """Every page in the folder is a generated one."""
    assert {path.name for path in FOLDER.iterdir()} == set(pages())
