"""Encrypting a home and changing its key: nothing is lost, wherever the process dies."""

import hashlib
import signal
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from modelyard.bundle.keyring import Keyring, make_key
from modelyard.core.errors import DamagedBundle, Unavailable
from modelyard.core.records import Problem
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle
from modelyard.testing.crash import encrypt_until, rewrap_until

_CONTENTS = (b"a planted model", b"a planted manifest" * 9, b"")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(make_key())
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def open_store(home: Path, key_file: Path) -> Callable[[], LocalBlobStore]:
    return lambda: LocalBlobStore(home, keys=Keyring(f"file:{key_file}"), patience_s=5)


def _contents(store: LocalBlobStore) -> Iterator[bytes]:
    for digest in store.digests():
        with store.file(digest).open("rb") as file:
            data = file.read()
        assert hashlib.sha256(data).hexdigest() == digest
        yield data


def _dies(
    processes: BaseContext, target: Callable[..., None], step: int, report: Path, *arguments: object
) -> bool:
    process = processes.Process(target=target, args=(step, *arguments, report))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == (0 if report.exists() else -signal.SIGKILL)
    return not report.exists()


def test_what_lies_there_is_encrypted_and_nothing_of_it_stays(
    home: Path, open_store: Callable[[], LocalBlobStore]
) -> None:
    """Plain blobs become encrypted ones of the same names, and no file holds their bytes."""
    plain = LocalBlobStore(home)
    names = {plain.put(each) for each in _CONTENTS}
    store = open_store()
    assert store.survey().plain == 3
    assert set(store.encrypt()) == names
    assert (store.survey().plain, store.survey().sealed) == (0, 3)
    assert sorted(_contents(store)) == sorted(_CONTENTS)
    assert not [
        file for file in home.rglob("*") if file.is_file() and b"planted" in file.read_bytes()
    ]
    assert list(store.encrypt()) == []


def test_a_store_that_is_half_encrypted_is_read_whole(
    home: Path, open_store: Callable[[], LocalBlobStore]
) -> None:
    """Old plain blobs and new encrypted ones are one store, and each is collected alike."""
    LocalBlobStore(home).put(b"old")
    store = open_store()
    kept = store.put(b"new")
    assert sorted(_contents(store)) == [b"new", b"old"]
    store.collect(lambda: {kept})
    assert list(_contents(store)) == [b"new"]


def test_a_damaged_blob_is_not_encrypted(
    home: Path, open_store: Callable[[], LocalBlobStore]
) -> None:
    """Encryption would hide the damage; it stays for `doctor` to find."""
    name = LocalBlobStore(home).put(b"good")
    path = home / "blobs" / "sha256" / name
    path.chmod(0o644)
    path.write_bytes(b"bad!")
    with pytest.raises(DamagedBundle, match=name):
        list(open_store().encrypt())
    assert path.read_bytes() == b"bad!"
    assert open_store().leftovers() == []


def test_a_registry_on_encrypted_blobs_is_whole_and_finds_damage(
    home: Path, open_store: Callable[[], LocalBlobStore], tmp_path: Path
) -> None:
    """Publishing, verifying, checking and mending go on as on plain ones."""
    with Registry.open(f"sqlite:///{home / 'registry.db'}", open_store()) as registry:
        bundle = make_bundle(tmp_path / "bundle")
        version = registry.publish(bundle, actor="ann")
        registry.bundle(version).verify()
        assert registry.bundle(version).is_secret
        assert registry.check() == []
        path = home / "blobs" / "sealed" / bundle.manifest.files[0].sha256
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])
        assert [each.problem for each in registry.check()] == [Problem.DAMAGED_BLOB]
        with pytest.raises(DamagedBundle):
            registry.bundle(version).verify()
        registry.publish(bundle, actor="ann")
        assert registry.check() == []


def test_without_the_key_a_version_says_which_key_it_needs(
    home: Path, open_store: Callable[[], LocalBlobStore], tmp_path: Path
) -> None:
    """By its id, from which nobody finds the key."""
    url = f"sqlite:///{home / 'registry.db'}"
    with Registry.open(url, open_store()) as registry:
        version = registry.publish(make_bundle(tmp_path / "bundle"), actor="ann")
    (wanted,) = open_store().survey().wrapped_by
    with (
        Registry.open(url, LocalBlobStore(home)) as registry,
        pytest.raises(Unavailable, match=wanted) as caught,
    ):
        registry.bundle(version)
    assert caught.value.code == "encryption_key_missing"


@pytest.mark.slow
def test_an_encryption_killed_at_any_step_loses_nothing(
    home: Path,
    key_file: Path,
    open_store: Callable[[], LocalBlobStore],
    processes: BaseContext,
    tmp_path: Path,
) -> None:
    """At every step each blob can be read, and the next run goes on from there."""
    step, seen = 0, set()
    for each in _CONTENTS:
        LocalBlobStore(home).put(each)
    while True:
        step += 1
        report = tmp_path / f"report-{step}"
        died = _dies(processes, encrypt_until, step, report, home, f"file:{key_file}")
        store = open_store()
        assert sorted(_contents(store)) == sorted(_CONTENTS)
        seen.add((store.survey().sealed, store.survey().plain))
        if not died:
            break
        # Begin anew, so that the next step is counted from the same state.
        names = list(store.digests())
        for name in names:
            store.delete(name)
        store.collect(set)
        for each in _CONTENTS:
            LocalBlobStore(home).put(each)
    assert {(0, 3), (1, 2), (2, 1), (3, 0)} <= seen
    assert step > 30


@pytest.mark.slow
def test_a_rotation_killed_at_any_step_loses_nothing(
    key_file: Path,
    open_store: Callable[[], LocalBlobStore],
    home: Path,
    processes: BaseContext,
    tmp_path: Path,
) -> None:
    """Some blobs with the old key and some with the new: all readable, and it can go on."""
    old = key_file.read_text()
    store = open_store()
    for each in _CONTENTS:
        store.put(each)
    before = _images(home)
    key_file.write_text(f"{make_key()}\n{old}")
    step, seen = 0, set()
    while True:
        step += 1
        report = tmp_path / f"report-{step}"
        died = _dies(processes, rewrap_until, step, report, home, f"file:{key_file}")
        assert sorted(_contents(open_store())) == sorted(_CONTENTS)
        wrapped = open_store().survey().wrapped_by
        seen.add(tuple(sorted(wrapped.values())))
        if not died:
            break
        for path, image in before.items():
            path.chmod(0o644)
            path.write_bytes(image)
    assert wrapped == {Keyring(f"file:{key_file}").current().id: 3}
    assert {(3,), (1, 3), (1, 2), (2, 2), (2, 3)} >= seen > {(3,), (1, 3)}
    # The old key is of no use any more, and nobody needs it.
    key_file.write_text(key_file.read_text().split()[0])
    assert sorted(_contents(open_store())) == sorted(_CONTENTS)


def _images(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (home / "blobs" / "sealed").iterdir()}
