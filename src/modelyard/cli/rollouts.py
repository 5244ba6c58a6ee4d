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
    steps = rollout.plan.steps
    text = f"step {rollout.step + 1} of {len(steps)}"
    if rollout.next_at is not None:
        left_s = (rollout.next_at - datetime.datetime.now(datetime.UTC)).total_seconds()
        text += f", the next in {left_s:.0f} s" if left_s > 0 else ", the next is due"
    if rollout.reason:
        return f"{text}; {rollout.reason}"
    # Who moves it writes why it waits; silence past the time means that nobody does.
    return text if not _is_overdue(rollout) else f"{text}; no server is running that moves it"


def _is_overdue(rollout: "Rollout") -> bool:
    due = rollout.next_at
    return due is not None and datetime.datetime.now(datetime.UTC) > due + datetime.timedelta(
        seconds=5
    )


def _tell(reading: "Reading") -> str:
    if reading.value is None:
        return f"{reading.guard}: no calls"
    value = reading.value
    shown = f"{value / 1e6:.3g} ms" if reading.guard.startswith("p") else f"{value:.2%}"
    return f"{reading.guard}: {shown} ({reading.calls} calls)"
