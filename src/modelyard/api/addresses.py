"""The addresses that a server takes: bound, or refused in words that say what to do."""

import os
import socket

from modelyard.core.errors import Unavailable


def bind_http(host: str, port: int) -> socket.socket:
    """A socket that listens for HTTP; raises `Unavailable` where the address cannot be had."""
    try:
        return _bind(host, port)
    except OSError as error:
        raise Unavailable(
            "address_in_use",
            f"cannot listen on {host}:{port} ({_why(error)}); "
            "take another port, or 0 for a free one",
            field="port",
        ) from None


def bind_grpc(host: str, port: int) -> socket.socket:
    """A socket that listens for gRPC; raises `Unavailable` where the address cannot be had."""
    try:
        bound = _bind(host, port)
    except OSError as error:
        raise Unavailable(
            "address_in_use",
            f"gRPC cannot listen on {host}:{port} ({_why(error)}); "
            "take another --grpc-port, or 0 for a free one",
            field="grpc_port",
        ) from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return bound


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio switches Nagle's algorithm off only for sockets that say TCP,
    # and with it on, the second of two pipelined answers comes 40 ms late.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # Two that are bound and do not listen yet may share an address: the second hears of it now.
        bound.listen()
    except BaseException:
        bound.close()
        raise
    return bound


def _why(error: OSError) -> str:
    # What getaddrinfo raises is an OSError with a number below zero and words of its own.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
