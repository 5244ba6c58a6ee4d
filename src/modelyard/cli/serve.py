"""`modelyard serve`: a node, in the foreground."""

import os
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
    as_json: Json = False,
) -> None:
    """Serve deployed models over HTTP and gRPC.

    Follows the registry, and stops at Ctrl-C or SIGTERM when every accepted call is answered.
    """
    from modelyard.wiring.logs import log_to_stderr
    from modelyard.wiring.supervisor import run_supervisor

    log_to_stderr()
    settings = Settings.of(context)

    def read_config() -> "Config":
        return settings.config(host=host, port=port, grpc_port=grpc_port, workers=workers)

    config = read_config()
    if not config.is_loopback:
        note(
            f"WARNING: bound to {config.host}: there are no keys yet, so ANYONE who can reach this "
            "address may call every model. Bind 127.0.0.1, or put a gateway that asks for keys in "
            "front."
        )
    run_supervisor(config, read_config, lambda addresses: _announce(config, addresses, as_json))


def _announce(config: "Config", addresses: "Addresses", as_json: bool) -> None:
    import sys

    if as_json:
        say_json(
            {
                "url": addresses.url,
                "host": addresses.host,
                "port": addresses.port,
                "grpc_port": addresses.grpc_port,
                "pid": os.getpid(),
            }
        )
    else:
        say_facts(
            [
                ("HTTP", addresses.url),
                ("gRPC", f"{addresses.host}:{addresses.grpc_port}"),
                ("home", config.home),
            ]
        )
        note("deploy and roll back from another terminal; Ctrl-C stops")
    sys.stdout.flush()
