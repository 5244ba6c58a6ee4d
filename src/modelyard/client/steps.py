"""What the client does, as steps without I/O: each yields what it needs and is sent what came.

A step sequence yields a `Request` and is sent a `Response` or a `Failure`, or yields a `Pause`
and is sent None; what it returns is the caller's answer. The clients drive it, one by blocking
and one by awaiting, so that both do exactly the same.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

from modelyard.client.messages import (
    Answer,
    Request,
    Response,
    error_of,
    infer_request,
    read_answer,
    read_json,
    read_signature,
)
from modelyard.client.tables import cast, to_tensors
from modelyard.core.datatypes import Array
from modelyard.core.errors import Conflict, Invalid, ModelyardError, NotFound
from modelyard.core.signature import Signature
from modelyard.core.table import main_output, probabilities_output

T = TypeVar("T")
_CONNECT_PAUSES_S: Final = (0.1, 0.5)
_MAX_PAUSE_S: Final = 5.0
_MAX_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came. `was_sent` says whether the server may have read the request."""

    error: ModelyardError
    was_sent: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before going on."""

    seconds: float


Steps = Generator[Request | Pause, Response | Failure | None, T]


class Session:
    """What a client remembers between calls: the signatures of models.

    A version never changes, so its signature is kept for good. Which version answers an
    unversioned call is known only from its answer: where that is not the version whose signature
    shaped the request, and the two differ, the request is shaped anew and sent to that version
    by number. So a deployment between two calls can never put values into the wrong columns.
    """

    def __init__(self) -> None:
        self._signatures: dict[tuple[str, str | None], Signature] = {}

    def predict(self, model: str, rows: object, version: int | None) -> Steps[Array]:
        """The label or value of each row."""
        return (yield from self._one_output(model, rows, version, main_output))

    def predict_proba(self, model: str, rows: object, version: int | None) -> Steps[Array]:
        """The probability of each class for each row."""
        return (yield from self._one_output(model, rows, version, probabilities_output))

    def _one_output(self, model: str, rows: object, version: int | None, pick: Any) -> Steps[Array]:
        def shape(signature: Signature) -> tuple[dict[str, Array], list[str]]:
            return to_tensors(signature, rows), [pick(signature).name]

        outputs = yield from self._call(model, version, shape)
        (array,) = outputs.values()
        is_column = array.ndim == 2 and array.shape[1] == 1 and pick is main_output
        return array[:, 0] if is_column else array

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Iterable[str] | None,
        version: int | None,
    ) -> Steps[dict[str, Array]]:
        """The outputs of one call, by name."""
        names = None if outputs is None else list(outputs)

        def shape(signature: Signature) -> tuple[dict[str, Array], list[str] | None]:
            return cast(signature, inputs), names

        return (yield from self._call(model, version, shape))

    def _call(self, model: str, version: int | None, shape: Any) -> Steps[dict[str, Array]]:
        asked = None if version is None else str(version)
        wanted, is_remembered = asked, (model, asked) in self._signatures
        signature = yield from self._signature(model, asked)
        for _ in range(_MAX_TRIES):
            try:
                tensors, names = shape(signature)
                path = f"{_path(model, wanted)}/infer"
                answer = yield from _answer(infer_request(path, tensors, names))
            except (Invalid, NotFound):
                # Perhaps what we remember of the model is not so any more.
                if not is_remembered and wanted == asked:
                    raise
                fresh = yield from self._refresh(model, asked)
                if fresh == signature and wanted == asked:
                    raise
                signature, wanted, is_remembered = fresh, asked, False
                continue
            if wanted is not None or answer.version is None:
                return answer.outputs
            true = yield from self._signature(model, answer.version)
            if true == signature:
                return answer.outputs
            self._signatures[model, None] = signature = true
            wanted = answer.version
        raise Conflict(
            "signature_changed", f"'{model}' was deployed anew while it was called; call again"
        )

    def _signature(self, model: str, version: str | None) -> Steps[Signature]:
        known = self._signatures.get((model, version))
        return known if known is not None else (yield from self._refresh(model, version))

    def _refresh(self, model: str, version: str | None) -> Steps[Signature]:
        metadata = yield from self.metadata(model, version)
        signature = read_signature(metadata)
        self._signatures[model, version] = signature
        versions = metadata.get("versions")
        if version is None and isinstance(versions, list) and len(versions) == 1:
            self._signatures[model, str(versions[0])] = signature
        return signature

    def metadata(self, model: str, version: int | str | None) -> Steps[dict[str, Any]]:
        """The server's description of a model, always asked for anew."""
        path = _path(model, None if version is None else str(version))
        found: dict[str, Any] = read_json((yield from _success(Request("GET", path))))
        return found

    def models(self) -> Steps[list[dict[str, Any]]]:
        """Every version that the server should serve, with its state."""
        request = Request("GET", "/v2/repository/index")
        found: list[dict[str, Any]] = read_json((yield from _success(request)))
        return found

    def is_live(self) -> Steps[bool]:
        """Whether the server answers; one that cannot be reached does not."""
        return (yield from _is_well("/v2/health/live"))

    def is_ready(self, model: str | None) -> Steps[bool]:
        """Whether the server, or one model on it, is ready."""
        path = "/v2/health/ready" if model is None else f"{_path(model, None)}/ready"
        return (yield from _is_well(path))


def _path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _answer(request: Request) -> Steps[Answer]:
    return read_answer((yield from _success(request)))


def _is_well(path: str) -> Steps[bool]:
    response = yield Request("GET", path)
    return isinstance(response, Response) and response.status == 200


def _success(request: Request) -> Steps[Response]:
    """The response, if it is one; what failed before anything ran is tried again, a few times."""
    for attempt in range(_MAX_TRIES):
        response = yield request
        is_last = attempt == _MAX_TRIES - 1
        if isinstance(response, Failure):
            # What was sent may have been run; only reading twice is harmless.
            may_repeat = not response.was_sent or request.method == "GET"
            if is_last or not may_repeat:
                raise response.error
            yield Pause(_CONNECT_PAUSES_S[attempt])
            continue
        if not isinstance(response, Response):
            raise TypeError("a request was answered with neither a response nor a failure")
        if response.status < 400:
            return response
        pause_s = _retry_after_s(response)
        if is_last or pause_s is None:
            raise error_of(response)
        yield Pause(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _retry_after_s(response: Response) -> float | None:
    """Seconds until a refused call may come again; None where it was not refused, or too long."""
    after = response.headers.get("retry-after", "")
    if response.status != 503 or not (after.isascii() and after.isdecimal()):
        return None
    seconds = float(after[:9])
    return seconds if seconds <= _MAX_PAUSE_S else None
