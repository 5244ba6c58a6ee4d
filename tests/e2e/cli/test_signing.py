"""Signing, verifying and the policy on the command line, from one home to another."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def key(tmp_path: Path, modelyard: Any) -> Path:
    """A pair of keys; the path of the private one."""
    modelyard("bundle", "keygen", tmp_path / "ada")
    return tmp_path / "ada.pem"


def test_a_pair_of_keys_is_made_once(tmp_path: Path, modelyard: Any, key: Path) -> None:
    """The private half is for its owner only, and never written over."""
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    done = modelyard("bundle", "keygen", tmp_path / "ada", status=1)
    assert b"is there already" in done.stderr
    assert key.read_bytes() == before


def test_a_signed_bundle_goes_from_home_to_home(
    leavers: Any, key: Path, tmp_path: Path, command_at: Any
) -> None:
    """It is deployed where its signer is trusted, and verified by the official tool alone."""
    public = key.with_name("ada.pub.pem")
    signed = leavers.json("bundle", "sign", "leavers:2", "--key", key)
    told = leavers.json("bundle", "verify", "leavers:2", "--key", public)
    assert told["signed_by"] == [signed["signer"]]
    refused = leavers("bundle", "verify", "leavers:1", "--key", public, status=1)
    assert b"is not signed" in refused.stderr
    leavers("bundle", "export", "leavers:2", tmp_path / "l.tar")
    leavers("bundle", "unpack", "leavers:2", tmp_path / "folder")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "model_signing", "verify", "key", "--public_key", public),
            *("--signature", tmp_path / "folder.sig", tmp_path / "folder"),
        ],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    other = command_at(tmp_path / "other")
    other("policy", "set", "--require-signature", "--trusted-key", public)
    other("bundle", "import", tmp_path / "l.tar")
    other("deploy", "leavers")
    assert other.json("bundle", "verify", f"{tmp_path}/folder", "--key", public)["whole"] is True


def test_a_signature_of_elsewhere_is_brought_along(leavers: Any, key: Path, tmp_path: Path) -> None:
    """Made by the official tool where the key lives, put beside the version here."""
    leavers("bundle", "unpack", "leavers:1", tmp_path / "folder")
    subprocess.run(
        [
            *(sys.executable, "-m", "model_signing", "sign", "key", "--private_key", key),
            *("--signature", tmp_path / "made.sig", tmp_path / "folder"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    leavers("bundle", "sign", "leavers:1", "--signature", tmp_path / "made.sig")
    public = key.with_name("ada.pub.pem")
    assert leavers.json("bundle", "verify", "leavers:1", "--key", public)["signatures"] == 1
    refused = leavers("bundle", "sign", "leavers:2", "--signature", tmp_path / "made.sig", status=1)
    assert b"other files" in refused.stderr


def test_a_policy_is_set_shown_and_applied(modelyard: Any, key: Path, tmp_path: Path) -> None:
    """Part by part or as a whole; what does not fit is refused and changes nothing."""
    told = modelyard.json("policy", "set", "--formats", "onnx, skops", "--four-eyes", "churn*")
    assert told["policy"]["formats"] == ["onnx", "skops"]
    told = modelyard.json("policy", "set", "--audit-calls", "loans")
    assert told["policy"]["four_eyes"] == ["churn*"]
    document = tmp_path / "policy.toml"
    document.write_text(
        'audit_calls = ["*"]\n[[captures]]\nmodels = "churn*"\nshare = 5\nredact = ["name"]\n'
    )
    told = modelyard.json("policy", "apply", document)
    assert told["policy"]["formats"] == []
    assert told["policy"]["captures"][0]["share"] == 5.0
    for text, part in (
        ('audit_call = ["*"]', b"audit_call"),
        ("require_signature = true", b"trusted_keys"),
        ("formats = 7", b"formats"),
        ("a = [", b"cannot be read"),
    ):
        document.write_text(text)
        assert part in modelyard("policy", "apply", document, status=1).stderr
    late = modelyard("policy", "set", "--formats", "", "--expected", 1, status=1)
    assert b"no longer at 1" in late.stderr
    assert modelyard.json("policy", "show") == told
    assert modelyard("policy", "set", status=2).stderr


def test_sigstore_without_a_network_says_so(leavers: Any) -> None:
    """At once, and what to do instead."""
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    done = leavers("bundle", "sign", "leavers", "--sigstore", status=1, **proxy)
    assert b"needs a network" in done.stderr
