"""Paths beyond the protocols' own: what the clouds ask of a container, and which model they mean.

Sources: Amazon SageMaker, "Custom inference code with hosting services" (`GET /ping`,
`POST /invocations`); Google Vertex AI, "Custom container requirements" (`AIP_HEALTH_ROUTE`,
`AIP_PREDICT_ROUTE`); Azure ML inference HTTP server, its routes (`POST /score`, `GET /`,
`GET /swagger.json`). None of them names a model, so the server has to know which is meant.
"""

from dataclasses import dataclass
from typing import Final

from modelyard.api.asks import seen_listings
from modelyard.core.errors import Invalid, NotFound, Unavailable
from modelyard.core.identity import Principal
from modelyard.core.ports import Exchange, Headers

LIVE: Final = b"/v2/health/live"
READY: Final = b"/v2/health/ready"
PING: Final = "/ping"
INVOCATIONS: Final = "/invocations"
SCORE: Final = "/score"
_TARGET: Final = b"x-amzn-sagemaker-target-model"
_ARCHIVE: Final = ".tar.gz"


@dataclass(frozen=True, slots=True)
class Contracts:
    """The clouds' side of a server: the model behind paths that name none, and Vertex's paths.

    An empty `default_model` means the only one that is deployed.
    """

    default_model: str = ""
    health_route: str = ""
    predict_route: str = ""

    @property
    def ready_paths(self) -> frozenset[bytes]:
        """Paths whose GET says whether this server answers calls."""
        return frozenset(path.encode() for path in (PING, self.health_route) if path)

    def choose(self, exchange: Exchange, headers: Headers, principal: Principal) -> str:
        """The model that a call means: the one its header names, the setting's, or the only one.

        The only one is that of those that the caller may know of. A multi-model endpoint of
        SageMaker names the archive that a model was uploaded in.
        """
        target = headers.get(_TARGET)
        if target is not None:
            return target.decode("utf-8", "replace").strip("/").removesuffix(_ARCHIVE)
        if self.default_model:
            return self.default_model
        models = sorted({listing.model for listing in seen_listings(exchange, principal)})
        if len(models) == 1:
            return models[0]
        if models:
            raise Invalid(
                "which_model",
                "this path names no model and several are deployed: set 'default_model' to one of "
                + ", ".join(f"'{model}'" for model in models[:20]),
                field="default_model",
            )
        if not exchange.is_ready():
            raise Unavailable(
                "starting", "the server is starting; try again in a moment", retry_after_s=1.0
            )
        raise NotFound("no_model", "no model is deployed here: run 'modelyard deploy MODEL'")


NO_CLOUD: Final = Contracts()
"""A server outside any cloud."""
