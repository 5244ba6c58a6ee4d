"""Bundles in and out of a server: streamed, bounded, and clean behind them."""

import socket
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelyard.bundle.archive import export_bundle
from modelyard.client.administration import RemoteAdministration
from modelyard.core.administration.models import Export, Publish
from modelyard.core.config import Config
from modelyard.testing.administered import administered
from modelyard.testing.bundles import make_bundle
from modelyard.wiring.administration import make_reception
from modelyard.wiring.registry import open_registry
from tests.integration.administration.conftest import Place

TAR = {"content-type": "application/x-tar"}


def left_behind(place: Place) -> list[Path]:
    """What lies in the staging folders of the home."""
    folder = place.home / "staging"
    return list(folder.iterdir()) if folder.exists() else []


def test_an_archive_that_is_too_large_is_refused(place: Place, admin: httpx.Client) -> None:
    """By what it announces, and by what comes; nothing of it is kept."""
    announced = admin.post("/versions", content=b"x" * (1024 * 1024 + 1), headers=TAR)

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    unannounced = admin.post("/versions", content=pieces(), headers=TAR)
    for answer in (announced, unannounced):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert left_behind(place) == []


def test_what_is_no_archive_is_refused(place: Place, admin: httpx.Client) -> None:
    """And leaves nothing behind."""
    for content in (b"", b"x", bytes(10_240)):
        answer = admin.post("/versions", content=content, headers=TAR)
        assert (answer.status_code, answer.json()["code"]) == (400, "damaged_bundle")
    assert left_behind(place) == []


def test_a_caller_who_goes_away_leaves_nothing_behind(place: Place) -> None:
    """Half an upload, and half a download."""
    host, port = place.url.removeprefix("http://").split(":")
    head = f"HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {place.key()}\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /api/v1/versions {head}content-type: application/x-tar\r\n"
            "content-length: 100000\r\n\r\n".encode()
            + bytes(50_000)
        )
        _until(lambda: left_behind(place) != [])
    _until(lambda: left_behind(place) == [])
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET /api/v1/versions/churn:1/archive {head}\r\n".encode())
        connection.recv(100)
    _until(lambda: left_behind(place) == [])


def test_an_upload_may_take_its_time(
    place: Place, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its bytes come, it is no attack, however long it takes."""
    monkeypatch.setattr("modelyard.api.http.server._HEAD_S", 0.3)
    archive = admin.get("/versions/churn:1/archive").content
    padded = archive + bytes(100_000)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(padded), 5_000):
            yield padded[start : start + 5_000]
            time.sleep(0.12)

    answer = admin.post("/versions", content=pieces(), headers=TAR)
    # Bytes after the end are no part of an archive; it is what came before that matters here.
    assert (answer.status_code, answer.json()["code"]) == (400, "damaged_bundle")


def test_a_large_bundle_is_never_in_memory(tmp_path: Path) -> None:
    """64 MB go in and out within a few; also of the client, which is in this process."""
    config = Config(home=tmp_path / "home")
    size_bytes = 64 * 1024 * 1024
    bundle = make_bundle(tmp_path / "b", name="large", files={"weights": bytes(size_bytes)})
    archive = tmp_path / "large.tar"
    export_bundle(bundle, archive)
    with open_registry(config) as registry:
        key = registry.keys.create(name="a", role="admin", actor="test").text
        with (
            administered(registry, make_reception(config, registry)) as server,
            RemoteAdministration(server.url, key) as remote,
        ):
            remote.publish(Publish(), archive)
            tracemalloc.start()
            try:
                remote.publish(Publish(), archive)
                remote.export(Export(reference="large:1"), tmp_path / "back.tar")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert (tmp_path / "back.tar").stat().st_size == archive.stat().st_size
    assert peak < 24 * 1024 * 1024


def _until(holds: object) -> None:
    deadline = time.monotonic() + 20
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
