"""What the v2 protocol tells of servers and models, beyond answering calls."""

from collections.abc import Iterable
from typing import Any

from modelyard.core.ports import Exchange, Listing, Served
from modelyard.core.signature import Column, TensorSpec

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""Triton's names of what is served beyond the protocol itself."""


def server_metadata(version: str) -> dict[str, Any]:
    """The body of `GET /v2`."""
    return {"name": "modelyard", "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(served: Served) -> dict[str, Any]:
    """The body of `GET /v2/models/{model}`: tensors as the protocol has them, columns beside."""
    signature = served.signature
    return {
        "name": served.model,
        "versions": [str(served.version)],
        "platform": served.platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        "parameters": {
            "task": signature.task,
            "batched": signature.batched,
            "digest": served.digest,
        },
    }


def repository_index(lines: Iterable[Listing], *, only_ready: bool = False) -> list[dict[str, Any]]:
    """The body of `/v2/repository/index`; all versions, or those that answer."""
    return [
        {
            "name": line.model,
            "version": str(line.version),
            "state": "READY" if line.ready else "UNAVAILABLE",
            "reason": line.reason,
        }
        for line in lines
        if line.ready or not only_ready
    ]


def v1_status(exchange: Exchange, served: Served, version: str | None) -> dict[str, Any]:
    """The body of `GET /v1/models/{model}`: TensorFlow Serving's status and KServe's in one.

    Sources: TensorFlow Serving, RESTful API, "Model status API"; KServe, v1 protocol.
    """
    lines = [
        line
        for line in exchange.listings()
        if line.model == served.model and version in (None, str(line.version))
    ]
    return {
        "name": served.model,
        "ready": True,
        "model_version_status": [
            {
                "version": str(line.version),
                "state": "AVAILABLE" if line.ready else "END",
                "status": {
                    "error_code": "OK" if line.ready else "UNAVAILABLE",
                    "error_message": line.reason,
                },
            }
            for line in lines
        ],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    tensor: dict[str, Any] = {
        "name": spec.name,
        "datatype": spec.datatype.value,
        "shape": list(spec.shape),
    }
    if spec.columns:
        tensor["parameters"] = {"columns": [_column(column) for column in spec.columns]}
    return tensor


def _column(column: Column) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": column.name,
        "datatype": column.datatype.value,
        "nullable": column.nullable,
    }
    if column.categories is not None:
        described["categories"] = list(column.categories)
        described["open_categories"] = column.open_categories
    if column.unit is not None:
        described["unit"] = column.unit
    return described
