"""Models in processes of their own: same answers, own crashes."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import ModelyardError
from modelyard.core.signature import Signature
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.loading import Job, load
from modelyard.serving.places import Here, LocalPlaces, Question, There
from modelyard.serving.process.backend import RemoteBackend
from modelyard.serving.scheduler import Limits
from modelyard.serving.statistics import Statistics
from modelyard.wiring.model_process import command
from tests.graphs import TURNS_A_SECOND, bundle_of, double, echo, slow

LIMITS = Limits(queue_rows=1000, max_batch_rows=64, inline_us=300, lanes=2)
FOR_EVER = float(1000 * TURNS_A_SECOND)


@dataclass
class Rig:
    """A node's places, and endpoints as its workers have them."""

    folder: Path
    places: LocalPlaces
    gate: OpenGate = field(default_factory=OpenGate)
    endpoints: list[Endpoint] = field(default_factory=list)

    def job(
        self, made: tuple[onnx.ModelProto, Signature], name: str = "m", limits: Limits = LIMITS
    ) -> Job:
        bundle = bundle_of(self.folder / name, *made)
        return Job.of(name, 1, bundle, limits, cores=2)

    async def find(self, job: Job) -> There:
        question = Question(
            name=job.name, key=job.key, job=job.encode(), packages=job.packages, must=True
        )
        there = await asyncio.to_thread(self.places.find, question)
        assert isinstance(there, There)
        return there

    async def endpoint(self, job: Job) -> Endpoint:
        """A worker's endpoint of the version."""
        there = await self.find(job)
        statistics = Statistics()
        backend = RemoteBackend(
            asyncio.get_running_loop(),
            job.name,
            there.path,
            job.identity().signature,
            2 * job.limits.queue_rows,
            statistics,
            lambda: self.places.leave(there.lease),
        )
        await asyncio.to_thread(backend.open, 30)
        endpoint = Endpoint(job.identity(), backend, self.gate, statistics)
        self.endpoints.append(endpoint)
        return endpoint

    def pid(self, name: str = "m:1") -> int:
        """Of the process of a model."""
        (report,) = [each for each in self.places.report() if each.name == name]
        assert report.pid is not None
        return report.pid

    async def close(self) -> None:
        for endpoint in self.endpoints:
            closed = asyncio.Event()
            endpoint.retire(closed.set)
            await closed.wait()


def ask(endpoint: Endpoint, inputs: dict[str, Array], **more: Any) -> "asyncio.Future[Call]":
    """Submit as an exchange does; the future is told how the call ended."""
    ended: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    rows = len(next(iter(inputs.values())))
    call = Call(endpoint, inputs, rows, ended.set_result, **more)
    try:
        endpoint.accept(call)
    except ModelyardError as error:
        call.fail(error)
    ended.call = call  # type: ignore[attr-defined]
    return ended


def row(number: float) -> dict[str, Array]:
    return {"x": np.array([[number]], np.float32)}


async def until(is_so: Callable[[], bool]) -> None:
    """Until something is so; the test's time limit bounds it."""
    while not is_so():
        await asyncio.sleep(0.002)


