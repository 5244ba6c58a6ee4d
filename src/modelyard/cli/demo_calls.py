"""How the demo calls its server: as curl does, and as a gRPC client of any language does."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from modelyard.core.errors import MissingExtra

if TYPE_CHECKING:
    from modelyard.core.datatypes import Array
    from modelyard.core.signature import Signature

_TIMEOUT_S: Final = 10.0


class Caller:
    """Posts one row, kept in a file, as often as asked; any answer but a good one raises."""

    def __init__(self, url: str, key: str, model: str, row: Path) -> None:
        import httpx

        self._client = httpx.Client(
            base_url=url, timeout=_TIMEOUT_S, headers={"authorization": f"Bearer {key}"}
        )
        self._path = f"/predict/{model}"
        self._body = row.read_bytes()
        self.answers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def post(self) -> dict[str, Any]:
        """The answer to the row."""
        answer = self._client.post(self._path, content=self._body)
        answer.raise_for_status()
        self.answers += 1
        content: dict[str, Any] = answer.json()
        return content


def infer_over_grpc(
    address: str, key: str, model: str, signature: "Signature", rows: object
) -> list[str]:
    """The labels of rows: raw tensors there, raw labels back. Raises `MissingExtra`."""
    try:
        import grpc
    except ImportError:
        raise MissingExtra("grpc", "calling it from here") from None

    from modelyard.api.grpc.messages import SERVICE, ModelInferRequest, ModelInferResponse
    from modelyard.client.tables import to_tensors
    from modelyard.core.tensors import to_raw

    request = ModelInferRequest(model_name=model)
    datatypes = {spec.name: spec.datatype for spec in signature.inputs}
    for name, array in to_tensors(signature, rows).items():
        request.inputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        request.raw_input_contents.append(to_raw(array))
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {key}"),)
        return _labels(infer(request, metadata=metadata, timeout=_TIMEOUT_S))


def _labels(response: Any) -> list[str]:
    from modelyard.core.datatypes import Datatype
    from modelyard.core.table import LABEL
    from modelyard.core.tensors import from_raw

    index = [output.name for output in response.outputs].index(LABEL)
    output, raw = response.outputs[index], response.raw_output_contents[index]
    labels: Array = from_raw(Datatype(output.datatype), tuple(output.shape), raw, LABEL)
    return [str(label) for label in labels.reshape(-1)]
