"""How a node loads a version: verify, check trust, construct, warm up."""

from typing import TYPE_CHECKING, Protocol

from modelyard.core.config import Config
from modelyard.core.names import Reference
from modelyard.core.ports import Gate
from modelyard.core.route import Options
from modelyard.registry.registry import Registry
from modelyard.wiring.machine import usable_cores

if TYPE_CHECKING:
    from modelyard.serving.endpoint import Endpoint

_NODE_WIDE = Options()


class OpenEndpoint(Protocol):
    """Loads a version as its route's options say. Blocks; raises whatever loading raises."""

    def __call__(self, model: str, number: int, options: Options = ...) -> "Endpoint":
        """The endpoint, warmed up."""
        ...


def endpoint_opener(config: Config, registry: Registry, gate: Gate) -> OpenEndpoint:
    """How a node loads a version: verify, check trust, construct, warm up. Blocks; raises."""
    from modelyard.bundle.samples import decode_samples
    from modelyard.runtimes.open import open_runtime, platform_of
    from modelyard.serving.endpoint import Endpoint, Identity
    from modelyard.serving.scheduler import Limits, Scheduler
    from modelyard.serving.statistics import Statistics
    from modelyard.serving.warmup import warm_up

    def open_endpoint(model: str, number: int, options: Options = _NODE_WIDE) -> "Endpoint":
        limits = Limits(
            queue_rows=options.queue_rows or config.queue_rows,
            max_batch_rows=options.max_batch_rows or config.max_batch_rows,
            inline_us=config.inline_us if options.inline_us is None else options.inline_us,
            lanes=options.lanes or config.lanes or usable_cores(),
        )
        version = registry.resolve(Reference(model, version=number))
        bundle = registry.bundle(version)
        bundle.verify()
        manifest = bundle.manifest
        samples = decode_samples(bundle.read(manifest.samples)) if manifest.samples else None
        runtime = open_runtime(bundle)
        identity = Identity(
            model=model,
            version=number,
            digest=bundle.digest,
            platform=platform_of(manifest.serving.format),
            signature=runtime.signature,
            sample=samples.inputs if samples else None,
        )
        statistics = Statistics()
        try:
            cost = warm_up(runtime, samples)
        except BaseException:
            runtime.close()
            raise
        backend = Scheduler(f"{model}:{number}", runtime, cost, limits, statistics)
        return Endpoint(identity, backend, gate, statistics)

    return open_endpoint
