"""What the adapters of services share: where the programs lie, and how they learn of the model."""

from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.model import Model

SERVICES = ROOT / "benchmarks" / "services"
PROCESSES = 2
"""Workers, replicas or processes that every peer is given: one a core of the machine used here."""


def program(name: str) -> str:
    """The path of a program in `services/`."""
    return str(SERVICES / name)


def settings(model: Model, **more: str) -> dict[str, str]:
    """The environment that tells a service its model, and where `served.py` is."""
    path = {"PYTHONPATH": str(SERVICES)}
    quiet = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"MODEL": str(model.onnx), "KIND": model.name, **path, **quiet, **more}


def own_folder(folder: Path, name: str) -> Path:
    """A folder of a peer's own among the run's files."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    return place
