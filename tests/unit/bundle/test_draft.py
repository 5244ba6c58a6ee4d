"""A file that becomes visible whole, or not at all."""

from pathlib import Path

import pytest

from modelyard.bundle.draft import PREFIX, Draft


def test_a_draft_is_invisible_until_published(tmp_path: Path) -> None:
    """Under its final name there is nothing, and then all of it."""
    target = tmp_path / "file"
    with Draft(tmp_path) as draft:
        draft.file.write(b"content")
        assert not target.exists()
        draft.publish(target, 0o440)
        assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o777 == 0o440
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_draft_that_fails_is_removed(tmp_path: Path) -> None:
    """The error passes, the old file stays, and no draft is left."""
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_half() -> None:
        with Draft(tmp_path) as draft:
            draft.file.write(b"half")
            assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_drafts_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The last one published wins whole."""
    target = tmp_path / "file"
    with Draft(tmp_path) as first, Draft(tmp_path) as second:
        first.file.write(b"first")
        second.file.write(b"second")
        second.publish(target)
        first.publish(target)
    assert target.read_bytes() == b"first"
