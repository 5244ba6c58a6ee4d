"""What a cloud's container contract says in environment variables, as settings of ours.

Sources: Google Vertex AI, "Custom container requirements": `AIP_HTTP_PORT`, `AIP_HEALTH_ROUTE` and
`AIP_PREDICT_ROUTE`, on 0.0.0.0. Amazon SageMaker, multi-container and multi-model endpoints:
`SAGEMAKER_BIND_TO_PORT`; else port 8080, as ours. Azure ML inference HTTP server: `WORKER_COUNT`,
and port 5001, where `AZUREML_MODEL_DIR` says that it is Azure's container.
"""

from collections.abc import Mapping
from typing import Final

_VERTEX: Final = {
    "AIP_HTTP_PORT": "port",
    "AIP_HEALTH_ROUTE": "health_route",
    "AIP_PREDICT_ROUTE": "predict_route",
}
_SAGEMAKER: Final = {"SAGEMAKER_BIND_TO_PORT": "port"}
_AZURE: Final = {"WORKER_COUNT": "workers"}
_AZURE_PORT: Final = "5001"
_EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - the contract; the cloud's front is the only caller


def container_settings(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Settings that a cloud's variables ask for: each with its value and where it was set.

    Empty outside a cloud's container. In one, the node listens on every address of it, and the
    cloud's front, which asks callers who they are, needs no key.
    """
    found: dict[str, tuple[str, str]] = {}
    if environ.get("AZUREML_MODEL_DIR"):
        found["port"] = _AZURE_PORT, "AZUREML_MODEL_DIR"
        found |= _named(_AZURE, environ)
    found |= _named(_SAGEMAKER, environ)
    if environ.get("AIP_HTTP_PORT"):
        found |= _named(_VERTEX, environ)
    if found:
        found["host"] = _EVERY_ADDRESS, found["port"][1]
        found["fronted"] = "true", found["port"][1]
    return found


def _named(names: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        setting: (environ[variable], variable)
        for variable, setting in names.items()
        if environ.get(variable)
    }
