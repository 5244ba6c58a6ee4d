"""The exchange: which endpoint answers for which model, and the swap of one for another."""

from dataclasses import dataclass
from typing import cast

from modelyard.core.call import Call
from modelyard.core.errors import ModelyardError, NotFound, Unavailable
from modelyard.core.ports import NO_HEADERS, Headers, Listing, Served
from modelyard.serving.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that a route asks for and that could not be served, and why."""

    version: int
    reason: str


class LocalExchange:
    """The endpoints of this process. Used on the event loop's thread only.

    Looking a model up is one dictionary entry, and so is exchanging one version for another.
    """

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._failures: dict[str, Failure] = {}
        self._closing = 0
        self._is_synced = False
        self._is_draining = False

    def find(
        self, model: str, version: str | None = None, headers: Headers = NO_HEADERS
    ) -> Endpoint:
        """The endpoint that answers for a model, or for exactly that version of it."""
        endpoint = self._endpoints.get(model)
        if endpoint is None:
            failure = self._failures.get(model)
            if failure is not None:
                raise Unavailable(
                    "not_serving",
                    f"'{model}:{failure.version}' is deployed but cannot be served: "
                    f"{failure.reason}",
                    field="model",
                )
            if not self._is_synced:
                raise Unavailable(
                    "starting", "the server is starting and loads its models; try again in a moment"
                )
            raise NotFound(
                "unknown_model", f"no model '{model:.140}' is deployed here", field="model"
            )
        if version and version != str(endpoint.version):
            raise NotFound(
                "unknown_version",
                f"version '{version:.40}' of '{model}' is not deployed here; {endpoint.version} is",
                field="version",
            )
        return endpoint

    def submit(self, call: Call) -> None:
        """Hand the call to its endpoint; it ends through its own reply, always."""
        try:
            cast(Endpoint, call.served).accept(call)
        except ModelyardError as error:
            call.fail(error)

    def serves(self, served: Served) -> bool:
        """Whether calls to this version are still taken: it was not swapped for another."""
        return not cast(Endpoint, served).is_retired

    def listings(self) -> list[Listing]:
        """Every version that is served or should be."""
        served = [
            Listing(endpoint.model, endpoint.version, ready=True)
            for endpoint in self._endpoints.values()
        ]
        failed = [
            Listing(model, failure.version, ready=False, reason=failure.reason)
            for model, failure in self._failures.items()
        ]
        return sorted(served + failed, key=lambda line: (line.model, line.version))

    def is_ready(self) -> bool:
        """Whether the routes were followed once, every model answers, and we are not stopping."""
        return (
            self._is_synced
            and not self._is_draining
            and all(model in self._endpoints for model in self._failures)
        )

    def install(self, endpoint: Endpoint) -> None:
        """Let an endpoint answer from now on; the one before it finishes what it has accepted."""
        before = self._endpoints.get(endpoint.model)
        self._endpoints[endpoint.model] = endpoint
        self._failures.pop(endpoint.model, None)
        if before is not None:
            self._retire(before)

    def remove(self, model: str) -> None:
        """Answer for a model no more."""
        self._failures.pop(model, None)
        endpoint = self._endpoints.pop(model, None)
        if endpoint is not None:
            self._retire(endpoint)

    def report_failure(self, model: str, version: int, reason: str) -> None:
        """Remember that a version cannot be served; whatever works goes on working."""
        self._failures[model] = Failure(version, reason)

    def clear_failure(self, model: str) -> None:
        """Forget a failure, because the route no longer asks for that version."""
        self._failures.pop(model, None)

    def mark_synced(self) -> None:
        """The registry's routes have been followed at least once."""
        self._is_synced = True

    def drain(self) -> None:
        """Say that we are not ready any more; calls are still answered."""
        self._is_draining = True

    def serving(self) -> dict[str, int]:
        """The version being served of each model."""
        return {model: endpoint.version for model, endpoint in self._endpoints.items()}

    @property
    def open_calls(self) -> int:
        """Calls that were admitted and have not ended, on endpoints in place."""
        return sum(endpoint.open_calls for endpoint in self._endpoints.values())

    def close(self) -> None:
        """Retire every endpoint."""
        for model in list(self._endpoints):
            self.remove(model)

    def _retire(self, endpoint: Endpoint) -> None:
        self._closing += 1
        endpoint.retire(self._count_closed)

    def _count_closed(self) -> None:
        self._closing -= 1

    @property
    def closing(self) -> int:
        """Endpoints that are retired and still have calls to finish."""
        return self._closing
