"""What a request's head asks of how it is run and answered, whatever contract its body follows."""

from dataclasses import dataclass
from typing import Final

from modelyard.api.http.encoding import WORTH_PACKING, Coding, coding_for
from modelyard.api.http.wire import Answer
from modelyard.api.parameters import Schedule, deadline_after
from modelyard.core.errors import Invalid, ModelyardError
from modelyard.core.ports import Headers

TIMEOUT: Final = b"x-request-timeout-ms"
"""How many milliseconds the caller waits for its answer."""
_ENVOY_TIMEOUT: Final = b"x-envoy-expected-rq-timeout-ms"
"""Envoy, and with it Istio and KServe's gateways, says by itself how long it will wait."""
_ACCEPT_ENCODING: Final = b"accept-encoding"
_ECHOED: Final = (
    b"x-request-id",
    b"x-ms-request-id",
    b"x-ms-client-request-id",
    b"x-amzn-sagemaker-custom-attributes",
)
"""Headers by which callers and clouds tell answers apart: sent back as they came."""
_SPECIAL: Final = frozenset((TIMEOUT, _ENVOY_TIMEOUT, _ACCEPT_ENCODING, *_ECHOED))
_LONGEST_ECHO: Final = 1024
_MAX_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Preferences:
    """A head's wishes: the milliseconds to wait, a coding for the answer, header lines to echo.

    `refusal` is set where one of them cannot be met, and then the request must not be run.
    """

    timeout_ms: int | None = None
    coding: Coding | None = None
    echo: bytes = b""
    refusal: ModelyardError | None = None

    def packs(self, answer: Answer) -> bool:
        """Whether the answer is to be packed before it is sent."""
        return self.coding is not None and (
            len(answer.body) >= WORTH_PACKING or self.coding.is_demanded
        )

    def echoing(self, answer: Answer) -> Answer:
        """The answer with the headers that are sent back."""
        if not self.echo:
            return answer
        return Answer(answer.body, answer.content_type, answer.extra_headers + self.echo)

    def packed(self, answer: Answer) -> Answer:
        """The answer, packed. Cost: a millisecond for some ten to hundred kilobytes."""
        if self.coding is None:
            return answer
        return Answer(
            self.coding.pack(answer.body),
            answer.content_type,
            b"%bcontent-encoding: %b\r\nvary: accept-encoding\r\n"
            % (answer.extra_headers, self.coding.name),
        )


def schedule_of(preferences: Preferences | None, schedule: Schedule | None) -> Schedule:
    """The schedule of a call: what the body asks for, and the earlier of its two deadlines."""
    asked = schedule or Schedule()
    if preferences is None or preferences.timeout_ms is None:
        return asked
    deadline_ns = deadline_after(preferences.timeout_ms * 1_000_000)
    if asked.deadline_ns is not None:
        deadline_ns = min(deadline_ns, asked.deadline_ns)
    return Schedule(deadline_ns, asked.priority, asked.parameters)


def preferences_of(headers: Headers) -> Preferences | None:
    """The wishes in a head; None, as nearly always, where it has none."""
    if _SPECIAL.isdisjoint(headers):
        return None
    echo = b"".join(
        b"%b: %b\r\n" % (name, headers[name]) for name in _ECHOED if _is_short(headers, name)
    )
    try:
        timeout_ms = _timeout_ms(headers)
        accepted = headers.get(_ACCEPT_ENCODING)
        coding = None if accepted is None else coding_for(accepted)
    except ModelyardError as error:
        return Preferences(echo=echo, refusal=error)
    if timeout_ms is None and coding is None and not echo:
        return None
    return Preferences(timeout_ms, coding, echo)


def _is_short(headers: Headers, name: bytes) -> bool:
    value = headers.get(name)
    return value is not None and len(value) <= _LONGEST_ECHO


def _timeout_ms(headers: Headers) -> int | None:
    """The shorter of the caller's own timeout and its proxy's."""
    own = headers.get(TIMEOUT)
    timeout_ms = None if own is None else _milliseconds(own)
    if own is not None and not timeout_ms:
        header = TIMEOUT.decode()
        raise Invalid(
            "bad_timeout", f"header '{header}' is a whole number of milliseconds", field=header
        )
    # The caller can do nothing about a proxy's header that cannot be read.
    proxys = _milliseconds(headers.get(_ENVOY_TIMEOUT, b""))
    return min(timeout_ms or proxys, proxys) if proxys else timeout_ms


def _milliseconds(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None
