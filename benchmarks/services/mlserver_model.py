"""MLServer: a runtime of one's own, with its codecs, as its documentation shows."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from served import Served


class Onnx(MLModel):
    async def load(self) -> bool:
        self._served = Served()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = {
            tensor.name: NumpyCodec.decode_input(tensor).astype(
                self._served.inputs[tensor.name], copy=False
            )
            for tensor in payload.inputs
        }
        outputs = self._served.run(arrays)
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, array) for name, array in outputs.items()],
        )
