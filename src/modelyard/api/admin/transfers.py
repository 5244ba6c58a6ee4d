"""Bundles in and out: streamed between the network and a file, never held in memory."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from modelyard.api.admin.answers import encode
from modelyard.api.admin.handlers import (
    AnyRequest,
    Office,
    Visit,
    answered,
    read_body,
    typed_path,
)
from modelyard.api.admin.requests import read_request
from modelyard.api.http.guard import ask_again, asking
from modelyard.core.administration.models import Export, Publish
from modelyard.core.administration.operation import Body, Operation, model_of
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.errors import Exhausted, Invalid

_CHUNK_BYTES: Final = 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


def transfer_handlers(office: Office) -> list[HTTPRouteHandler]:
    """Publish takes an archive, export gives one, and some give lines."""
    given_as_lines = (each for each in OPERATIONS if each.gives is Body.LINES)
    return [_publish(office), _export(office), *(_lines(office, each) for each in given_as_lines)]


def _publish(office: Office) -> HTTPRouteHandler:
    operation = Publish.operation

    @route(
        typed_path(operation),
        http_method=[HttpMethod(operation.method)],
        status_code=operation.status,
        opt=asking(operation.verb),
        name=operation.name,
        request_max_body_size=None,
    )
    async def publish(request: AnyRequest) -> Response[bytes]:
        visit = Visit.of(request)
        asked = read_request(Publish, {}, request.query_params.multi_items())
        visit.caller.check(operation.verb)
        _check_archive(visit, office.reception.max_bundle_bytes)
        staging = office.reception.staging()
        folder = await office.run_slow(staging.__enter__)
        try:
            archive = folder / "archive.tar"
            await _receive(office, request, archive)
            # It may have taken long.
            ask_again(request)
            visit = Visit.of(request)
            administration = visit.administration(office.reception)
            version = await office.run_slow(administration.publish, asked, archive)
        finally:
            await office.run_slow(_leave, staging)
        return answered(operation, encode(version), visit)

    return publish


def _check_archive(visit: Visit, bound: int) -> None:
    given = visit.header("content-type").partition(";")[0].strip().lower()
    if given not in (Body.ARCHIVE, "application/octet-stream"):
        raise Invalid(
            "unsupported_content_type", f"a bundle comes as {Body.ARCHIVE}, not '{given:.80}'"
        )
    length = visit.header("content-length")
    if length.isdecimal() and int(length) > bound:
        raise _too_large(bound)


async def _receive(office: Office, request: AnyRequest, target: Path) -> None:
    with await office.run_slow(target.open, "wb") as file:
        size, waiting = 0, bytearray()
        async for chunk in request.stream():
            size += len(chunk)
            if size > office.reception.max_bundle_bytes:
                raise _too_large(office.reception.max_bundle_bytes)
            waiting += chunk
            if len(waiting) >= _CHUNK_BYTES:
                await office.run_slow(_write, file, bytes(waiting))
                waiting.clear()
        await office.run_slow(_write, file, bytes(waiting))


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise Exhausted("disk_full", f"the archive cannot be kept here: {error.strerror}") from None


def _too_large(bound: int) -> Exhausted:
    return Exhausted(
        "body_too_large",
        f"the archive is larger than this server's {bound} bytes; raise 'max_bundle_bytes'",
        field="body",
    )


def _export(office: Office) -> HTTPRouteHandler:
    operation = Export.operation

    @route(
        typed_path(operation),
        http_method=[HttpMethod(operation.method)],
        opt=asking(operation.verb),
        name=operation.name,
    )
    async def export(request: AnyRequest) -> Stream:
        visit = Visit.of(request)
        asked = read_request(Export, request.path_params, request.query_params.multi_items())
        visit.caller.check(operation.verb, model_of(asked))
        administration = visit.administration(office.reception)
        staging = office.reception.staging()
        folder = await office.run_slow(staging.__enter__)
        try:
            archive = folder / "archive.tar"
            # Written whole before the first byte is sent: every digest has been held against it.
            await office.run_slow(administration.export, asked, archive)
            size_bytes = archive.stat().st_size
        except BaseException:
            await office.run_slow(_leave, staging)
            raise
        return Stream(
            _send(office, archive, staging),
            media_type=Body.ARCHIVE,
            headers={
                "content-length": str(size_bytes),
                "content-disposition": 'attachment; filename="bundle.tar"',
                "cache-control": "no-store",
                "x-request-id": visit.actor.request_id,
            },
        )

    return export


async def _send(
    office: Office, archive: Path, staging: AbstractContextManager[Path]
) -> AsyncIterator[bytes]:
    try:
        with await office.run_slow(archive.open, "rb") as file:
            while chunk := await office.run_slow(file.read, _CHUNK_BYTES):
                yield chunk
    finally:
        _leave(staging)


def _lines(office: Office, operation: Operation) -> HTTPRouteHandler:
    @route(
        typed_path(operation),
        http_method=[HttpMethod(operation.method)],
        status_code=operation.status,
        opt=asking(operation.verb),
        name=operation.name,
    )
    async def lines(request: AnyRequest) -> Stream:
        body = await read_body(request)
        visit = Visit.of(request)
        asked = read_request(
            operation.request,
            request.path_params,
            request.query_params.multi_items(),
            visit.header("content-type"),
            body,
        )
        visit.caller.check(operation.verb, model_of(asked))
        given = visit.administration(office.reception).lines(asked)
        # Looked at before the status is sent: what is refused is refused now.
        first = await office.run_slow(_piece, given)
        return Stream(
            _stream(office, first, given),
            status_code=operation.status,
            media_type=Body.LINES,
            headers={"cache-control": "no-store", "x-request-id": visit.actor.request_id},
        )

    return lines


async def _stream(office: Office, first: bytes, given: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await office.run_slow(_piece, given)


def _piece(given: Iterator[bytes]) -> bytes:
    """Some of the lines; none at the end."""
    piece = bytearray()
    for line in given:
        piece += line
        if len(piece) >= _PIECE_BYTES:
            break
    return bytes(piece)


def _leave(staging: AbstractContextManager[Path]) -> None:
    staging.__exit__(None, None, None)
