"""How a roll-out is told: where it stands, each move, and the numbers that it was made on."""

import datetime
from typing import TYPE_CHECKING

from modelyard.cli.screen import say, say_table

if TYPE_CHECKING:
    from modelyard.core.rollout import Reading, Rollout


def say_rollout(rollout: "Rollout") -> None:
    """Write a roll-out with its moves."""
    say()
    say_table(
        ("when", "move", "share", "numbers", "why"),
        [
            (
                move.at,
                move.verdict,
                f"{move.percent:g}%",
                [_tell(reading) for reading in move.readings],
                move.reason,
            )
            for move in rollout.moves
        ],
        title=f"roll-out from version {rollout.stable} to {rollout.candidate}: {_state(rollout)}",
    )


def _state(rollout: "Rollout") -> str:
    if rollout.state != "running":
        return rollout.state.replace("_", " ")
    text = f"step {rollout.step + 1} of {len(rollout.plan.steps)}"
    now = datetime.datetime.now(datetime.UTC)
    if rollout.led_until is None or rollout.led_until < now:
        return f"{text}; no server moves it: start one with 'modelyard serve'"
    if rollout.reason:
        return f"{text}; {rollout.reason}"
    if rollout.next_at is None or rollout.next_at <= now:
        return f"{text}; the next is due"
    return f"{text}; the next in {(rollout.next_at - now).total_seconds():.0f} s"


def _tell(reading: "Reading") -> str:
    if reading.value is None:
        return f"{reading.guard}: no calls"
    value = reading.value
    shown = f"{value / 1e6:.3g} ms" if reading.guard.startswith("p") else f"{value:.2%}"
    return f"{reading.guard}: {shown} ({reading.calls} calls)"
