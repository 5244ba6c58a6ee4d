"""The addresses that a server takes: bound, or refused in words that say what to do."""

import os
import socket

from modelyard.core.errors import Unavailable


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound for HTTP; raises `Unavailable` where the address cannot be had."""
    # With its protocol named: asyncio switches Nagle's algorithm off only for sockets that say TCP,
    # and with it on, the second of two pipelined answers comes 40 ms late.
    bound = socket.socket(_family(host), socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # A port that another server only holds, and does not listen on, is taken as well.
        bound.listen()
    except OSError as error:
        bound.close()
        raise Unavailable(
            "address_in_use",
            f"cannot listen on {host}:{port} ({_why(error)}); "
            "take another port, or 0 for a free one",
            field="port",
        ) from None
    return bound


def reserve(host: str, port: int) -> socket.socket:
    """A port for several processes to listen on for gRPC, held as long as the socket is open.

    Raises `Unavailable` where somebody has it already: two servers would share its calls.
    """
    family = _family(host)
    try:
        # Alone on it for a moment: from here on, only who says SO_REUSEPORT too may come.
        with socket.create_server((host, port), family=family) as alone:
            port = alone.getsockname()[1]
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise cannot_listen_for_grpc(host, port, _why(error)) from None
    return held


def cannot_listen_for_grpc(host: str, port: int, why: str) -> Unavailable:
    """What is said where gRPC cannot have its port."""
    return Unavailable(
        "address_in_use",
        f"gRPC cannot listen on {host}:{port} ({why}); "
        "take another --grpc-port, or 0 for a free one",
        field="grpc_port",
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _why(error: OSError) -> str:
    # What getaddrinfo raises is an OSError with a number below zero and words of its own.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
