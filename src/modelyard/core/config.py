"""The one configuration: typed, frozen, and read once at the edge.

Command line over environment (`MODELYARD_…`) over `modelyard.toml` in the home over default.
Unknown keys are errors. `docs/reference/configuration.md` is generated from `Config`.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from modelyard.core.containers import container_settings
from modelyard.core.errors import Invalid
from modelyard.core.masking import mask, mask_url
from modelyard.core.route import Isolation, Place

FILE_NAME: Final = "modelyard.toml"
_PREFIX: Final = "MODELYARD_"
_PLAINLY: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "place": get_args(Place),
    "isolation": get_args(Isolation),
    "tls_client": ("optional", "required"),
}


def _default_home() -> Path:
    return Path.home() / ".modelyard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of a Modelyard home and of a server started on it."""

    home: Path = field(
        default_factory=_default_home,
        metadata={"doc": "Folder with the registry, the blobs and `modelyard.toml`."},
    )
    database_url: str = field(
        default="",
        repr=False,
        metadata={
            "doc": "SQLAlchemy URL of the registry; empty means SQLite in the home. "
            "PostgreSQL: `postgresql+psycopg://user@host/name`."
        },
    )
    host: str = field(
        default="127.0.0.1", metadata={"doc": "Address that the server binds; loopback by default."}
    )
    port: int = field(default=8080, metadata={"doc": "HTTP port; 0 takes a free one."})
    grpc_port: int = field(default=8081, metadata={"doc": "gRPC port; 0 takes a free one."})
    open: bool = field(
        default=False,
        metadata={
            "doc": "Let everybody on this machine call models without a key. Only on a loopback "
            "address; administration needs a key all the same."
        },
    )
    fronted: bool = field(
        default=False,
        metadata={
            "doc": "Let callers without a key call models, and do nothing else: for a container "
            "that only a cloud's own front can reach, which lets in who may. Set by the variables "
            "of SageMaker, Vertex AI and Azure ML; `false` asks for keys there too."
        },
    )
    key: str = field(
        default="",
        repr=False,
        metadata={
            "doc": "API key that `predict` and `--server` send; best set as `MODELYARD_KEY`."
        },
    )
    tls_certificate: str = field(
        default="",
        metadata={
            "doc": "PEM file of the server's certificate chain; with it HTTP and gRPC are TLS."
        },
    )
    tls_key: str = field(
        default="", metadata={"doc": "PEM file of that certificate's private key."}
    )
    tls_client_ca: str = field(
        default="",
        metadata={"doc": "PEM file of the authorities whose client certificates are accepted."},
    )
    tls_client: str = field(
        default="optional",
        metadata={
            "doc": "With `tls_client_ca`: `required` refuses connections without a client "
            "certificate, `optional` takes a key instead."
        },
    )
    oidc_issuer: str = field(
        default="",
        metadata={
            "doc": "URL of an OpenID Connect issuer whose tokens are taken as keys are, as "
            "`identities` say; needs `oidc_audience` and `modelyard[oidc]`."
        },
    )
    oidc_audience: str = field(
        default="", metadata={"doc": "The audience that its tokens must be made for."}
    )
    oidc_jwks_url: str = field(
        default="",
        metadata={"doc": "Where its keys are; empty asks the issuer's discovery document."},
    )
    workers: int = field(
        default=0,
        metadata={"doc": "Worker processes that answer calls; 0 means the cores it may use."},
    )
    default_model: str = field(
        default="",
        metadata={
            "doc": "Model that paths mean which name none (`/invocations`, `/score`, "
            "`predict_route`); empty means the only one deployed."
        },
    )
    health_route: str = field(
        default="",
        metadata={"doc": "Path that says with 200 that the server answers calls, beside `/ping`."},
    )
    predict_route: str = field(
        default="",
        metadata={"doc": "Path that takes `instances` and answers `predictions`, as Vertex AI."},
    )
    max_body_bytes: int = field(
        default=64 * 1024 * 1024,
        metadata={"doc": "Largest request body or gRPC message, in bytes; larger ones get 413."},
    )
    max_bundle_bytes: int = field(
        default=32 * 1024**3,
        metadata={"doc": "Largest bundle that may be published over the network, in bytes."},
    )
    queue_rows: int = field(
        default=16_384,
        metadata={"doc": "Rows that may wait at one endpoint; past that the answer is 429."},
    )
    queue_bytes: int = field(
        default=256 * 1024 * 1024,
        metadata={"doc": "Bytes of input that may wait at one endpoint; past that it is 429."},
    )
    max_batch_rows: int = field(
        default=0,
        metadata={
            "doc": "Most rows that run as one batch; 0 has it found by measurement, up to 1024."
        },
    )
    lanes: int = field(
        default=0, metadata={"doc": "Threads for a model too slow to run in line; 0 means cores."}
    )
    inline_us: int = field(
        default=300,
        metadata={
            "doc": "A batch expected to cost less than this many microseconds runs on the "
            "event loop; a longer one runs in a lane."
        },
    )
    place: str = field(
        default="auto",
        metadata={
            "doc": "Where models run: `worker` (a copy in each), `process` (one process for all "
            "workers), or `auto`: by size and measured cost. A route's own options come first."
        },
    )
    isolation: str = field(
        default="none",
        metadata={"doc": "`process` gives every model a process of its own; `none` does not."},
    )
    process_bytes: int = field(
        default=64 * 1024 * 1024,
        metadata={
            "doc": "With several workers, a model file larger than this gets a process of its own."
        },
    )
    process_us: int = field(
        default=1000,
        metadata={
            "doc": "With several workers, a model whose answer to one row costs more than this "
            "many microseconds gets a process of its own."
        },
    )
    threads: int = field(
        default=0,
        metadata={
            "doc": "Threads of one run of a model; 0 takes what was measured to be quickest."
        },
    )
    poll_s: float = field(
        default=0.2, metadata={"doc": "Seconds between two looks at the registry's routes."}
    )
    snapshot_s: float = field(
        default=86_400.0,
        metadata={
            "doc": "Seconds for which known keys are good, and known routes served, while the "
            "registry does not answer."
        },
    )
    spool_bytes: int = field(
        default=1024 * 1024 * 1024,
        metadata={
            "doc": "Most bytes that usage may take in the home before it is copied to the "
            "registry's database; past that calls are answered and counted as unrecorded."
        },
    )
    meter_strict: bool = field(
        default=False,
        metadata={"doc": "Refuse calls whose usage cannot be recorded, with 503."},
    )
    usage_days: float = field(
        default=30.0,
        metadata={
            "doc": "Days for which the usage of single calls is kept; the sums by hour and day "
            "stay for ever."
        },
    )
    drain_s: float = field(
        default=20.0, metadata={"doc": "Seconds that a stopping server waits for its calls to end."}
    )
    hang_s: float = field(
        default=30.0,
        metadata={
            "doc": "A worker that has not answered its supervisor for so many seconds is killed "
            "and started again."
        },
    )
    trust_pickle: bool = field(
        default=False,
        metadata={
            "doc": "Allow `import` to open pickle and joblib files. They can run any code: "
            "only for files of your own."
        },
    )
    trust_packages: bool = field(
        default=False,
        metadata={
            "doc": "Let bundles bring packages of their own, which are installed and run: only "
            "for bundles that you trust."
        },
    )
    encryption_key: str = field(
        default="",
        metadata={
            "doc": "Where the key is that model files and captured payloads are encrypted with: "
            "`file:PATH`, `env:NAME`, or `command:PROGRAM …` whose output it is (for a KMS or "
            "Vault). Several keys, apart by white space: the first encrypts, all decrypt. Empty "
            "means no encryption of model files."
        },
    )
    server: str = field(
        default="",
        metadata={
            "doc": "URL of a running server that commands speak to, as `--server` says; empty "
            "means the home on this machine."
        },
    )
    debug: bool = field(default=False, metadata={"doc": "Show where in the code a command failed."})

    @property
    def registry_url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'registry.db'}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "::1", "localhost")


