"""What this machine lets a process use."""

import os


def usable_cores() -> int:
    """Processors that this process may use, as its affinity says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
