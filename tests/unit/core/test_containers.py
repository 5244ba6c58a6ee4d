from pathlib import Path

import pytest

from modelyard.core.config import load_config
from modelyard.core.errors import Invalid

VERTEX = {
    "AIP_HTTP_PORT": "8090",
    "AIP_HEALTH_ROUTE": "/health",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
    "AIP_MODE": "PREDICTION",
    "AIP_STORAGE_URI": "gs://bucket/model",
}


def load(tmp_path: Path, **environ: str) -> tuple[str, int, str, str, int]:
    config = load_config({"home": tmp_path}, environ)
    return config.host, config.port, config.health_route, config.predict_route, config.workers


def test_outside_a_cloud_nothing_changes(tmp_path: Path) -> None:
    """Variables that are not the clouds' are nobody's."""
    assert load(tmp_path, SERVER_PORT="1", WORKER_COUNT="9") == ("127.0.0.1", 8080, "", "", 0)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        (VERTEX, ("0.0.0.0", 8090, "/health", "/v1/endpoints/1/deployedModels/2:predict", 0)),
        ({"SAGEMAKER_BIND_TO_PORT": "9000"}, ("0.0.0.0", 9000, "", "", 0)),
        ({"AZUREML_MODEL_DIR": "/m", "WORKER_COUNT": "2"}, ("0.0.0.0", 5001, "", "", 2)),
    ],
)
def test_a_clouds_variables_set_address_and_routes(
    tmp_path: Path, environ: dict[str, str], wanted: object
) -> None:
    """The node listens where its container's platform will look for it."""
    assert load(tmp_path, **environ) == wanted


def test_our_own_variables_hold_over_a_clouds_and_those_over_the_file(tmp_path: Path) -> None:
    """An operator's word is the last; a file baked into an image is not."""
    (tmp_path / "modelyard.toml").write_text("port = 7000\ndefault_model = 'churn'\n")
    assert load(tmp_path, **VERTEX)[:2] == ("0.0.0.0", 8090)
    ours = {"MODELYARD_PORT": "6000", "MODELYARD_HOST": "127.0.0.1"}
    assert load(tmp_path, **VERTEX, **ours)[:2] == ("127.0.0.1", 6000)


@pytest.mark.parametrize(
    ("variable", "value"), [("AIP_HTTP_PORT", "http"), ("AIP_HEALTH_ROUTE", "health")]
)
def test_a_value_that_cannot_be_is_refused(tmp_path: Path, variable: str, value: str) -> None:
    """A port is a number, and a route begins with a slash."""
    with pytest.raises(Invalid):
        load(tmp_path, **{**VERTEX, variable: value})
