"""`modelyard doctor`: whether this machine and this home can do their work."""

import platform
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import typer

from modelyard.cli.screen import note, say_json, say_table
from modelyard.cli.settings import Json, Settings
from modelyard.core.errors import ModelyardError

if TYPE_CHECKING:
    from modelyard.core.config import Config
    from modelyard.core.records import Finding

_CORE: Final = ("numpy", "onnxruntime", "sqlalchemy", "uvicorn", "grpcio", "msgspec")
_EXTRAS: Final = {
    "sklearn": ("scikit-learn", "skops", "skl2onnx", "onnx", "pandas", "pyarrow"),
    "xgboost": ("xgboost-cpu|xgboost", "onnxmltools"),
    "lightgbm": ("lightgbm", "onnxmltools"),
    "postgres": ("psycopg",),
    "plots": ("matplotlib",),
}
_LOW_DISK_BYTES: Final = 500 * 1024 * 1024


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `bad` is what makes the exit status 1; a `note` is not."""

    name: str
    state: Literal["ok", "note", "bad"]
    detail: str


def doctor(
    context: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Collect what died publishes left behind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell whether machine and home are healthy.

    Looks at packages, extras, ports, the disk, and every byte of every bundle.
    """
    config = Settings.of(context).here().config()
    checks = [*_check_packages(), *_check_ports(config)]
    home = list(_check_home(config))
    checks += home
    repaired: list[Finding] = []
    if all(check.state != "bad" for check in home):
        found, repaired = _check_registry(config, repair)
        checks += found
    healthy = all(check.state != "bad" for check in checks)
    if as_json:
        say_json({"healthy": healthy, "checks": checks, "repaired": repaired})
    else:
        say_table(("what", "state", "detail"), [(c.name, c.state, c.detail) for c in checks])
        for finding in repaired:
            note(f"collected {finding.name}: {finding.message}")
    if not healthy:
        raise typer.Exit(1)


def _check_packages() -> Iterator[Check]:
    from modelyard import __version__

    yield Check("modelyard", "ok", __version__)
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in _CORE:
        version = _version(name)
        yield Check(name, "ok" if version else "bad", version or f"missing: pip install {name}")
    for extra, names in _EXTRAS.items():
        versions = {name: _version(name) for name in names}
        missing = [name.partition("|")[0] for name, version in versions.items() if not version]
        if missing:
            lacks = f"lacks {', '.join(missing)}: pip install 'modelyard[{extra}]'"
            yield Check(f"extra {extra}", "note", lacks)
        else:
            there = (f"{name.partition('|')[0]} {version}" for name, version in versions.items())
            yield Check(f"extra {extra}", "ok", ", ".join(there))


def _version(names: str) -> str:
    """The version of a distribution, or of another that gives the same package."""
    from importlib import metadata

    for name in names.split("|"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _check_ports(config: "Config") -> Iterator[Check]:
    from modelyard.api.addresses import bind_grpc, bind_http

    for name, bind, port in (
        ("port", bind_http, config.port),
        ("grpc port", bind_grpc, config.grpc_port),
    ):
        try:
            bind(config.host, port).close()
        except ModelyardError as error:
            # A server that is running is the likeliest reason, and a good one.
            yield Check(name, "note", error.message)
        else:
            yield Check(name, "ok", f"{config.host}:{port} is free")


def _check_home(config: "Config") -> Iterator[Check]:
    try:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.home):
            pass
    except OSError as error:
        yield Check("home", "bad", f"{config.home} cannot be written: {error.strerror}")
        return
    yield Check("home", "ok", str(config.home))
    free = shutil.disk_usage(config.home).free
    detail = f"{free / 1e9:.1f} GB free"
    yield Check("disk", "ok" if free > _LOW_DISK_BYTES else "bad", detail)


def _check_registry(config: "Config", repair: bool) -> tuple[list[Check], list["Finding"]]:
    from modelyard.yard import Yard

    try:
        with Yard(config) as yard:
            repaired = yard.repair() if repair else []
            models = yard.registry.models()
            findings = yard.check()
    except ModelyardError as error:
        return [Check("registry", "bad", error.message)], []
    revision = _revision()
    checks = [Check("registry", "ok", f"{len(models)} models, revision {revision}")]
    checks += [Check(finding.name, "bad", finding.message) for finding in findings]
    if not findings:
        checks.append(Check("bundles", "ok", "every byte as it was published, nothing left over"))
    elif not repair and any(_is_leftover(finding) for finding in findings):
        checks.append(
            Check("leftovers", "note", "'modelyard doctor --repair' collects what is left over")
        )
    return checks, repaired


def _revision() -> str:
    from modelyard.registry.tables import HEAD

    return HEAD


def _is_leftover(finding: "Finding") -> bool:
    from modelyard.core.records import Problem

    return finding.problem in (Problem.UNFINISHED_FILE, Problem.UNREFERENCED_BLOB)
