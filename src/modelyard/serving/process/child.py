"""One model process as its owner sees it: started, watched, and started again when it dies.

The owner listens and the process inherits the socket. So workers can connect at any time: while
the process is being started again, they wait in the socket's queue.
"""

import logging
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.serving.process.faults import Fault, to_error, to_fault

_log = logging.getLogger(__name__)

_BACKLOG: Final = 128
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
_SOUND_S: Final = 30.0
"""A process that lived so long has not crashed in a loop: the next start is at once again."""
_HEAD: Final = struct.Struct("<I")

_CHUNK: Final = 1024 * 1024
_PINGS: Final = 3
"""How often within the time that it may hang a process is asked whether it does."""

Command = Callable[[str, int, int], Sequence[str]]
"""The command line of a process: of an interpreter, and the descriptors of its listening and
control sockets."""


class Told(msgspec.Struct, frozen=True):
    """What a process tells its owner once: that it serves, or why it cannot.

    `packages` are those that the bundle asked for, in the versions that it got.
    """

    fault: Fault | None = None
    packages: dict[str, str] = {}


encode_told: Final = msgspec.msgpack.Encoder().encode
decode_told: Final = msgspec.msgpack.Decoder(Told).decode


class ModelProcess:
    """A process that serves one version, on a Unix socket at `path`, until it is stopped.

    Loaded, it is killed when its loop has not answered for `hang_s`: as if it had died.
    """

    def __init__(
        self,
        name: str,
        job: bytes,
        command: Command,
        find_python: Callable[[], str],
        path: Path,
        *,
        hang_s: float,
    ) -> None:
        self.name = name
        self.path = path
        self.restarts = 0
        self.packages: dict[str, str] = {}
        self.pid: int | None = None
        self._job = job
        self._command = command
        self._find_python = find_python
        self._hang_s = hang_s
        self._error: ModelyardError | None = None
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._thread = threading.Thread(target=self._watch, name=f"watch {name}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when it is loaded; raises what loading it raised."""
        self._settled.wait()
        if self._error is not None:
            # A new one for each who waits: an error carries the traceback of who raises it.
            raise to_error(to_fault(self._error))

    def stop(self, grace_s: float) -> None:
        """Let it finish what it runs, for so long, and end it."""
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None:
                process.terminate()
        self._thread.join(grace_s)
        if process is not None:
            process.kill()
            self._thread.join()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            started = time.monotonic()
            how = self._live()
            if self._error is not None or self._stopping.is_set():
                break
            pause_s = _next_pause_s(pause_s, time.monotonic() - started, self.restarts)
            self.restarts += 1
            _log.error("the process of %s has ended (%s); it is started again", self.name, how)
        self._settle(Unavailable("closing", f"'{self.name}' is being closed"))
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _live(self) -> str:
        """One life of the process; how it ended, in words."""
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    process = self._start(theirs)
            except OSError as error:
                self._settle(Unavailable("no_model_process", f"no process for it: {error}"))
                return str(error)
            except ModelyardError as error:
                self._settle(error)
                return error.message
            if process is None:
                return "stopped"
            told = self._load(ours)
            if told is not None:
                self.packages = told.packages
                self._settle(None if told.fault is None else to_error(told.fault))
                self._outlive(process, ours)
            how = _in_words(process.wait())
            self.pid = None
        self._settle(
            Unavailable("model_process_died", f"the process of '{self.name}' ended ({how}) on load")
        )
        return how if told is None or told.fault is None else told.fault.message

    def _start(self, control: socket.socket) -> "subprocess.Popen[bytes] | None":
        fds = self._listener.fileno(), control.fileno()
        python = self._find_python()
        with self._lock:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command(python, *fds),
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                # What a model prints must not mix with what a server says on its standard output.
                stdout=2,
            )
            self.pid = self._process.pid
            return self._process

    def _load(self, control: socket.socket) -> Told | None:
        """Tell it what to serve, and hear how that went; None when it died over it."""
        try:
            write_frame(control, self._job)
            answer = read_frame(control)
        except OSError:
            return None
        return None if answer is None else decode_told(answer)

    def _outlive(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        """Return when it has ended, or hangs: then it is killed."""
        control.settimeout(self._hang_s)
        try:
            # Nothing comes unasked but the end.
            while not select.select([control], [], [], self._hang_s / _PINGS)[0]:
                write_frame(control, b"")
                if read_frame(control) is None:
                    return
        except TimeoutError:
            _log.error(
                "the process of %s has not answered for %g s; killed", self.name, self._hang_s
            )
            process.kill()
        except OSError:
            # It went while it was asked.
            return

    def _settle(self, error: ModelyardError | None) -> None:
        """The first load decides whether the process is of any use; later ones are tried again."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()


def read_frame(control: socket.socket) -> bytes | None:
    """The next frame on a control socket; None when the other end has gone."""
    head = _read(control, _HEAD.size)
    return None if head is None else _read(control, _HEAD.unpack(head)[0])


def write_frame(control: socket.socket, body: bytes) -> None:
    """Send a frame on a control socket."""
    control.sendall(_HEAD.pack(len(body)) + body)


def _read(control: socket.socket, length: int) -> bytes | None:
    received = bytearray()
    while len(received) < length:
        data = control.recv(min(length - len(received), _CHUNK))
        if not data:
            return None
        received += data
    return bytes(received)


def _next_pause_s(pause_s: float, lived_s: float, restarts: int) -> float:
    """At once after a sound life or for the first time, else ever longer."""
    if lived_s >= _SOUND_S or not restarts:
        return 0.0
    return min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)


def _in_words(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
