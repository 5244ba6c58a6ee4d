"""Loads and unloads leave nothing behind in any process of the server."""

from pathlib import Path

import httpx
import numpy as np
import psutil

from tests.e2e.conftest import PATIENCE_S
from tests.e2e.promises.stage import offset, staged

ROUNDS = 1000
WARM_UP = 100
EACH = 5
MOST_MB_A_HUNDRED = 1.0


def test_loads_and_unloads_leave_nothing_behind(tmp_path: Path) -> None:
    """Past the first hundred, no process grows by a megabyte for each hundred loads and unloads."""
    with staged(tmp_path, models={"sum": (offset(1.0),)}, settings={"poll_s": 0.01}) as stage:
        processes = [psutil.Process(pid) for pid in (stage.server.pid, *stage.pids())]
        held: list[list[float]] = []
        with httpx.Client(base_url=stage.server.url, timeout=PATIENCE_S) as client:
            for number in range(ROUNDS):
                for verb in ("unload", "load"):
                    client.post(f"/v2/repository/models/sum/{verb}").raise_for_status()
                if number >= WARM_UP and number % EACH == 0:
                    held.append([each.memory_full_info().uss / 1e6 for each in processes])
    slopes = np.polyfit(np.arange(len(held)) * EACH / 100, np.array(held), 1)[0]
    assert max(slopes) < MOST_MB_A_HUNDRED, f"MB a hundred: {slopes}; held: {held}"
