"""The rings that tensors travel in."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.process.ring import BrokenRing, RingReader, RingWriter, make_memory

SIZE = 64 * 1024


@pytest.fixture
def fd() -> Iterator[int]:
    fd = make_memory(SIZE)
    yield fd
    os.close(fd)


def octets(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, length, np.uint8)


def test_what_goes_in_comes_out(fd: int) -> None:
    """Bytes that one end puts are those that the other takes."""
    writer, reader = RingWriter(fd), RingReader(fd)
    given = octets(5000)
    place = writer.put(given)
    assert place is not None
    start, mark = place
    assert reader.take(start, 5000, mark) == given.tobytes()


def test_a_full_ring_says_so_and_finds_room_again(fd: int) -> None:
    """Where there is no room the answer is None, at once; what was read makes room."""
    writer, reader = RingWriter(fd), RingReader(fd)
    first = writer.put(octets(40_000))
    assert first is not None
    assert writer.put(octets(40_000)) is None
    reader.take(first[0], 40_000, first[1])
    assert writer.put(octets(40_000)) is not None
    assert writer.put(octets(SIZE)) is None


@given(st.lists(st.tuples(st.integers(1, 30_000), st.booleans()), max_size=60))
def test_no_tensor_is_overwritten_before_it_is_read(moves: list[tuple[int, bool]]) -> None:
    """Whatever is put and taken in whatever rhythm, every tensor comes out as it went in."""
    fd = make_memory(SIZE)
    writer, reader = RingWriter(fd), RingReader(fd)
    os.close(fd)
    waiting: list[tuple[int, int, bytes]] = []
    for seed, (length, takes) in enumerate(moves):
        given = octets(length, seed)
        place = writer.put(given)
        if place is not None:
            waiting.append((*place, given.tobytes()))
        if takes and waiting:
            start, mark, wanted = waiting.pop(0)
            assert reader.take(start, len(wanted), mark) == wanted
    for start, mark, wanted in waiting:
        assert reader.take(start, len(wanted), mark) == wanted


@pytest.mark.parametrize(
    ("start", "length"), [(-1, 10), (0, -1), (SIZE, 10), (SIZE - 70, 100), (0, SIZE), (2**60, 1)]
)
def test_a_reader_stays_inside(fd: int, start: int, length: int) -> None:
    """A place outside of the memory is refused, whatever the writer says."""
    with pytest.raises(BrokenRing):
        RingReader(fd).take(start, length, 64)


@pytest.mark.parametrize("mark", [0, -64, 2**62])
def test_a_reader_believes_no_mark_that_cannot_be(fd: int, mark: int) -> None:
    """A mark that goes back, or further than the memory is large, is refused."""
    with pytest.raises(BrokenRing):
        RingReader(fd).take(0, 10, mark)


def test_a_writer_believes_no_reader_that_is_ahead(fd: int) -> None:
    """A reader that claims to have read what was never written breaks the connection."""
    writer = RingWriter(fd)
    RingReader(fd).take(0, 10, 640)
    with pytest.raises(BrokenRing):
        writer.put(octets(10))


def test_memory_that_can_be_cut_off_is_refused() -> None:
    """Memory that its owner may shrink under us would end the process that reads it."""
    fd = os.memfd_create("not sealed")
    os.ftruncate(fd, SIZE)
    with pytest.raises(BrokenRing):
        RingReader(fd)
    os.close(fd)


def test_pages_are_given_back(fd: int) -> None:
    """What a large tensor took is the system's again when the ring is trimmed."""
    writer, reader = RingWriter(fd), RingReader(fd)
    place = writer.put(octets(60_000))
    assert place is not None
    assert os.fstat(fd).st_blocks * 512 >= 56 * 1024
    writer.trim(0)
    assert os.fstat(fd).st_blocks * 512 >= 56 * 1024, "nothing that waits is thrown away"
    reader.take(place[0], 60_000, place[1])
    writer.trim(0)
    assert os.fstat(fd).st_blocks * 512 <= 8 * 1024
    again = writer.put(octets(60_000, 1))
    assert again is not None
    assert reader.take(again[0], 60_000, again[1]) == octets(60_000, 1).tobytes()
