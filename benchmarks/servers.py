"""Everybody who is measured over HTTP, in the order of the tables."""

from collections.abc import Sequence

from benchmarks.peer import Peer
from benchmarks.peers.bentoml import BentoMl
from benchmarks.peers.fastapi import FastApi, fastapi_tuned
from benchmarks.peers.flask import Flask
from benchmarks.peers.kserve import KServe
from benchmarks.peers.limits import BareClass
from benchmarks.peers.litserve import LitServe
from benchmarks.peers.mlflow import MlFlow
from benchmarks.peers.mlserver import MlServer
from benchmarks.peers.modelyard import Modelyard
from benchmarks.peers.mosec import Mosec
from benchmarks.peers.ray_serve import RayServe
from benchmarks.peers.torchserve import TorchServe

BASELINE = "fastapi"
STEADY = frozenset({"fastapi", "fastapi-tuned", "modelyard", "bare-class", "mosec"})
"""Those that an aim is about."""
QUICK = STEADY - {"mosec"}
"""Those of them that are measured in a quick look."""
NOTES = (
    "Load generator and server share the machine: with few cores the generator's share is "
    "taken from the server, and most from the fastest.",
    "Every ratio is to the FastAPI service's one form, JSON, that of binary requests too.",
    "Servers without an aim were measured in the first round only, at the fewest and the most "
    "connections.",
)


def everybody() -> Sequence[Peer]:
    """The baseline, Modelyard, the limit, then the peers."""
    return [
        FastApi(),
        fastapi_tuned(),
        Modelyard(),
        BareClass(),
        Mosec(),
        MlServer(),
        KServe(),
        Flask(),
        BentoMl(),
        LitServe(),
        RayServe(),
        MlFlow(),
        TorchServe(),
    ]
