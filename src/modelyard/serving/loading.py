"""How a version is loaded, wherever it runs: verify, check trust, construct, warm up."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from modelyard import __version__
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.encryption import SealedFile
from modelyard.bundle.keyring import Keyring
from modelyard.bundle.manifest import Manifest
from modelyard.bundle.samples import Samples, decode_samples
from modelyard.bundle.trust import ANYTHING, EXTERNAL_DATA, Trust, check_policy
from modelyard.core.ports import File, Runtime
from modelyard.runtimes.open import open_runtime, platform_of
from modelyard.serving.cost import BatchCost
from modelyard.serving.endpoint import Identity
from modelyard.serving.scheduler import Limits, Scheduler
from modelyard.serving.statistics import Statistics
from modelyard.serving.warmup import probe_us, warm_up

_HEAVY_US: Final = 2000.0
"""From here on a row is worth the wake-up of other threads."""
_MOST_THREADS: Final = 8
"""Past so many, one row of one model keeps few of them busy."""
_TWICE_BYTES: Final = 128 * 1024 * 1024
"""Up to this size a heavy model's weights may be in memory twice."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A version to serve, where its files lie, and how to serve it. Travels between processes.

    Of its `files` those of the paths in `sealed` are encrypted, with a key that `encryption_key`
    says where to find: the key itself does not travel. `trust` is what the home's policy demands of
    the bundle, `signatures` are what it has to show. `threads` are those of one run; with 0 a heavy
    model takes as many as there are `cores`.
    """

    model: str
    version: int
    manifest: bytes
    files: dict[str, str]
    limits: Limits
    cores: int
    threads: int = 0
    sealed: tuple[str, ...] = ()
    encryption_key: str = ""
    trust: Trust = ANYTHING
    signatures: tuple[bytes, ...] = ()

    @staticmethod
    def of(
        model: str,
        version: int,
        bundle: Bundle,
        limits: Limits,
        *,
        cores: int,
        threads: int = 0,
        trust: Trust = ANYTHING,
    ) -> "Job":
        """The job of serving a bundle whose files are local."""
        places = {path: _place(file) for path, file in bundle.files.items()}
        sealed = {path: file for path, file in bundle.files.items() if isinstance(file, SealedFile)}
        return Job(
            model=model,
            version=version,
            manifest=bundle.manifest.encode(),
            files={path: str(place.absolute()) for path, place in places.items()},
            sealed=tuple(sorted(sealed)),
            encryption_key=next((file.keys.source for file in sealed.values()), ""),
            limits=limits,
            cores=cores,
            threads=threads,
            trust=trust,
            signatures=bundle.signatures if trust.require_signature else (),
        )

    @staticmethod
    def decode(data: bytes) -> "Job":
        """Read what `encode` wrote."""
        return _DECODER.decode(data)

    def encode(self) -> bytes:
        """The job as bytes; equal jobs give equal bytes."""
        return _ENCODER.encode(self)

    @property
    def name(self) -> str:
        """`model:version`."""
        return f"{self.model}:{self.version}"

    @property
    def key(self) -> str:
        """Equal for jobs that one process can do: the same bundle, options and code."""
        return hashlib.sha256(self.encode() + __version__.encode()).hexdigest()

    def identity(self) -> Identity:
        """The version as protocols show it; reads the bundle's samples."""
        bundle = self.bundle()
        samples = read_samples(bundle)
        return Identity(
            model=self.model,
            version=self.version,
            digest=bundle.digest,
            platform=platform_of(bundle.manifest.serving.format),
            signature=bundle.manifest.signature,
            sample=samples.inputs if samples else None,
        )

    def check_policy(self) -> None:
        """Refuse a bundle that the home's policy does not let in; raises `Denied`."""
        check_policy(Manifest.decode(self.manifest), self.signatures, self.trust)

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that the bundle wants of its own."""
        return Manifest.decode(self.manifest).serving.packages

    @property
    def size_bytes(self) -> int:
        """The size of what a runtime holds in memory: the file that answers, and its weights."""
        manifest = Manifest.decode(self.manifest)
        return sum(
            file.size
            for file in manifest.files
            if file.path == manifest.serving.path or file.media_type == EXTERNAL_DATA
        )

    def bundle(self) -> Bundle:
        """The bundle; its files are not verified yet."""
        keys = _keyring(self.encryption_key)
        files: dict[str, File] = {path: Path(file) for path, file in self.files.items()}
        files |= {path: SealedFile(Path(self.files[path]), keys) for path in self.sealed}
        return Bundle(Manifest.decode(self.manifest), files)


# One for each source: asking it may cost the start of a program.
_keyring: Final = cache(Keyring)


def _place(file: File) -> Path:
    """Where a file lies on this machine's disks."""
    if isinstance(file, SealedFile):
        return file.path
    if isinstance(file, Path):
        return file
    raise TypeError(f"a bundle's file is a {type(file).__name__}, which no other process can open")


_ENCODER: Final = msgspec.msgpack.Encoder(order="sorted")
_DECODER: Final = msgspec.msgpack.Decoder(Job)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runtime that has answered its samples as recorded, and what its batches cost.

    `row_us` is what a batch of one row costs, in microseconds; None where nothing was measured.
    `wide` is the same model with all cores for one run, for a call that is alone.
    """

    job: Job
    runtime: Runtime
    cost: BatchCost
    row_us: float | None
    wide: Runtime | None = None

    def scheduler(self, statistics: Statistics) -> Scheduler:
        """What runs its calls in this process."""
        return Scheduler(
            self.job.name,
            self.runtime,
            self.cost,
            self.job.limits,
            statistics,
            wide=self.wide,
        )


def load(job: Job) -> Loaded:
    """Load a version. Blocks; raises whatever verifying, trusting or constructing it raises.

    A light model is opened with one thread a run: others cost it more than they bring. Of a heavy
    one, a lone call wants all cores, and many calls want one each: it is opened twice, and where
    its weights are too large for that, once with all cores for one run after the other.
    """
    loaded = load_as_light(job)
    if job.threads or job.cores == 1 or (loaded.row_us or 0.0) < _HEAVY_US:
        return loaded
    threads = min(job.cores, _MOST_THREADS)
    if job.size_bytes <= _TWICE_BYTES:
        return replace(loaded, wide=_open(job, threads).runtime)
    # Closed first: the weights may fit into memory only once.
    loaded.runtime.close()
    del loaded
    if job.limits.lanes == job.cores:
        limits = replace(job.limits, lanes=max(1, job.cores // threads))
        job = msgspec.structs.replace(job, limits=limits)
    return _open(job, threads)


def load_as_light(job: Job) -> Loaded:
    """Load a version with one thread a run, unless the operator wants more."""
    job.bundle().verify()
    job.check_policy()
    return _open(job, job.threads or 1)


def _open(job: Job, threads: int) -> Loaded:
    bundle = job.bundle()
    samples = read_samples(bundle)
    runtime = open_runtime(bundle, threads=threads)
    try:
        cost = warm_up(runtime, samples)
        row_us = cost.estimate_us(1) if cost.is_known else probe_us(runtime)
        return Loaded(job, runtime, cost, row_us)
    except BaseException:
        runtime.close()
        raise


def read_samples(bundle: Bundle) -> Samples | None:
    """The bundle's sample rows with their recorded answers, verified; None where it has none."""
    path = bundle.manifest.samples
    return decode_samples(bundle.read(path)) if path else None
