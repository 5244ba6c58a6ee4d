"""`modelyard serve`: a node, in the foreground."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.screen import note, say_facts, say_json
from modelyard.cli.settings import Json, Settings

if TYPE_CHECKING:
    from modelyard.core.config import Config
    from modelyard.wiring.addresses import Addresses


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to bind; loopback by default.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="HTTP port; 8080 by default, 0 takes a free one."),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="gRPC port; 8081 by default, 0 takes a free one."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; by default as many as there are cores."),
    ] = None,
    is_open: Annotated[
        bool,
        typer.Option("--open", help="Let everybody on this machine call models without a key."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve deployed models over HTTP and gRPC to whoever has a key.

    Follows the registry, and stops at Ctrl-C or SIGTERM when every accepted call is answered. The
    first start on a home prints its administrator's key, once.
    """
    from modelyard.core.config import check_open
    from modelyard.wiring.logs import log_to_stderr
    from modelyard.wiring.supervisor import run_supervisor

    log_to_stderr()
    settings = Settings.of(context).here()

    def read_config() -> "Config":
        config = settings.config(
            host=host, port=port, grpc_port=grpc_port, workers=workers, open=is_open or None
        )
        check_open(config)
        return config

    config = read_config()
    _warn(config)
    announcer = _Announcer(config, as_json)
    run_supervisor(config, read_config, announcer.started, announcer.first_key)


def _warn(config: "Config") -> None:
    if config.open:
        note(
            "WARNING: this server is OPEN: everybody on this machine can call every model, and "
            "deploy, without a key. Serve without --open to ask for keys."
        )
    elif config.fronted:
        note(
            "calls need no key here: only the front of the cloud's container should reach this "
            "server. Set MODELYARD_FRONTED=false to ask for keys."
        )
    elif not config.is_loopback and not config.tls_certificate:
        note(
            f"WARNING: bound to {config.host} without TLS: keys travel IN THE CLEAR to whoever "
            "listens on the way. Set 'tls_certificate' and 'tls_key', or put TLS in front."
        )


class _Announcer:
    """Says where a server listens, and to whom it belongs."""

    def __init__(self, config: "Config", as_json: bool) -> None:
        self._config = config
        self._as_json = as_json
        self._pending: dict[str, str] = {}

    def first_key(self, key: str) -> None:
        """The key of a home's first administrator, which nobody can show again."""
        if self._as_json:
            self._pending["admin_key"] = key
        else:
            note(f"The administrator's key, shown this once: {key}")

    def started(self, addresses: "Addresses") -> None:
        """The server answers."""
        if self._as_json:
            say_json(
                {
                    "url": addresses.url,
                    "host": addresses.host,
                    "port": addresses.port,
                    "grpc_port": addresses.grpc_port,
                    "pid": os.getpid(),
                    **self._pending,
                }
            )
        else:
            say_facts(
                [
                    ("HTTP", addresses.url),
                    ("gRPC", f"{addresses.host}:{addresses.grpc_port}"),
                    ("home", self._config.home),
                ]
            )
            note("deploy and roll back from another terminal; Ctrl-C stops")
        sys.stdout.flush()
        self._as_json = False
