import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from modelyard.serving.supervision.desk import Desk, ask_servers


async def answer(payload: Any) -> str:
    return "busy"


@pytest.mark.parametrize("folder", ["home", "h" * 200])
def test_a_server_can_be_asked_by_its_home(tmp_path: Path, folder: str) -> None:
    """Also where the home lies too deep for a socket's path; and it leaves nothing behind."""

    async def run() -> None:
        home = tmp_path / folder
        desk = Desk(home, {"overview": answer})
        await desk.open()
        assert await ask_servers(home, "overview", 10.0) == ["busy"]
        (note,) = (home / "run").glob("*.path")
        mode = Path(note.read_text("utf-8")).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        desk.close()
        assert await ask_servers(home, "overview", 10.0) == []
        assert list((home / "run").iterdir()) == []

    asyncio.run(run())


def test_what_a_dead_server_left_is_cleared_away(tmp_path: Path) -> None:
    """A socket that nobody answers is no server."""

    async def run() -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "1.path").write_text(os.fspath(folder / "1.sock"), "utf-8")
        (folder / "1.sock").write_bytes(b"")
        assert await ask_servers(tmp_path, "overview", 10.0) == []
        assert list(folder.iterdir()) == []

    asyncio.run(run())


def test_servers_of_one_process_id_do_not_displace_each_other(tmp_path: Path) -> None:
    """As two containers have it that share a home: both answer, and each takes away its own."""

    async def run() -> None:
        desks = [Desk(tmp_path, {"overview": answer}) for _ in range(2)]
        for desk in desks:
            await desk.open()
        assert await ask_servers(tmp_path, "overview", 10.0) == ["busy", "busy"]
        desks[0].close()
        assert await ask_servers(tmp_path, "overview", 10.0) == ["busy"]
        desks[1].close()
        assert list((tmp_path / "run").iterdir()) == []

    asyncio.run(run())