Test = Callable[[Rig], Coroutine[Any, Any, None]]
Runs = Callable[[Test], None]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Runs a test on a loop, and ends every process it has started."""

    @contextlib.asynccontextmanager
    async def rig() -> AsyncIterator[Rig]:
        places = LocalPlaces(command, tmp_path / "environments", process_us=1000)
        made = Rig(tmp_path, places)
        try:
            yield made
            await made.close()
        finally:
            await asyncio.to_thread(places.close)

    async def run(test: Test) -> None:
        async with asyncio.timeout(60), rig() as made:
            await test(made)

    return lambda test: asyncio.run(run(test))


def sample_of(datatype: Datatype, rows: int) -> Array:
    random = np.random.default_rng(rows)
    if datatype is Datatype.BYTES:
        words = np.array(["", "plain", "Übermut 漢字", "nul\0inside", "x" * 1000], object)
        return words[random.integers(0, len(words), (rows, 2))]
    if datatype is Datatype.BOOL:
        return random.integers(0, 2, (rows, 2)).astype(np.bool_)
    if datatype.is_float:
        array = random.standard_normal((rows, 2)).astype(datatype.dtype)
        array[: rows // 2, 0] = np.nan
        return array
    limits = np.iinfo(datatype.dtype)
    return random.integers(limits.min, limits.max, (rows, 2), datatype.dtype, endpoint=True)


@pytest.mark.parametrize("rows", [0, 1, 7, 20_000])
def test_every_datatype_answers_as_it_does_here(runs: Runs, rows: int) -> None:
    """Tensors of every datatype, empty, small and large, come back bit for bit the same."""

    async def test(rig: Rig) -> None:
        job = rig.job(echo())
        inputs = {f"in_{each}": sample_of(each, rows) for each in Datatype}
        loaded = load(job)
        wanted = loaded.runtime.run(inputs)
        call = await ask(await rig.endpoint(job), inputs)
        assert call.outcome is Outcome.OK, call.error
        assert call.outputs is not None
        assert call.outputs.keys() == wanted.keys()
        for name, array in call.outputs.items():
            assert array.dtype == wanted[name].dtype
            np.testing.assert_array_equal(array, wanted[name])

    runs(test)


def test_tensors_larger_than_the_shared_memory(runs: Runs) -> None:
    """Two calls of 100 MB at once are answered, the one that finds no room by the socket."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(double(columns=25_000_000)))
        arrays = [np.full((1, 25_000_000), number, np.float32) for number in (1, 2)]
        calls = await asyncio.gather(*(ask(endpoint, {"x": each}) for each in arrays))
        for call, array in zip(calls, arrays, strict=True):
            assert call.outputs is not None, call.error
            np.testing.assert_array_equal(call.outputs["y"], 2 * array)

    runs(test)


