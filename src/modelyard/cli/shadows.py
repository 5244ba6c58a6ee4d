"""How shadows are told: what became of the copies, and where answers differed last."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelyard.cli.screen import say, say_table

if TYPE_CHECKING:
    from modelyard.serving.route_report import RouteReport


def say_shadows(routes: "Sequence[RouteReport]") -> None:
    """Write what the shadows of these routes answered; nothing where there are none."""
    shadowed = [(route, route.shadow) for route in routes if route.shadow is not None]
    if not shadowed:
        return
    say()
    say_table(
        ("shadow", "copies of", "compared", "agreed", "same labels", "failed", "dropped"),
        [
            (
                f"{route.model}:{shadow.version}",
                f"{shadow.percent:g}%",
                shadow.counts.compared,
                shadow.counts.agreed,
                shadow.counts.labels_agreed,
                shadow.counts.failed,
                shadow.counts.dropped,
            )
            for route, shadow in shadowed
        ],
    )
    differing = [
        (each.at, f"{route.model}:{shadow.version}", each.output, each.answered, each.shadow)
        for route, shadow in shadowed
        for each in shadow.counts.disagreements
    ]
    if differing:
        say()
        say_table(
            ("when", "shadow", "output", "callers got", "it answered"),
            differing,
            title="the last answers that differ",
        )
