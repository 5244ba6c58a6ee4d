"""How a node loads a version: find it a place, and make an endpoint of what runs there."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from modelyard.bundle.trust import Trust
from modelyard.core.config import Config
from modelyard.core.errors import UntrustedFormat
from modelyard.core.ports import Gate
from modelyard.core.route import Options
from modelyard.core.signature import Signature
from modelyard.wiring.machine import release_memory, usable_cores
from modelyard.wiring.remembered import RememberedRegistry

if TYPE_CHECKING:
    from modelyard.serving.backend import Backend
    from modelyard.serving.endpoint import Endpoint
    from modelyard.serving.loading import Job
    from modelyard.serving.places import Places, There
    from modelyard.serving.statistics import Statistics

_NODE_WIDE: Final = Options()
_WELCOME_S: Final = 30.0


class OpenEndpoint(Protocol):
    """Loads a version as its route's options say. Blocks; raises whatever loading raises."""

    def __call__(self, model: str, number: int, options: Options = ...) -> "Endpoint":
        """The endpoint, warmed up."""
        ...


def endpoint_opener(
    config: Config, registry: RememberedRegistry, gate: Gate, places: "Places", *, workers: int
) -> OpenEndpoint:
    """How a node of so many workers loads a version. Called on the loop that its calls come on."""
    return _Opener(config, registry, gate, places, workers).open


class _Opener:
    def __init__(
        self,
        config: Config,
        registry: RememberedRegistry,
        gate: Gate,
        places: "Places",
        workers: int,
    ) -> None:
        self._config = config
        self._registry = registry
        self._gate = gate
        self._places = places
        self._workers = workers
        self._loop = asyncio.get_running_loop()

    def open(self, model: str, number: int, options: Options = _NODE_WIDE) -> "Endpoint":
        """The endpoint of a version, warmed up."""
        from modelyard.serving.endpoint import Endpoint
        from modelyard.serving.statistics import Statistics

        job = self._job(model, number, options)
        # Asked again where the version is loaded, but here before anything of it is read.
        job.check_policy()
        identity = job.identity()
        statistics = Statistics()
        backend = self._backend(job, identity.signature, options, statistics)
        return Endpoint(
            identity,
            backend,
            self._gate,
            statistics,
            timeout_ms=options.timeout_ms,
            cache_bytes=options.cache_bytes,
        )

    def _job(self, model: str, number: int, options: Options) -> "Job":
        from modelyard.serving.loading import Job
        from modelyard.serving.scheduler import Limits

        cores = usable_cores()
        limits = Limits.of(self._config, options, cores)
        bundle = self._registry.bundle(model, number)
        _check_packages(bundle.manifest.serving.packages, trusted=self._config.trust_packages)
        threads = options.threads or self._config.threads
        trust = Trust.of(self._registry.policy())
        return Job.of(model, number, bundle, limits, cores=cores, threads=threads, trust=trust)

    def _backend(
        self, job: "Job", signature: Signature, options: Options, statistics: "Statistics"
    ) -> "Backend":
        """Where the version is cheapest: in this worker, or in a process that all workers share.

        One that is pinned, isolated or large goes to a process unseen. Any other goes where the
        first worker that measured it found that it belongs, or is measured now.
        """
        from modelyard.serving.loading import load, load_as_light
        from modelyard.serving.places import Question, There

        place = options.place or self._config.place
        isolation = options.isolation or self._config.isolation
        must = isolation == "process" or place == "process" or bool(job.packages)
        if not must and (place == "worker" or self._workers == 1):
            loaded = load(job)
            release_memory()
            return loaded.scheduler(statistics)
        large = job.size_bytes > self._config.process_bytes
        asked = Question(
            name=job.name,
            key=job.key,
            job=job.encode(),
            packages=job.packages,
            must=must or large,
        )
        placement = self._places.find(asked)
        if isinstance(placement, There):
            return self._remote(job, signature, placement, statistics)
        loaded = load_as_light(job)
        placement = self._places.find(asked.measured(loaded.row_us))
        if isinstance(placement, There):
            loaded.runtime.close()
            del loaded
            release_memory()
            return self._remote(job, signature, placement, statistics)
        return loaded.scheduler(statistics)

    def _remote(
        self, job: "Job", signature: Signature, placement: "There", statistics: "Statistics"
    ) -> "Backend":
        from modelyard.serving.process.backend import RemoteBackend

        limits = job.limits
        backend = RemoteBackend(
            self._loop,
            job.name,
            placement.path,
            signature,
            2 * limits.queue_rows,
            statistics,
            lambda: self._places.leave(placement.lease),
            most_bytes=2 * limits.queue_bytes,
        )
        backend.open(_WELCOME_S)
        return backend


def _check_packages(packages: Sequence[str], *, trusted: bool) -> None:
    if packages and not trusted:
        raise UntrustedFormat(
            "untrusted_packages",
            f"the bundle brings packages of its own ({', '.join(packages):.200}), whose code would "
            "run here; if you trust it, set 'trust_packages'",
            field="packages",
        )
