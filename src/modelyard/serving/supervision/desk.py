"""Where the servers of a home can be asked how they are: a Unix socket each, in its run folder."""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelyard.core.errors import ModelyardError
from modelyard.serving.supervision.channel import Channel, Handler, Payload

_RUN: Final = "run"
_LONGEST_PATH: Final = 100
"""Bytes that a Unix socket's path may have everywhere; a home may lie deeper."""


class Desk:
    """Answers questions of this machine's user about one server."""

    def __init__(self, home: Path, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._folder = home / _RUN
        # Process ids alone would not do: of two containers on one home each is process 1.
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._note = self._folder / f"{self._name}.path"
        self._private: str | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Be there for questions."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}.sock"
        if len(os.fsencode(path)) > _LONGEST_PATH:
            self._private = tempfile.mkdtemp(prefix="modelyard-")
            path = Path(self._private) / "status.sock"
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Channel(self._handlers), path)
        path.chmod(0o600)
        # Whole at once: who read half of it would take this server for dead, and clear it away.
        unfinished = self._note.with_suffix(".new")
        unfinished.write_text(str(path), "utf-8")
        unfinished.rename(self._note)

    def close(self) -> None:
        """Answer no more, and leave nothing behind."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(OSError):
            Path(self._note.read_text("utf-8")).unlink()
        self._note.unlink(missing_ok=True)
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)


def has_servers(home: Path) -> bool:
    """Whether a server may be running on a home; cheap."""
    return any((home / _RUN).glob("*.path"))


async def ask_servers(
    home: Path, kind: str, timeout_s: float, payload: Payload = None
) -> list[Payload]:
    """What every running server of a home answers; those that died are cleaned away."""
    answers = []
    for note in sorted((home / _RUN).glob("*.path")):
        try:
            path = Path(note.read_text("utf-8"))
        except FileNotFoundError:
            # It has just stopped.
            continue
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(os.fspath(path))
        except OSError:
            sock.close()
            _forget(note, path)
            continue
        channel = await Channel.over(sock, {})
        with contextlib.suppress(ModelyardError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                answers.append(await channel.request(kind, payload))
        channel.close()
    return answers


def _forget(note: Path, path: Path) -> None:
    """A server died and could not clear up behind itself."""
    for leftover in (path, note):
        with contextlib.suppress(OSError):
            leftover.unlink()
    if path.parent != note.parent:
        with contextlib.suppress(OSError):
            path.parent.rmdir()
