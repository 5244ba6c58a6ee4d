"""A model process: `python -m modelyard.wiring.model_process LISTENER CONTROL`.

Loads the one version that its owner tells it over the control socket, and answers workers on the
listening socket. Ends when told to, and at once when its owner has gone.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from modelyard.core.config import Config
from modelyard.serving.places import LocalPlaces
from modelyard.serving.process.child import Told, encode_told, read_frame, write_frame
from modelyard.serving.process.faults import to_fault
from modelyard.wiring.machine import release_memory

if TYPE_CHECKING:
    from modelyard.serving.loading import Job, Loaded

_MODULE: Final = "modelyard.wiring.model_process"


def command(python: str, listener: int, control: int) -> Sequence[str]:
    """The command line of a process that inherits these two sockets."""
    # -P: the folder that a server was started in is no place to import code from.
    return [python, "-P", "-m", _MODULE, str(listener), str(control)]


def local_places(config: Config) -> LocalPlaces:
    """The owner of a node's model processes. Starts none yet."""
    return LocalPlaces(
        command,
        config.home / "environments",
        process_us=config.process_us,
        hang_s=config.hang_s,
    )


def main(listener: socket.socket, control: socket.socket) -> int:
    """Load what the owner says, and serve it; the exit status."""
    from modelyard.serving.loading import Job, load

    # A Ctrl-C at the terminal, or its end, reaches every process: the owner decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    job = read_frame(control)
    if job is None:
        return 1
    loop: Future[asyncio.AbstractEventLoop] = Future()
    _heed_owner(control, loop)
    try:
        loaded = load(Job.decode(job))
    except BaseException as error:  # noqa: BLE001 - loading runs other people's code
        write_frame(control, encode_told(Told(to_fault(error))))
        return 1
    release_memory()
    write_frame(control, encode_told(Told(packages=_versions(loaded.job))))
    _run(loaded, listener, loop)
    return 0


def _versions(job: "Job") -> dict[str, str]:
    names = (re.split(r"[^A-Za-z0-9._-]", each)[0] for each in job.packages)
    return {name: version(name) for name in names}


def _heed_owner(control: socket.socket, loop: "Future[asyncio.AbstractEventLoop]") -> None:
    """Let the loop answer when the owner asks, and end with the owner."""

    def watch() -> None:
        while read_frame(control) is not None:
            loop.result().call_soon_threadsafe(write_frame, control, b"")
        # Nobody is left to answer, and a model that hangs would not let us leave in good order.
        os._exit(0)

    threading.Thread(target=watch, name="owner", daemon=True).start()


def _run(
    loaded: "Loaded", listener: socket.socket, loop: "Future[asyncio.AbstractEventLoop]"
) -> None:
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(_serve(loaded, listener, loop))
        return
    asyncio.run(_serve(loaded, listener, loop))


async def _serve(
    loaded: "Loaded", listener: socket.socket, loop: "Future[asyncio.AbstractEventLoop]"
) -> None:
    from modelyard.serving.process.front import Front
    from modelyard.serving.process.notes import Notes

    loop.set_result(asyncio.get_running_loop())
    notes = Notes()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    front = Front(loaded.job.identity(), loaded.scheduler(notes), notes)
    front.listen(listener)
    await stopping.wait()
    await front.drain(listener)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    status = main(*(socket.socket(fileno=int(each)) for each in sys.argv[1:3]))
    # Lanes may hang in native code: nothing that waits for them.
    sys.stderr.flush()
    os._exit(status)
