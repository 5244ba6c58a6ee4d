"""What a policy refuses is not loaded, wherever it would run, and what ran before goes on."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import Client, Yard
from modelyard.bundle.signer import make_key, sign_with_key
from modelyard.bundle.trust import Trust
from modelyard.core.errors import Denied
from modelyard.core.names import Reference
from modelyard.core.policy import Policy
from modelyard.serving.loading import Job, load
from modelyard.serving.places import LocalPlaces, Question
from modelyard.wiring.model_process import command
from tests.e2e.conftest import Command, Server
from tests.e2e.serving.test_model_processes import LIMITS
from tests.graphs import bundle_of, double

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
StartServer = Callable[..., Server]


def publish(yard: Yard, factor: float) -> None:
    """A version that answers with a multiple of the sum of a row."""
    model = LinearRegression().fit(SAMPLE, factor * SAMPLE.sum(axis=1))
    yard.publish(model, name="sum", sample=SAMPLE)


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    """While no process of the server runs."""
    root = psutil.Process(server.pid)
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("place", ["worker", "process"])
def test_the_version_before_goes_on(place: str, tmp_path: Path, start_server: StartServer) -> None:
    """A route that leads to an unsigned version, made before the policy was, does not load it: in
    a worker or a process of its own. The index says why, and calls get the old answers."""
    home = tmp_path / "home"
    with Yard.open(home) as yard:
        publish(yard, 1.0)
        yard.deploy(Reference("sum", version=1))
        server = start_server(home, "--workers", 1, MODELYARD_PLACE=place)
        with paused(server):
            publish(yard, 2.0)
            yard.deploy(Reference("sum", version=2))
            keys = (make_key().public.pem,)
            yard.registry.policies.set(
                Policy(require_signature=True, trusted_keys=keys), actor="me"
            )
        with Client(server.url) as client:
            while not any("is not signed" in each["reason"] for each in client.models()):
                pass
            answer = client.predict("sum", [[1.0, 2.0]])
        np.testing.assert_allclose(answer, 3.0, atol=1e-4)


def test_a_server_that_starts_serves_only_what_is_signed(
    tmp_path: Path, start_server: StartServer
) -> None:
    """The signed model answers; the unsigned one says why it does not."""
    home = tmp_path / "home"
    pair = make_key()
    (tmp_path / "key.pem").write_text(pair.private)
    (tmp_path / "key.pub").write_text(pair.public.pem)
    run = Command(home)
    with Yard.open(home) as yard:
        for name in ("signed", "unsigned"):
            model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
            yard.publish(model, name=name, sample=SAMPLE)
            yard.deploy(Reference(name, version=1))
    run("bundle", "sign", "signed", "--key", tmp_path / "key.pem")
    told = run.json("policy", "set", "--require-signature", "--trusted-key", tmp_path / "key.pub")
    assert told["policy"]["require_signature"] is True  # type: ignore[index,call-overload]
    server = start_server(home, "--workers", 1)
    with Client(server.url) as client:
        while (lines := {line["name"]: line for line in client.models()})["signed"][
            "state"
        ] != "READY":
            pass
        np.testing.assert_allclose(client.predict("signed", [[1.0, 2.0]]), 3.0, atol=1e-4)
    assert lines["unsigned"]["state"] != "READY"
    assert "is not signed" in lines["unsigned"]["reason"]
    refused = run("deploy", "unsigned", "--canary", "5%", status=1)
    assert refused.stderr.startswith(b"error: ")


def test_a_model_process_is_the_last_line(tmp_path: Path) -> None:
    """Even a job that nobody has checked before is refused where it would be loaded."""
    pair = make_key()
    key = tmp_path / "key.pem"
    key.write_text(pair.private)
    bundle = bundle_of(tmp_path / "m", *double())
    trust = Trust(require_signature=True, trusted_keys=(pair.public.pem,))
    job = Job.of("m", 1, bundle, LIMITS, cores=2, trust=trust)
    with pytest.raises(Denied) as caught:
        load(job)
    assert caught.value.code == "unsigned_bundle"
    places = LocalPlaces(command, tmp_path / "environments", process_us=1000)
    try:
        question = Question(name=job.name, key=job.key, job=job.encode(), packages=(), must=True)
        with pytest.raises(Denied) as caught:
            places.find(question)
        assert caught.value.code == "unsigned_bundle"
    finally:
        places.close()
    signed = type(bundle)(bundle.manifest, bundle.files, (sign_with_key(bundle.manifest, key),))
    load(Job.of("m", 1, signed, LIMITS, cores=2, trust=trust)).runtime.close()


def test_a_program_of_ones_own_is_refused_too(tmp_path: Path) -> None:
    """`Yard.load` goes by the home's policy."""
    with Yard.open(tmp_path / "home") as yard:
        publish(yard, 1.0)
        yard.load(Reference("sum", version=1)).close()
        yard.registry.policies.set(Policy(formats=("lightgbm",)), actor="me")
        with pytest.raises(Denied) as caught:
            yard.load(Reference("sum", version=1))
    assert caught.value.code == "format_not_allowed"