def load_config(
    overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read the configuration; `overrides` are the command line's settings, None meaning unset.

    Raises `Invalid` for an unknown key or a value of the wrong type, naming where it was set.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    environ = os.environ if environ is None else environ
    from_env = {
        key.removeprefix(_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(_PREFIX)
    }
    home = Path(str(given.get("home") or from_env.get("home") or _default_home())).expanduser()
    file = home / FILE_NAME
    values: dict[str, Any] = {
        key: _parse(key, value, str(file)) for key, value in _read_file(file).items()
    }
    # What a cloud says of its container holds over a file in it, and not over our own variables.
    for key, (wish, variable) in container_settings(environ).items():
        values[key] = _parse(key, wish, variable)
    layers: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("the environment", from_env),
        ("the command line", given),
    )
    for where, layer in layers:
        for key, value in layer.items():
            values[key] = _parse(key, value, where)
    values["home"] = home.absolute()
    config = Config(**values)
    _check_ranges(config)
    return config


def _read_file(file: Path) -> Mapping[str, object]:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        # A home that is no folder is told by whoever opens it.
        return {}
    except OSError as error:
        raise Invalid(
            "bad_config", f"{file} cannot be read: {error.strerror}", field=str(file)
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid("bad_config", f"{file} is not TOML: {error}", field=str(file)) from None
    if "home" in values:
        raise Invalid(
            "bad_setting",
            f"{file} sets 'home', but the file is only found because it lies in the home; "
            "use --home or MODELYARD_HOME",
            field="home",
        )
    return values


def _parse(key: str, value: object, where: str) -> object:
    hints = get_type_hints(Config)
    if key not in hints:
        near = difflib.get_close_matches(key, hints, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise Invalid(
            "unknown_setting", f"{where} sets '{key}', which is no setting{hint}", field=key
        )
    wanted = hints[key]
    try:
        return _convert(wanted, value)
    except (ValueError, TypeError):
        raise Invalid(
            "bad_setting",
            f"{where} sets '{key}' to {value!r}, but it takes {_PLAINLY[wanted]}",
            field=key,
        ) from None


def _convert(wanted: type, value: object) -> object:
    if wanted is bool:
        if isinstance(value, bool):
            return value
        return _parse_bool(str(value).lower())
    if wanted is Path:
        return Path(str(value)).expanduser()
    if isinstance(value, str) or (type(value) is int and wanted is float) or type(value) is wanted:
        return wanted(value)
    raise ValueError


def _parse_bool(text: str) -> bool:
    if text in ("true", "1", "yes"):
        return True
    if text in ("false", "0", "no"):
        return False
    raise ValueError


def _check_ranges(config: Config) -> None:
    for name, low, high in (
        ("port", 0, 65535),
        ("grpc_port", 0, 65535),
        ("max_body_bytes", 1024, 2**31 - 1),
        ("max_bundle_bytes", 1024, 2**50),
        ("queue_rows", 1, 2**31),
        ("queue_bytes", 1, 2**40),
        ("max_batch_rows", 0, 2**20),
        ("lanes", 0, 1024),
        ("inline_us", 0, 10**6),
        ("process_bytes", 0, 2**40),
        ("process_us", 0, 10**9),
        ("threads", 0, 1024),
        ("poll_s", 0.01, 60.0),
        ("snapshot_s", 0.0, 10.0**9),
        ("spool_bytes", 2**20, 2**50),
        ("usage_days", 0.0, 36_500.0),
        ("drain_s", 0.0, 3600.0),
        ("workers", 0, 256),
        ("hang_s", 0.1, 86400.0),
    ):
        value = getattr(config, name)
        if not low <= value <= high:
            raise Invalid(
                "bad_setting", f"'{name}' is {value}; it must lie in {low} to {high}", field=name
            )
    for name in ("health_route", "predict_route"):
        value = getattr(config, name)
        if value and not value.startswith("/"):
            raise Invalid(
                "bad_setting", f"'{name}' is '{value}'; a path begins with '/'", field=name
            )
    for name, choices in _CHOICES.items():
        value = getattr(config, name)
        if value not in choices:
            raise Invalid(
                "bad_setting",
                f"'{name}' is '{value}'; it may be {', '.join(choices)}",
                field=name,
            )


def check_open(config: Config) -> None:
    """Raise `Invalid` where a server without keys could be reached from elsewhere."""
    if config.open and not config.is_loopback:
        raise Invalid(
            "open_address",
            f"an open server lets everybody in, and {config.host} can be reached from elsewhere; "
            "bind 127.0.0.1, or serve without 'open' and give callers keys",
            field="open",
        )


def plain_config(config: Config) -> dict[str, Any]:
    """Every setting as a value that travels to another process; see `parsed_config`."""
    return {**dataclasses.asdict(config), "home": str(config.home)}


def shown_config(config: Config) -> dict[str, Any]:
    """Every setting as people may see it: without the key and the password that are in some."""
    plain = plain_config(config)
    return {
        **plain,
        "database_url": mask_url(plain["database_url"]),
        "server": mask_url(plain["server"]),
        # Of what is no key of ours nobody can say which part is no secret.
        "key": masked if (masked := mask(config.key)) != config.key else "…" * bool(config.key),
    }


def parsed_config(plain: Mapping[str, Any]) -> Config:
    """The configuration of `plain_config`, which may come from another release of this code."""
    known = {each.name for each in settings()}
    given = {name: value for name, value in plain.items() if name in known}
    return Config(**{**given, "home": Path(plain["home"])})


def settings() -> tuple[dataclasses.Field[Any], ...]:
    """The fields of `Config`, for the generated reference."""
    return dataclasses.fields(Config)
