"""Many servers of one model, one after the other, in rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec

from benchmarks.goals import Goal, judge
from benchmarks.load import LoadFailed
from benchmarks.measure import Seen, measure_server
from benchmarks.model import Model, make_model, with_one_answer
from benchmarks.peer import Form, NotPrepared, Peer, WrongAnswer
from benchmarks.peers.limits import ECHOES
from benchmarks.processes import Memory, ServerDied
from benchmarks.results import Figure, Report, Round, figure
from benchmarks.run import Key, Occasion, Say, Settings, chosen, to_points

_MB = 1e6
FAILURES = (LoadFailed, NotPrepared, ServerDied, WrongAnswer)


@dataclass(frozen=True)
class Comparison:
    """A question about one model, and who is asked."""

    name: str
    question: str
    model: str
    peers: Sequence[Peer]
    baseline: str
    steady: frozenset[str]
    """Servers that an aim is about: in every round, at every number of connections. The others
    are measured in the first round, at the fewest and the most."""
    goals: Sequence[Goal]
    quick: frozenset[str] = frozenset()
    """Who is measured in a quick look."""
    protocol: Literal["http", "grpc"] = "http"
    every_form: bool = True
    """Whether servers that no aim is about are asked in all their forms, or in the first only."""
    notes: Sequence[str] = ()
    in_process: Callable[[Model, Settings, Say], Mapping[Key, list[Round]]] | None = None
    """What the model does with no server at all, as points of the same table."""
    in_process_what: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Found:
    """What the rounds gave so far."""

    rounds: dict[Key, list[Round]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    memories: dict[str, list[Memory]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, seen: Seen) -> None:
        self.starts.setdefault(name, []).append(seen.cold_start_s)
        self.memories.setdefault(name, []).append(seen.memory)
        for (form, connections), measured in seen.rounds.items():
            self.rounds.setdefault((name, form, connections), []).append(measured)


def compare_servers(comparison: Comparison, settings: Settings, say: Say) -> Report:
    """Measure; a minute a round for every eight servers, more or less."""
    occasion = Occasion.now()
    peers = chosen(comparison.peers, settings, comparison.baseline)
    if settings.quick:
        peers = [peer for peer in peers if peer.name in comparison.quick]
    found = _Found()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"making the {comparison.model}")
        model = make_model(comparison.model, folder)
        ready = [peer for peer in peers if _prepared(peer, model, folder, comparison, found, say)]
        if comparison.in_process is not None:
            found.rounds |= comparison.in_process(model, settings, say)
        for number in range(1, settings.rounds + 1):
            say(f"round {number}/{settings.rounds}")
            for peer in ready:
                if number == 1 or peer.name in comparison.steady:
                    _measure(peer, model, folder, comparison, settings, found, say)
    report = occasion.report(
        comparison.name,
        comparison.question,
        settings.method(comparison.baseline),
        {**comparison.in_process_what, **{peer.name: peer.what for peer in peers}},
        _figures(found, comparison.protocol),
        to_points(found.rounds, comparison.baseline),
        comparison.notes,
        found.left_out,
    )
    return msgspec.structs.replace(report, aims=judge(comparison.goals, report))


def _prepared(
    peer: Peer, model: Model, folder: Path, comparison: Comparison, found: _Found, say: Say
) -> bool:
    say(f"preparing {peer.name}")
    try:
        peer.prepare(model, folder)
    except NotPrepared as error:
        _leave_out(peer, error, comparison, found, say)
        return False
    return True


def _measure(
    peer: Peer,
    model: Model,
    folder: Path,
    comparison: Comparison,
    settings: Settings,
    found: _Found,
    say: Say,
) -> None:
    if peer.name in found.left_out:
        return
    counts = settings.connections
    forms = _forms(peer, model, comparison.protocol)
    if peer.name not in comparison.steady:
        counts = tuple(sorted({min(counts), max(counts)}))
        forms = forms if comparison.every_form else forms[:1]
    try:
        seen = measure_server(
            peer,
            with_one_answer(model) if peer.name in ECHOES else model,
            folder,
            forms,
            counts,
            seconds=settings.seconds,
            warm_up_s=settings.warm_up_s,
            say=say,
        )
    except FAILURES as error:
        _leave_out(peer, error, comparison, found, say)
        return
    found.add(peer.name, seen)


def _leave_out(
    peer: Peer, error: Exception, comparison: Comparison, found: _Found, say: Say
) -> None:
    """A peer that fails is written down and the rest goes on; without ours there is no result."""
    if peer.name == comparison.baseline or peer.name.startswith("modelyard"):
        raise error
    found.left_out[peer.name] = str(error)
    say(f"  {peer.name} is left out: {str(error).splitlines()[0][:200]}")


def _forms(peer: Peer, model: Model, protocol: str) -> list[Form]:
    return [form for form in peer.forms(model) if form.protocol == protocol]


def _figures(found: _Found, protocol: str) -> list[Figure]:
    figures = []
    for name, memories in found.memories.items():
        # Over gRPC the first question comes from a process that must itself be started.
        if protocol == "http":
            figures.append(figure(name, "cold start", "s", found.starts[name]))
        figures += [
            figure(name, "memory (PSS)", "MB", [each.pss / _MB for each in memories]),
            figure(name, "memory (USS)", "MB", [each.uss / _MB for each in memories]),
            figure(name, "memory (RSS)", "MB", [each.rss / _MB for each in memories]),
            figure(name, "processes", "", [each.processes for each in memories]),
        ]
    return figures
