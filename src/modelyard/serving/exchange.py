"""The exchange: which endpoint answers for which model, and the swap of one for another."""

from collections.abc import Iterable
from typing import Final, cast

from modelyard.core.call import Call
from modelyard.core.errors import ModelyardError, NotFound, Unavailable
from modelyard.core.ports import NO_HEADERS, Headers, Listing, Served
from modelyard.core.route import Route, Target
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.route_report import RouteReport, ShadowCounts, ShadowReport, TargetReport
from modelyard.serving.shadow import Mirror
from modelyard.serving.split import Split

_LOADING: Final = "it is being loaded"
_SOON_S: Final = 1.0


class LocalExchange:
    """The endpoints of this process. Used on the event loop's thread only.

    Looking a model up that has one version is one dictionary entry, and so is exchanging it for
    another. What answers is arranged anew whenever a route, an endpoint or a failure changes: a
    version that is not loaded gives its share to the stable one, and while the stable one is not
    loaded, whatever answered before goes on.
    """

    def __init__(self) -> None:
        self._answering: dict[str, Endpoint] = {}
        """Of the models whose calls all go to one version."""
        self._splits: dict[str, Split] = {}
        self._mirrors: dict[Endpoint, Mirror] = {}
        """By the endpoint whose calls are copied."""
        self._shadows: dict[str, Mirror] = {}
        self._routes: dict[str, Route] = {}
        self._given: dict[str, tuple[Target, ...]] = {}
        """The shares in force, by model."""
        self._loaded: dict[str, dict[int, Endpoint]] = {}
        self._failures: dict[tuple[str, int], str] = {}
        self._closing = 0
        self._is_synced = False
        self._is_draining = False

    def find(
        self, model: str, version: str | None = None, headers: Headers = NO_HEADERS
    ) -> Endpoint:
        """The endpoint that answers for a model, or exactly that version of its route."""
        endpoint = self._answering.get(model)
        if endpoint is not None:
            return endpoint if not version else self._find_version(model, version)
        if version and model in self._loaded:
            return self._find_version(model, version)
        split = self._splits.get(model)
        if split is None:
            raise self._why_not(model)
        return split.choose(headers)

    def submit(self, call: Call) -> None:
        """Hand the call to its endpoint; it ends through its own reply, always."""
        endpoint: Endpoint = call.served  # type: ignore[assignment] # ours alone are found here
        if self._mirrors:
            mirror = self._mirrors.get(endpoint)
            if mirror is not None:
                mirror.offer(call)
        try:
            endpoint.accept(call)
        except ModelyardError as error:
            call.fail(error)

    def serves(self, served: Served) -> bool:
        """Whether calls to this version are still taken: it was not swapped for another."""
        return not cast(Endpoint, served).is_retired

    def listings(self) -> list[Listing]:
        """Every version that is served or should be."""
        return [
            self._listing(model, version)
            for model in sorted(self._routes)
            for version in sorted({*self._routes[model].versions, *self._loaded.get(model, ())})
        ]

    def is_ready(self) -> bool:
        """Whether the routes were followed once, every model answers, and we are not stopping.

        A model that is just being loaded for the first time makes nobody unready.
        """
        return (
            self._is_synced
            and not self._is_draining
            and all(model in self._given for model, _ in self._failures)
            and all(endpoint.trouble is None for endpoint in self._answering.values())
            and all(split.stable.trouble is None for split in self._splits.values())
        )

    def follow(self, routes: Iterable[Route]) -> None:
        """Let these be the routes; endpoints that they no longer need are retired."""
        wanted = {route.model: route for route in routes}
        for model in [model for model in self._routes if model not in wanted]:
            self.remove(model)
        for model, route in wanted.items():
            if route != self._routes.get(model):
                self._routes[model] = route
                self._arrange(model)

    def install(self, endpoint: Endpoint) -> None:
        """Let an endpoint answer from now on; the one before it finishes what it has accepted.

        A version that no route asks for takes all calls to its model.
        """
        model, version = endpoint.model, endpoint.version
        route = self._routes.get(model)
        if route is None or version not in route.versions:
            self._routes[model] = Route(model=model, generation=0, targets=(Target(version),))
        loaded = self._loaded.setdefault(model, {})
        before = loaded.get(version)
        loaded[version] = endpoint
        self._failures.pop((model, version), None)
        self._arrange(model)
        if before is not None:
            self._retire(before)

    def remove(self, model: str) -> None:
        """Answer for a model no more."""
        self._routes.pop(model, None)
        self._given.pop(model, None)
        self._answering.pop(model, None)
        self._splits.pop(model, None)
        self._shadows.pop(model, None)
        self._forget_failures(model, ())
        for endpoint in self._loaded.pop(model, {}).values():
            self._mirrors.pop(endpoint, None)
            self._retire(endpoint)

    def report_failure(self, model: str, version: int, reason: str) -> None:
        """Remember that a version cannot be served; whatever works goes on working."""
        self._failures[model, version] = reason

    def clear_failure(self, model: str, version: int) -> None:
        """Forget a failure, because the route asks for what works."""
        self._failures.pop((model, version), None)

    def mark_synced(self) -> None:
        """The registry's routes have been followed at least once."""
        self._is_synced = True

    def drain(self) -> None:
        """Say that we are not ready any more; calls are still answered."""
        self._is_draining = True

    def serving(self) -> dict[str, int]:
        """The version of each model that most calls go to."""
        return {model: targets[0].version for model, targets in self._given.items()}

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint in place."""
        return [endpoint for loaded in self._loaded.values() for endpoint in loaded.values()]

    def endpoint(self, model: str, version: int) -> Endpoint | None:
        """That endpoint, where it is in place."""
        return self._loaded.get(model, {}).get(version)

    def mirror(self, model: str) -> Mirror | None:
        """What copies a model's calls to its shadow, where something does."""
        return self._shadows.get(model)

    def report(self) -> list[RouteReport]:
        """How every route stands here, as plain data; see `merge_routes`."""
        return [self._report(self._routes[model]) for model in sorted(self._routes)]

    def standing(self, model: str, generation: int | None) -> str | None:
        """How a model stands by its route of that generation or a later one: "" where it answers,
        else why not; None while that is open. Without a generation it should not be routed.
        """
        route = self._routes.get(model)
        if generation is None:
            return "" if route is None else None
        if route is None or route.generation < generation:
            return None
        lines = [self._listing(model, target.version) for target in route.targets]
        for line in lines:
            if not line.ready:
                return None if line.reason == _LOADING else line.reason
        return ""

    @property
    def open_calls(self) -> int:
        """Calls that were admitted and have not ended, on endpoints in place."""
        return sum(endpoint.open_calls for endpoint in self.endpoints())

    def close(self) -> None:
        """Retire every endpoint."""
        for model in list(self._routes):
            self.remove(model)

    @property
    def closing(self) -> int:
        """Endpoints that are retired and still have calls to finish."""
        return self._closing

    def _arrange(self, model: str) -> None:
        """Work out anew what answers for a model, and retire what is needed no more."""
        route, loaded = self._routes[model], self._loaded.get(model, {})
        targets = self._targets(route, loaded)
        endpoints = [loaded[target.version] for target in targets]
        if len(targets) == 1:
            self._answering[model] = endpoints[0]
            self._splits.pop(model, None)
        elif targets:
            self._splits[model] = Split(model, route.sticky, targets, endpoints)
            self._answering.pop(model, None)
        if targets:
            self._given[model] = targets
        self._mirror(route, loaded, endpoints)
        self._forget_failures(model, route.versions)
        kept = {*route.versions, *(target.version for target in targets)}
        for version in [version for version in loaded if version not in kept]:
            self._retire(loaded.pop(version))

    def _targets(self, route: Route, loaded: dict[int, Endpoint]) -> tuple[Target, ...]:
        """The shares that can be given now."""
        before = self._given.get(route.model)
        if route.number not in loaded and before is not None:
            return before
        present = [target for target in route.targets if target.version in loaded]
        if not present:
            return ()
        rest = 100.0 - sum(target.percent for target in present[1:])
        return (Target(present[0].version, rest), *present[1:])

    def _mirror(self, route: Route, loaded: dict[int, Endpoint], answering: list[Endpoint]) -> None:
        for endpoint in loaded.values():
            self._mirrors.pop(endpoint, None)
        shadow = route.shadow
        known = self._shadows.get(route.model)
        if shadow is None or (known is not None and known.endpoint.version != shadow.version):
            self._shadows.pop(route.model, None)
            known = None
        if shadow is None or shadow.version not in loaded:
            return
        endpoint = loaded[shadow.version]
        if known is None:
            known = self._shadows[route.model] = Mirror(endpoint, shadow)
        else:
            known.replace(endpoint, shadow)
        for each in answering:
            if each is not endpoint:
                self._mirrors[each] = known

    def _find_version(self, model: str, version: str) -> Endpoint:
        loaded = self._loaded[model]
        for number, endpoint in loaded.items():
            if version == str(number):
                return endpoint
        for (name, number), reason in self._failures.items():
            if name == model and version == str(number):
                raise _not_serving(model, number, reason)
        there = [str(number) for number in sorted(loaded)]
        are = f"{there[0]} is" if len(there) == 1 else f"{', '.join(there)} are"
        raise NotFound(
            "unknown_version",
            f"version '{version:.40}' of '{model}' is not deployed here; {are}",
            field="version",
        )

    def _why_not(self, model: str) -> ModelyardError:
        route = self._routes.get(model)
        if route is not None:
            for version in route.versions:
                reason = self._failures.get((model, version))
                if reason is not None:
                    return _not_serving(model, version, reason)
        if not self._is_synced:
            return Unavailable(
                "starting",
                "the server is starting and loads its models; try again in a moment",
                retry_after_s=_SOON_S,
            )
        if route is not None:
            return _not_serving(model, route.number, _LOADING, retry_after_s=_SOON_S)
        return NotFound("unknown_model", f"no model '{model:.140}' is deployed here", field="model")

    def _listing(self, model: str, version: int) -> Listing:
        endpoint = self._loaded.get(model, {}).get(version)
        reason = self._failures.get((model, version), "")
        if endpoint is None:
            return Listing(model, version, ready=False, reason=reason or _LOADING)
        trouble = endpoint.trouble
        return Listing(model, version, ready=trouble is None, reason=trouble or reason)

    def _report(self, route: Route) -> RouteReport:
        given = {target.version: target.percent for target in self._given.get(route.model, ())}
        asked = {target.version: target.percent for target in route.targets}
        lines = {
            version: self._listing(route.model, version) for version in {*route.versions, *given}
        }
        shadow, mirror = None, self._shadows.get(route.model)
        if route.shadow is not None:
            line = lines[route.shadow.version]
            shadow = ShadowReport(
                version=route.shadow.version,
                percent=route.shadow.percent,
                ready=line.ready,
                reason=line.reason,
                counts=mirror.report() if mirror is not None else ShadowCounts(),
            )
        return RouteReport(
            model=route.model,
            generation=route.generation,
            targets=tuple(
                TargetReport(
                    version=version,
                    asked=asked.get(version, 0.0),
                    given=given.get(version, 0.0),
                    ready=lines[version].ready,
                    reason=lines[version].reason,
                )
                for version in dict.fromkeys((*asked, *given))
            ),
            sticky=route.sticky,
            shadow=shadow,
        )

    def _forget_failures(self, model: str, kept: tuple[int, ...]) -> None:
        for name, version in [*self._failures]:
            if name == model and version not in kept:
                del self._failures[name, version]

    def _retire(self, endpoint: Endpoint) -> None:
        self._mirrors.pop(endpoint, None)
        self._closing += 1
        endpoint.retire(self._count_closed)

    def _count_closed(self) -> None:
        self._closing -= 1


def _not_serving(
    model: str, version: int, reason: str, retry_after_s: float | None = None
) -> Unavailable:
    return Unavailable(
        "not_serving",
        f"'{model}:{version}' is deployed but cannot be served: {reason}",
        field="model",
        retry_after_s=retry_after_s,
    )
