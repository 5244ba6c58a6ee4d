"""What is each idea of the serving path worth? Each is taken out alone, the rest stays."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.forms import v2_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import program, settings
from benchmarks.results import Report
from benchmarks.run import Say, Settings

NAME = "ablations"
QUESTION = "What is each idea of the serving path worth, with a forest over JSON in one process?"
_WHAT = {
    "whole": "everything in place",
    "heads": "every request's head is parsed, though it came before",
    "rows-at-once": "each answer of a batch is written alone",
    "quick-json": "the standard library's JSON, and arrays from Python's lists",
    "batches": "one call a batch",
    "in-line": "every batch in a lane, a thread of its own",
    "protocol-class": "an ASGI application behind uvicorn's own protocol",
}


@dataclass(frozen=True)
class Ablated:
    """The serving path without one of its ideas, in one process."""

    without: str

    @property
    def name(self) -> str:
        """What is missing."""
        return "whole" if self.without == "whole" else f"without {self.without}"

    @property
    def what(self) -> str:
        """What is done in its place."""
        return _WHAT[self.without]

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 in JSON."""
        return (v2_json(f"/v2/models/{model.name}/infer"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Nothing to prepare."""

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """One program, told what to leave out."""
        return Launch(
            [sys.executable, program("ablated.py"), str(ports.http), self.without], settings(model)
        )


def run(settings: Settings, say: Say) -> Report:
    """Measure; two minutes."""
    peers = [Ablated(without) for without in _WHAT]
    comparison = Comparison(
        NAME,
        QUESTION,
        "forest",
        peers,
        "whole",
        frozenset(peer.name for peer in peers),
        goals=(),
        quick=frozenset(peer.name for peer in peers),
    )
    return compare_servers(comparison, settings, say)
