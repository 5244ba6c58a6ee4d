"""How fast is gRPC, against a server that does nothing but gRPC, and against MLServer's?"""

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.goals import Goal
from benchmarks.peers.kserve import KServe
from benchmarks.peers.limits import GrpcEcho
from benchmarks.peers.mlserver import MlServer
from benchmarks.peers.modelyard import Modelyard, default_workers
from benchmarks.results import Report
from benchmarks.run import Say, Settings

NAME = "grpc_calls"
QUESTION = (
    "How fast is a forest over gRPC, one row a call, against a grpc.aio echo of the same messages "
    "in as many processes, and against MLServer?"
)
_ECHO = "grpc-echo"
_OURS = ("modelyard", "grpc")
GOALS = (
    *(
        Goal(
            f"forest, gRPC, {count} connections: calls/s over the echo's",
            _OURS,
            [(_ECHO, "grpc")],
            count,
            "per_second",
            at_least=0.7,
        )
        for count in (8, 64)
    ),
    Goal(
        "forest, gRPC, 64 connections: calls/s over MLServer's",
        _OURS,
        [("mlserver", "grpc")],
        64,
        "per_second",
        at_least=2,
    ),
)
_STEADY = frozenset({_ECHO, "modelyard", "mlserver"})


def run(settings: Settings, say: Say) -> Report:
    """Measure; a minute or two."""
    comparison = Comparison(
        NAME,
        QUESTION,
        "forest",
        [GrpcEcho(default_workers()), Modelyard(), MlServer(), KServe()],
        _ECHO,
        _STEADY,
        GOALS,
        quick=frozenset({_ECHO, "modelyard"}),
        protocol="grpc",
        notes=(
            "The generator is Python too (grpc.aio, two processes) and takes as much of the "
            "machine as any of these servers: ratios are nearer to one than they would be with a "
            "native one.",
        ),
    )
    return compare_servers(comparison, settings, say)
