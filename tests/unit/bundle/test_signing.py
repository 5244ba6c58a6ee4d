"""Signatures: made by the OpenSSF library, checked by ours, and by theirs."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from modelyard.bundle.archive import export_bundle, import_bundle, verify_archive
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.signer import (
    KeyPair,
    make_key,
    sign_with_key,
    sign_with_sigstore,
    verify_with_sigstore,
)
from modelyard.bundle.signing import MOST_BYTES, PublicKey, SignedStatement, signers
from modelyard.bundle.trust import Trust, check_policy
from modelyard.bundle.unpacked import read_folder, unpack
from modelyard.core.errors import DamagedBundle, Denied, Invalid, Unavailable
from modelyard.core.policy import Policy
from modelyard.registry.blobs import LocalBlobStore
from modelyard.testing.bundles import make_bundle
from modelyard.testing.memory import MemoryBlobStore

_FILES = {"notes.md": b"hello", "plots/a.svg": bytes(range(256)) * 5, "plots/b.svg": b""}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b", files=_FILES)


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return make_key()


@pytest.fixture(scope="module")
def key_file(pair: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "key.pem"
    file.write_text(pair.private)
    return file


@pytest.fixture(scope="module")
def signature(bundle: Bundle, key_file: Path) -> bytes:
    return sign_with_key(bundle.manifest, key_file)


def _official(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """The library's own command."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _changed(signature: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(signature)
    change(document)
    return json.dumps(document).encode()


def _resigned(signature: bytes, pair: KeyPair, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A signature over another statement, made in earnest by the key's owner."""
    document = json.loads(signature)
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    key = serialization.load_pem_private_key(pair.private.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"] = [{"sig": base64.b64encode(made).decode(), "keyid": ""}]
    return json.dumps(document).encode()


def test_a_good_signature_names_its_signer(bundle: Bundle, signature: bytes, pair: KeyPair) -> None:
    """Of many keys, the one that has signed is found."""
    others = [make_key().public for _ in range(3)]
    assert signers(bundle.manifest, [signature], [*others, pair.public]) == [pair.public]
    assert signers(bundle.manifest, [signature], others) == []
    assert signers(bundle.manifest, [], [pair.public]) == []


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_curve_of_the_format_is_good(
    curve: ec.EllipticCurve, bundle: Bundle, tmp_path: Path
) -> None:
    """P-256, P-384 and P-521, each with its own hash."""
    key = ec.generate_private_key(curve)
    file = tmp_path / "key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = PublicKey.of(key.public_key())
    assert PublicKey.parse(public.pem) == public
    made = sign_with_key(bundle.manifest, file)
    assert signers(bundle.manifest, [made], [public]) == [public]


def test_the_library_itself_verifies_an_unpacked_bundle(
    bundle: Bundle, signature: bytes, pair: KeyPair, tmp_path: Path
) -> None:
    """Whoever has only the official tool needs nothing of ours; and it sees a changed byte."""
    unpack(bundle, tmp_path / "out")
    (tmp_path / "out.sig").write_bytes(signature)
    (tmp_path / "key.pub").write_text(pair.public.pem)
    asked = ("verify", "key", "--public_key", tmp_path / "key.pub")
    asked = (*asked, "--signature", tmp_path / "out.sig", tmp_path / "out")
    done = _official(*asked)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out" / "notes.md").write_bytes(b"hellO")
    done = _official(*asked)
    assert done.returncode != 0
    assert "notes.md" in done.stderr


def test_what_the_library_signed_is_good_here(
    bundle: Bundle, pair: KeyPair, key_file: Path, tmp_path: Path
) -> None:
    """A bundle signed on another machine by the official tool needs nothing of ours there."""
    unpack(bundle, tmp_path / "out")
    file = tmp_path / "out.sig"
    done = _official(
        "sign", "key", "--private_key", key_file, "--signature", file, tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert signers(bundle.manifest, [file.read_bytes()], [pair.public]) == [pair.public]


def test_a_signature_is_for_one_bundle(
    bundle: Bundle, signature: bytes, pair: KeyPair, tmp_path: Path
) -> None:
    """The same key's signature of another bundle, even one byte away, does not count."""
    other = make_bundle(tmp_path / "b", files={**_FILES, "notes.md": b"hellp"})
    assert signers(other.manifest, [signature], [pair.public]) == []
    with pytest.raises(Denied) as caught:
        SignedStatement.decode(signature).check(other.manifest, pair.public)
    assert caught.value.code == "bad_signature"
    assert "other files" in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
        lambda document: document["dsseEnvelope"].update(payload="AAAA"),
        lambda document: document["dsseEnvelope"].update(
            payload=base64.b64encode(
                base64.b64decode(document["dsseEnvelope"]["payload"]) + b" "
            ).decode()
        ),
        lambda document: document["verificationMaterial"]["publicKey"].update(hint="0" * 64),
        lambda document: document["verificationMaterial"].pop("publicKey"),
        lambda document: document.update(mediaType="application/json"),
        lambda document: document["dsseEnvelope"].update(payloadType="text/plain"),
        lambda document: document["dsseEnvelope"].update(signatures=[]),
        lambda document: document["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}),
    ],
)
def test_a_changed_signature_does_not_count(
    change: Callable[[dict[str, Any]], None], bundle: Bundle, signature: bytes, pair: KeyPair
) -> None:
    """Not by its signature, payload, key, types or number of signatures."""
    changed = _changed(signature, change)
    assert signers(bundle.manifest, [changed], [pair.public]) == []
    assert signers(bundle.manifest, [changed, signature], [pair.public]) == [pair.public]


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement["predicate"]["resources"].pop(),
        lambda statement: statement["predicate"]["resources"].append(
            statement["predicate"]["resources"][0]
        ),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="md5"),
        lambda statement: statement["predicate"]["resources"][0].update(digest="zz"),
        lambda statement: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement: statement["predicate"]["serialization"].update(hash_type="blake2b"),
        lambda statement: statement["subject"][0]["digest"].update(sha256="0" * 64),
        lambda statement: statement["subject"].append(statement["subject"][0]),
        lambda statement: statement.update(predicate=[]),
    ],
)
def test_a_statement_of_another_form_does_not_count(
    change: Callable[[dict[str, Any]], None], bundle: Bundle, signature: bytes, pair: KeyPair
) -> None:
    """Even where the trusted key itself has signed it: what it says is not what we know how to
    hold against a bundle."""
    assert signers(
        bundle.manifest, [_resigned(signature, pair, lambda statement: None)], [pair.public]
    ) == [pair.public]
    resigned = _resigned(signature, pair, change)
    assert signers(bundle.manifest, [resigned], [pair.public]) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 100_000,
        b" " * (MOST_BYTES + 1),
    ],
)
def test_what_is_no_signature_is_refused(data: bytes) -> None:
    """Quickly, and with one code."""
    with pytest.raises(Invalid) as caught:
        SignedStatement.decode(data)
    assert caught.value.code == "bad_signature_file"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    ],
)
def test_what_is_no_public_key_of_the_format_is_refused(text: str) -> None:
    """Another kind of key, another curve, or none at all."""
    with pytest.raises(Invalid) as caught:
        PublicKey.parse(text)
    assert caught.value.code == "bad_public_key"