def test_calls_of_all_workers_share_one_queue_and_one_batch(runs: Runs) -> None:
    """Two workers find the same process, and what waits for it is run together."""

    async def test(rig: Rig) -> None:
        job = rig.job(slow())
        workers = [await rig.endpoint(job) for _ in range(2)]
        assert len(rig.places.report()) == 1
        assert rig.places.report()[0].users == 2
        busy = [ask(workers[0], row(TURNS_A_SECOND / 20)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = [ask(workers[each % 2], row(each)) for each in range(20)]
        for number, ended in enumerate(waiting):
            call = await ended
            assert call.outputs is not None, call.error
            assert call.outputs["y"].tolist() == [[number]]
        await asyncio.gather(*busy)
        batches = [each.statistics.report().batches for each in workers]
        rows = sum(rows * count for each in batches for rows, (count, _) in each.items())
        assert rows == 22, "every batch is counted by one worker"
        assert sum(count for each in batches for count, _ in each.values()) < 22

    runs(test)


def test_a_killed_process_costs_what_it_held_and_nothing_else(runs: Runs) -> None:
    """Calls that it held fail with a 503 that says so; the next wait for it; others never fail."""

    async def test(rig: Rig) -> None:
        broken = await rig.endpoint(rig.job(slow(), "broken"))
        sound = await rig.endpoint(rig.job(double(), "sound"))
        held = [ask(broken, row(FOR_EVER)) for _ in range(10)]
        stop = asyncio.Event()

        async def keep_asking() -> int:
            count = 0
            while not stop.is_set():
                assert (await ask(sound, row(1))).outcome is Outcome.OK
                count += 1
            return count

        others = asyncio.ensure_future(keep_asking())
        await until(lambda: psutil.Process(rig.pid("broken:1")).cpu_times().user > 0.5)
        os.kill(rig.pid("broken:1"), signal.SIGKILL)
        for ended in held:
            call = await ended
            assert call.error is not None
            assert call.error.code == "model_process_died"
            assert call.error.retry_after_s
        assert broken.trouble is not None
        waiting = [ask(broken, row(number)) for number in range(10)]
        waiting[3].call.cancel()  # type: ignore[attr-defined]
        outcomes = [(await ended).outcome for ended in waiting]
        assert outcomes == [Outcome.OK] * 3 + [Outcome.CANCELLED] + [Outcome.OK] * 6
        assert broken.trouble is None
        assert broken.open_calls == 0
        stop.set()
        assert await others > 0
        assert [each.restarts for each in rig.places.report() if each.name == "broken:1"] == [1]

    runs(test)


def test_a_process_that_does_not_come_back_is_not_waited_for(runs: Runs) -> None:
    """Calls wait some seconds for it; then they are refused, and those that follow at once."""

    async def test(rig: Rig) -> None:
        job = rig.job(double())
        endpoint = await rig.endpoint(job)
        Path(job.files["model.onnx"]).write_bytes(b"something else")
        os.kill(rig.pid(), signal.SIGKILL)
        await until(lambda: endpoint.trouble is not None)
        waiting = ask(endpoint, row(1))
        late = ask(endpoint, row(1), deadline_ns=time.monotonic_ns() + 20_000_000)
        assert (await late).outcome is Outcome.TIMEOUT
        assert not waiting.done()
        for ended in (waiting, ask(endpoint, row(2))):
            call = await ended
            assert call.error is not None
            assert call.error.code == "model_process_died"
        refused = ask(endpoint, row(3))
        assert refused.done()
        assert endpoint.open_calls == 0

    runs(test)


def test_a_process_that_dies_again_and_again_comes_back(runs: Runs) -> None:
    """Three kills in a row are three restarts, the later ones after a pause."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(double()))
        for restarts in (1, 2, 3):
            os.kill(rig.pid(), signal.SIGKILL)
            await until(lambda: endpoint.trouble is not None)
            await until(lambda: endpoint.trouble is None)
            assert (await ask(endpoint, row(1))).outcome is Outcome.OK
            assert rig.places.report()[0].restarts == restarts

    runs(test)


def test_one_of_many_is_cancelled_and_one_is_late(runs: Runs) -> None:
    """A call that is cancelled, or past its deadline, leaves the queue; the others answer."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(slow()))
        busy = [ask(endpoint, row(TURNS_A_SECOND / 10)) for _ in range(2)]
        await asyncio.sleep(0.01)
        soon_ns = time.monotonic_ns() + 20_000_000
        never = ask(endpoint, row(FOR_EVER))
        late = ask(endpoint, row(FOR_EVER), deadline_ns=soon_ns)
        others = [ask(endpoint, row(number)) for number in range(8)]
        await asyncio.sleep(0)
        never.call.cancel()  # type: ignore[attr-defined]
        assert (await never).outcome is Outcome.CANCELLED
        assert (await late).outcome is Outcome.TIMEOUT
        for ended in (*others, *busy):
            assert (await ended).outcome is Outcome.OK
        assert endpoint.open_calls == 0

    runs(test)


def test_the_bound_of_the_queue_holds_for_all_workers(runs: Runs) -> None:
    """What one worker queued is in the way of another's call, which is refused at once."""

    async def test(rig: Rig) -> None:
        limits = Limits(queue_rows=8, max_batch_rows=1, inline_us=0, lanes=1)
        job = rig.job(slow(), limits=limits)
        first, second = await rig.endpoint(job), await rig.endpoint(job)
        threads = psutil.Process(rig.pid()).num_threads()
        busy = [ask(first, row(TURNS_A_SECOND / 5))]
        await until(lambda: psutil.Process(rig.pid()).num_threads() > threads)
        busy += [ask(first, row(0)) for _ in range(8)]
        # On the same socket as theirs: when it is answered, they have been taken in.
        last = await ask(first, row(0))
        assert last.outcome is Outcome.REFUSED
        refused = await ask(second, row(1))
        assert refused.error is not None
        assert refused.error.code == "queue_full"
        assert {call.outcome for call in await asyncio.gather(*busy)} == {Outcome.OK}
        assert (await ask(second, row(1))).outcome is Outcome.OK

    runs(test)


def test_a_wrong_input_is_the_callers_fault_there_too(runs: Runs) -> None:
    """What the model refuses comes back with its own code, and the others of the batch answer."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(slow()))
        calls = [ask(endpoint, row(number)) for number in range(3)]
        wrong = ask(endpoint, {"x": np.zeros((0, 1), np.float32)})
        for ended in calls:
            assert (await ended).outcome is Outcome.OK
        call = await wrong
        assert call.outcome in (Outcome.OK, Outcome.REFUSED), call.error

    runs(test)


def test_ten_thousand_large_calls_leave_nothing_behind(runs: Runs) -> None:
    """Shared memory, descriptors and the process's own memory do not grow with traffic."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(double(columns=10_000)))
        child = psutil.Process(rig.pid())
        inputs = {"x": np.ones((1, 10_000), np.float32)}

        async def round_of(calls: int) -> None:
            for _ in range(calls // 20):
                for call in await asyncio.gather(*(ask(endpoint, inputs) for _ in range(20))):
                    assert call.outcome is Outcome.OK

        await round_of(1000)
        fds, memory = child.num_fds(), child.memory_info().rss
        await round_of(10_000)
        assert child.num_fds() == fds
        assert child.memory_info().rss < memory + 20_000_000

    runs(test)


def test_nothing_is_left_when_the_last_has_left(runs: Runs) -> None:
    """Processes, sockets' folders and descriptors are gone with the last endpoint."""

    async def test(rig: Rig) -> None:
        await (await asyncio.create_subprocess_exec("true")).wait()
        fds = psutil.Process().num_fds()
        for _ in range(3):
            job = rig.job(double(), "leaving") if not rig.endpoints else job  # noqa: F821
            endpoints = [await rig.endpoint(job) for _ in range(2)]
            pid = rig.places.report()[0].pid
            assert pid is not None
            assert (await ask(endpoints[0], row(1))).outcome is Outcome.OK
            endpoints[0].retire()
            assert (await ask(endpoints[1], row(1))).outcome is Outcome.OK
            endpoints[1].retire()
            await until(lambda pid=pid: not psutil.pid_exists(pid))  # type: ignore[misc]
        rig.endpoints.clear()
        await until(lambda: psutil.Process().num_fds() <= fds)

    runs(test)


def test_a_version_that_cannot_be_loaded_says_why(runs: Runs) -> None:
    """What goes wrong in the process is the error of who asked for it, and no process stays."""

    async def test(rig: Rig) -> None:
        job = rig.job(double())
        Path(job.files["model.onnx"]).write_bytes(b"something else")
        with pytest.raises(ModelyardError) as caught:
            await rig.find(job)
        assert caught.value.code == "damaged_bundle"
        assert rig.places.report() == []

    runs(test)


def test_the_first_who_measures_decides_for_all(tmp_path: Path) -> None:
    """A version that is light for one worker is not heavy for the next."""
    places = LocalPlaces(command, tmp_path, process_us=1000)
    light = Question(name="m:1", key="light", job=b"")
    assert places.find(light) == Here()
    assert places.find(light.measured(900.0)) == Here()
    assert places.find(light.measured(1100.0)) == Here()
    places.close()


def test_what_waits_for_a_process_has_a_bound_in_bytes(runs: Runs) -> None:
    """Large calls to a process that does not take them are refused, before memory runs out."""

    async def test(rig: Rig) -> None:
        job = rig.job(double(columns=1000))
        there = await rig.find(job)
        backend = RemoteBackend(
            asyncio.get_running_loop(),
            job.name,
            there.path,
            job.identity().signature,
            1000,
            statistics := Statistics(),
            lambda: rig.places.leave(there.lease),
            most_bytes=10_000,
        )
        await asyncio.to_thread(backend.open, 30)
        endpoint = Endpoint(job.identity(), backend, rig.gate, statistics)
        rig.endpoints.append(endpoint)
        inputs = {"x": np.ones((1, 1000), np.float32)}
        for _ in range(2):
            calls = await asyncio.gather(*(ask(endpoint, inputs) for _ in range(4)))
            codes = [None if call.error is None else call.error.code for call in calls]
            assert codes == [None, None, "queue_full", "queue_full"]

    runs(test)


def test_a_process_that_hangs_is_started_again(tmp_path: Path) -> None:
    """Its callers get 503 when it is killed, and the next process answers."""

    async def test() -> None:
        places = LocalPlaces(command, tmp_path / "environments", process_us=1000, hang_s=1.0)
        rig = Rig(tmp_path, places)
        try:
            endpoint = await rig.endpoint(rig.job(double()))
            # Longer than it may hang: one that answers when it is asked is left alone.
            await asyncio.sleep(1.5)
            pid = rig.pid()
            os.kill(pid, signal.SIGSTOP)
            call = await ask(endpoint, row(1))
            assert call.error is not None
            assert call.error.code == "model_process_died"
            await until(lambda: endpoint.trouble is None)
            assert (await ask(endpoint, row(1))).outcome is Outcome.OK
            assert rig.pid() != pid
            await rig.close()
        finally:
            await asyncio.to_thread(places.close)

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_a_process_outlives_its_terminal(runs: Runs) -> None:
    """SIGHUP goes to all of a terminal's processes; whose end it means, the owner decides."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(double()))
        pid = rig.pid()
        os.kill(pid, signal.SIGHUP)
        for number in range(20):
            assert (await ask(endpoint, row(number))).outcome is Outcome.OK
        assert rig.pid() == pid

    runs(test)


@pytest.mark.parametrize("told", [2**70, "\ud800"])
def test_a_call_that_cannot_be_sent_fails_alone(
    runs: Runs, told: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls of the same turn are answered, and the process is none the wiser."""

    async def test(rig: Rig) -> None:
        endpoint = await rig.endpoint(rig.job(double()))
        before = ask(endpoint, row(1))
        guilty = ask(endpoint, row(2), parameters={"told": told})
        after = ask(endpoint, row(3))
        error = (await guilty).error
        assert error is not None
        assert error.code == "unsendable"
        for ended, wanted in ((before, 2), (after, 6)):
            outputs = (await ended).outputs
            assert outputs is not None
            assert outputs["y"].tolist() == [[wanted]]
        assert endpoint.open_calls == 0

    runs(test)


def with_packages(job: Job, *packages: str) -> Job:
    bundle = job.bundle().asking_for(packages)
    return Job.of(job.model, job.version, bundle, job.limits, cores=job.cores)


def test_a_bundle_has_its_own_packages(runs: Runs) -> None:
    """A process sees the version that its bundle asks for, while the server has another."""

    async def test(rig: Rig) -> None:
        job = with_packages(rig.job(double()), "iniconfig==2.0.0")
        assert version("iniconfig") != "2.0.0"
        endpoint = await rig.endpoint(job)
        assert rig.places.report()[0].packages == {"iniconfig": "2.0.0"}
        assert (await ask(endpoint, row(1))).outcome is Outcome.OK
        environments = rig.folder / "environments"
        python = Path(psutil.Process(rig.pid()).cmdline()[0])
        assert python.is_relative_to(environments)
        made = sorted(environments.iterdir())
        assert len(made) == 2, "one environment and its lock; nothing half-built"
        # Another version of the model with the same needs: nothing is installed again.
        await rig.endpoint(with_packages(rig.job(slow(), "other"), "iniconfig==2.0.0"))
        assert sorted(environments.iterdir()) == made

    runs(test)


def test_packages_that_cannot_be_had_are_the_versions_reason(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip says is why the version is not served, and nothing half-made stays."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    async def test(rig: Rig) -> None:
        job = with_packages(rig.job(double()), "no-such-package-of-modelyard==1.0")
        with pytest.raises(ModelyardError, match="no-such-package-of-modelyard") as caught:
            await rig.find(job)
        assert caught.value.code == "no_environment"
        assert [each.suffix for each in (rig.folder / "environments").iterdir()] == [".lock"]
        assert rig.places.report() == []

    runs(test)


@pytest.mark.parametrize(
    "requirement",
    ["--index-url=x", "a @ https://x/a.whl", "../a", "a==1; x", "", "-e.", "a b", "a==1\n-r x"],
)
def test_a_requirement_is_a_name_and_versions(tmp_path: Path, requirement: str) -> None:
    """Options, addresses and paths are no requirements: they would say where code comes from."""
    with pytest.raises(ModelyardError) as caught:
        bundle_of(tmp_path / "b", *double()).asking_for([requirement])
    assert caught.value.code == "bad_manifest"
