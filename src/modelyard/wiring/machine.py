"""What this machine lets a process use."""

import contextlib
import ctypes
import os
from pathlib import Path


def usable_cores() -> int:
    """Processors that this process may use, as its affinity says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def raise_descriptor_limit() -> None:
    """Let this process have as many connections open as it may: the usual limit is 1,024."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def release_memory() -> None:
    """Give the system back what a load has freed: the C library would keep it, up to a model's size
    after a model was opened twice."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def pss_bytes(pid: int) -> int | None:
    """A process's memory, what it shares counted in parts; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def has_terminal() -> bool:
    """Whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
