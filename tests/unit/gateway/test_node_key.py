"""The key by which a node signs."""

import threading
from pathlib import Path

import pytest

from modelyard.core.errors import Unavailable
from modelyard.gateway.node_key import FILE_NAME, node_key


def test_a_home_has_one_key_for_good(tmp_path: Path) -> None:
    """However many ask for it at once, and only its owner can read it."""
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(node_key(tmp_path).private_bytes_raw())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {node_key(tmp_path).private_bytes_raw()}
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is used all the same: a container's volumes may know no modes."""
    key = node_key(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o640)
    assert node_key(tmp_path).private_bytes_raw() == key.private_bytes_raw()
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """What it has signed could not be checked any more: nobody makes a new one unasked."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(Unavailable, match=r"node\.key") as caught:
        node_key(tmp_path)
    assert caught.value.code == "bad_node_key"
    assert (tmp_path / FILE_NAME).read_bytes() == content