def test_a_private_key_is_no_public_one_and_is_not_told(pair: KeyPair) -> None:
    """Whoever confuses the two learns it, and the key is nowhere in what is said."""
    with pytest.raises(Invalid) as caught:
        PublicKey.parse(pair.private)
    secret = pair.private.splitlines()[1]
    assert secret not in str(caught.value)
    assert secret not in repr(pair)


def test_a_password_protects_a_key(bundle: Bundle, tmp_path: Path) -> None:
    """It is needed, and a wrong one is told without it."""
    pair = make_key("open sesame")
    file = tmp_path / "key.pem"
    file.write_text(pair.private)
    made = sign_with_key(bundle.manifest, file, "open sesame")
    assert signers(bundle.manifest, [made], [pair.public]) == [pair.public]
    for wrong in ("", "open barley"):
        with pytest.raises(Invalid) as caught:
            sign_with_key(bundle.manifest, file, wrong)
        assert caught.value.code == "bad_private_key"
        assert "barley" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_key_that_is_none_signs_nothing(
    content: bytes | None, bundle: Bundle, tmp_path: Path
) -> None:
    """A file of something else, or no file."""
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        sign_with_key(bundle.manifest, file)
    assert caught.value.code == "bad_private_key"


def test_sigstore_says_clearly_that_it_needs_a_network(
    bundle: Bundle, signature: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing and verifying fail at once, with what to do instead."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        # Nobody listens on port 1.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="network") as caught:
        sign_with_sigstore(bundle.manifest, token="none")
    assert caught.value.code == "sigstore_unreachable"
    with pytest.raises(Unavailable, match="network"):
        verify_with_sigstore(bundle.manifest, signature, identity="a@b.c", issuer="https://b.c")


def test_signatures_travel_in_an_archive(
    bundle: Bundle, signature: bytes, key_file: Path, tmp_path: Path
) -> None:
    """As many as there are, in one order; the bundle's digest stays what it was."""
    second = tmp_path / "second.pem"
    second.write_text(make_key().private)
    both = (signature, sign_with_key(bundle.manifest, second))
    file, again = tmp_path / "a.tar", tmp_path / "b.tar"
    export_bundle(Bundle(bundle.manifest, bundle.files, both), file)
    export_bundle(Bundle(bundle.manifest, bundle.files, both[::-1]), again)
    assert file.read_bytes() == again.read_bytes()
    imported = import_bundle(file, LocalBlobStore(tmp_path / "home"))
    imported.verify()
    assert imported.digest == bundle.digest
    assert set(imported.signatures) == set(both)
    assert verify_archive(file) == (bundle.manifest, imported.signatures)


def test_an_archive_shows_signatures_as_referrers(
    bundle: Bundle, signature: bytes, tmp_path: Path
) -> None:
    """Each is an OCI manifest whose subject is the image, so that registries carry it along."""
    import tarfile

    file = tmp_path / "a.tar"
    export_bundle(Bundle(bundle.manifest, bundle.files, (signature,)), file)
    with tarfile.open(file) as tar:

        def read(name: str) -> Any:
            return json.load(tar.extractfile(name))  # type: ignore[arg-type]

        image, referrer = read("index.json")["manifests"]
        found = read("blobs/sha256/" + referrer["digest"].removeprefix("sha256:"))
        content = read("blobs/sha256/" + found["layers"][0]["digest"].removeprefix("sha256:"))
    assert found["subject"]["digest"] == image["digest"]
    assert referrer["artifactType"] == found["artifactType"] == content["mediaType"]
    assert content == json.loads(signature)


def test_an_archive_with_a_signature_of_something_else_is_refused(
    bundle: Bundle, signature: bytes, key_file: Path, tmp_path: Path
) -> None:
    """Nothing that is not about the bundle is carried along with it."""
    other = make_bundle(tmp_path / "b")
    foreign = sign_with_key(other.manifest, key_file)
    for strange in (foreign, b"{}"):
        file = tmp_path / "a.tar"
        export_bundle(Bundle(bundle.manifest, bundle.files, (strange,)), file)
        store = MemoryBlobStore()
        with pytest.raises(DamagedBundle) as caught:
            import_bundle(file, store)
        assert caught.value.field == "a signature"
        assert list(store.digests()) == []
        store.close()


def test_the_policy_lets_in_what_a_trusted_key_has_signed(
    bundle: Bundle, signature: bytes, pair: KeyPair
) -> None:
    """And nothing else: not unsigned, not signed by others, not signed for others."""
    trust = Trust.of(Policy(require_signature=True, trusted_keys=(pair.public.pem,)))
    check_policy(bundle.manifest, (signature,), trust)
    check_policy(bundle.manifest, (b"nonsense", signature), trust)
    others = Trust(require_signature=True, trusted_keys=(make_key().public.pem,))
    for signatures, demanded in (
        ((), trust),
        ((b"nonsense",), trust),
        ((signature,), others),
        ((signature,), Trust(require_signature=True)),
    ):
        with pytest.raises(Denied) as caught:
            check_policy(bundle.manifest, signatures, demanded)
        assert caught.value.code == "unsigned_bundle"


def test_the_policy_names_frameworks_and_formats(bundle: Bundle) -> None:
    """What it does not name stays out; where it names none, all come in."""
    check_policy(bundle.manifest, (), Trust())
    check_policy(bundle.manifest, (), Trust(frameworks=("none",), formats=("skops", "onnx")))
    with pytest.raises(Denied) as caught:
        check_policy(bundle.manifest, (), Trust(frameworks=("sklearn",)))
    assert caught.value.code == "framework_not_allowed"
    with pytest.raises(Denied) as caught:
        check_policy(bundle.manifest, (), Trust(formats=("skops",)))
    assert caught.value.code == "format_not_allowed"


def test_an_unpacked_bundle_is_read_back(bundle: Bundle, tmp_path: Path) -> None:
    """Every file under its path, and whole."""
    folder = tmp_path / "out"
    unpack(bundle, folder)
    again = read_folder(folder)
    again.verify()
    assert again.digest == bundle.digest


def test_a_folder_with_more_or_less_than_the_bundle_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    """A file too many, a file too few, and links, whatever they lead to."""
    folder = tmp_path / "out"
    unpack(bundle, folder)
    stray = folder / "plots" / "stray.py"
    stray.write_text("x")
    with pytest.raises(DamagedBundle, match=r"stray\.py"):
        read_folder(folder)
    stray.unlink()
    stray.symlink_to(folder / "notes.md")
    with pytest.raises(DamagedBundle, match="link"):
        read_folder(folder)
    stray.unlink()
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DamagedBundle, match="link"):
        read_folder(folder)
    (folder / "linked").unlink()
    (folder / "notes.md").unlink()
    with pytest.raises(DamagedBundle, match=r"notes\.md"):
        read_folder(folder)
