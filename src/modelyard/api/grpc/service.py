"""The protocol's RPCs about servers and models, each a function from its request to its answer."""

import importlib.metadata
from typing import Final

from modelyard.api.asks import seen_listings
from modelyard.api.grpc.messages import (
    InferBatchStatistics,
    InferStatistics,
    ModelConfig,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelInput,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelOutput,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatistics,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
    StatisticDuration,
)
from modelyard.api.grpc.rpc import Rpc
from modelyard.api.refusals import no_operations, refuse_load_parameters
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.ports import Exchange, Operations, ServedStatistics, Spent
from modelyard.core.signature import TensorSpec

_EXTENSIONS: Final = ("classification", "model_repository", "schedule_policy", "statistics")
_MAX_BATCH: Final = 2**31 - 1
"""Of a model that takes batches: a call may have as many rows as fit into a message."""


class InferenceService:
    """Answers each RPC, or raises an error of ours; every method runs on the exchange's loop."""

    def __init__(self, exchange: Exchange, operations: Operations | None = None) -> None:
        self._exchange = exchange
        self._operations = operations

    def model_ready(self, request: ModelReadyRequest, rpc: Rpc) -> ModelReadyResponse:
        """Whether a model answers; one that is not here does not."""
        try:
            self._exchange.find(request.name, request.version or None)
        except (NotFound, Unavailable):
            return ModelReadyResponse(ready=False)
        return ModelReadyResponse(ready=True)

    def model_metadata(self, request: ModelMetadataRequest, rpc: Rpc) -> ModelMetadataResponse:
        """What a model takes and gives."""
        served = self._exchange.find(request.name, request.version or None)
        versions = {
            listing.version
            for listing in self._exchange.listings()
            if listing.model == served.model and listing.ready
        }
        return ModelMetadataResponse(
            name=served.model,
            versions=[str(version) for version in sorted(versions | {served.version})],
            platform=served.platform,
            inputs=[_metadata(spec) for spec in served.signature.inputs],
            outputs=[_metadata(spec) for spec in served.signature.outputs],
        )

    def server_live(self, _: ServerLiveRequest, rpc: Rpc) -> ServerLiveResponse:
        """Whether the process answers: it just did."""
        return ServerLiveResponse(live=True)

    def server_ready(self, _: ServerReadyRequest, rpc: Rpc) -> ServerReadyResponse:
        """Whether this node serves what the registry asks of it."""
        return ServerReadyResponse(ready=self._exchange.is_ready())

    def server_metadata(self, _: ServerMetadataRequest, rpc: Rpc) -> ServerMetadataResponse:
        """Name and version of the server."""
        return ServerMetadataResponse(
            name="modelyard",
            version=importlib.metadata.version("modelyard"),
            extensions=_EXTENSIONS,
        )

    def repository_index(
        self, request: RepositoryIndexRequest, rpc: Rpc
    ) -> RepositoryIndexResponse:
        """Every version that is routed here, of the models that the caller may know of."""
        return RepositoryIndexResponse(
            models=[
                RepositoryIndexResponse.ModelIndex(
                    name=listing.model,
                    version=str(listing.version),
                    state="READY" if listing.ready else "UNAVAILABLE",
                    reason=listing.reason,
                )
                for listing in seen_listings(self._exchange, rpc.caller.principal)
                if listing.ready or not request.ready
            ]
        )

    def model_config(self, request: ModelConfigRequest, rpc: Rpc) -> ModelConfigResponse:
        """What Triton's clients ask of a model before they call it."""
        served = self._exchange.find(request.name, request.version or None)
        signature = served.signature
        first_axis = 1 if signature.batched else 0
        return ModelConfigResponse(
            config=ModelConfig(
                name=served.model,
                platform=served.platform,
                max_batch_size=_MAX_BATCH if signature.batched else 0,
                input=[
                    ModelInput(
                        name=spec.name,
                        data_type=_data_type(spec),
                        dims=spec.shape[first_axis:],
                    )
                    for spec in signature.inputs
                ],
                output=[
                    ModelOutput(
                        name=spec.name,
                        data_type=_data_type(spec),
                        dims=spec.shape[first_axis:],
                    )
                    for spec in signature.outputs
                ],
            )
        )

    async def model_statistics(
        self, request: ModelStatisticsRequest, rpc: Rpc
    ) -> ModelStatisticsResponse:
        """What versions have done since they were loaded, over every worker of the node."""
        if self._operations is None:
            raise Unavailable("no_statistics", "this server keeps no statistics of its models")
        found = await self._operations.statistics(request.name or None, request.version or None)
        sees = rpc.caller.principal.sees
        return ModelStatisticsResponse(
            model_stats=[_statistics(each) for each in found if sees(each.model)]
        )

    async def repository_model_load(
        self, request: RepositoryModelLoadRequest, rpc: Rpc
    ) -> RepositoryModelLoadResponse:
        """Deploy a model's newest version."""
        refuse_load_parameters(request.parameters)
        await self._changing().load(request.model_name, rpc.acting())
        return RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: RepositoryModelUnloadRequest, rpc: Rpc
    ) -> RepositoryModelUnloadResponse:
        """Take a model's route away."""
        await self._changing().unload(request.model_name, rpc.acting())
        return RepositoryModelUnloadResponse()

    def _changing(self) -> Operations:
        if self._operations is None:
            raise no_operations()
        return self._operations


def _metadata(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def _data_type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.datatype is Datatype.BYTES else f"TYPE_{spec.datatype}"


def _statistics(found: ServedStatistics) -> ModelStatistics:
    return ModelStatistics(
        name=found.model,
        version=str(found.version),
        last_inference=found.last_ms,
        inference_count=found.rows,
        execution_count=found.compute.count,
        inference_stats=InferStatistics(
            success=_duration(found.success),
            fail=_duration(found.fail),
            queue=_duration(found.queue),
            compute_infer=_duration(found.compute),
            cache_hit=_duration(found.cache_hit),
        ),
        batch_stats=[
            InferBatchStatistics(batch_size=rows, compute_infer=_duration(spent))
            for rows, spent in sorted(found.batches.items())
        ],
    )


def _duration(spent: Spent) -> StatisticDuration:
    return StatisticDuration(count=spent.count, ns=spent.ns)
