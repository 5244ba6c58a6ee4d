"""What Triton's extensions tell of models: their statistics, and their configuration.

Sources: Triton, statistics extension and model configuration extension.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Served, ServedStatistics, Spent
from modelyard.core.signature import TensorSpec

_TYPES: Final[Mapping[Datatype, str]] = {
    datatype: f"TYPE_{datatype}" for datatype in Datatype if datatype is not Datatype.BYTES
} | {Datatype.BYTES: "TYPE_STRING"}


def model_stats(versions: Iterable[ServedStatistics]) -> dict[str, Any]:
    """The body of `/v2/models/stats`; reading inputs and writing outputs count as computing."""
    return {"model_stats": [_version(each) for each in versions]}


def model_config(served: Served) -> dict[str, Any]:
    """The body of `/v2/models/{model}/config`: what clients look up there before they call.

    `max_batch_size` is 0 in Triton's sense: the batch is not left out of the shapes.
    """
    return {
        "name": served.model,
        "platform": served.platform,
        "backend": served.platform.partition("_")[0],
        "version_policy": {"specific": {"versions": [served.version]}},
        "max_batch_size": 0,
        "input": _tensors(served.signature.inputs),
        "output": _tensors(served.signature.outputs),
        "model_transaction_policy": {"decoupled": False},
    }


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": list(spec.shape)}
        for spec in specs
    ]


def _version(each: ServedStatistics) -> dict[str, Any]:
    batches = sorted(each.batches.items())
    return {
        "name": each.model,
        "version": str(each.version),
        "last_inference": each.last_ms,
        "inference_count": each.rows,
        "execution_count": sum(spent.count for _, spent in batches),
        "inference_stats": {
            "success": _duration(each.success),
            "fail": _duration(each.fail),
            "queue": _duration(each.queue),
            **_compute(each.compute),
            "cache_hit": _duration(each.cache_hit),
        },
        "batch_stats": [{"batch_size": rows, **_compute(spent)} for rows, spent in batches],
    }


def _compute(spent: Spent) -> dict[str, Any]:
    apart = _duration(Spent(spent.count, 0))
    return {
        "compute_input": apart,
        "compute_infer": _duration(spent),
        "compute_output": apart,
    }


def _duration(spent: Spent) -> dict[str, int]:
    return {"count": spent.count, "ns": spent.ns}
