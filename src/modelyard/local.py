"""A version loaded for predictions in this process: no server, the same answers."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from modelyard.client.tables import cast, to_tensors
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.ports import Runtime
from modelyard.core.signature import Signature, TensorSpec
from modelyard.core.table import main_output, probabilities_output


class LocalModel:
    """What `Client` does for a server, done here. Safe to share between threads."""

    def __init__(self, model: str, version: int, runtime: Runtime) -> None:
        self.model = model
        self.version = version
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"<LocalModel {self.model}:{self.version}>"

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._runtime.signature

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of a classifier's classes, in the order of `predict_proba`'s columns."""
        return tuple(column.name for column in probabilities_output(self.signature).columns)

    def predict(self, rows: object) -> Array:
        """The label or value of each row; `rows` as in `Client.predict`."""
        array = self._answer(rows, main_output(self.signature))
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array

    def predict_proba(self, rows: object) -> Array:
        """The probabilities, of shape [rows, classes]."""
        return self._answer(rows, probabilities_output(self.signature))

    def infer(
        self, inputs: Mapping[str, Any], outputs: Iterable[str] | None = None
    ) -> dict[str, Array]:
        """Named arrays in, named arrays out: all outputs, or those named."""
        tensors = cast(self.signature, inputs)
        self.signature.check(tensors)
        answered = self._runtime.run(tensors)
        if outputs is None:
            return answered
        wanted = list(outputs)
        for name in wanted:
            if name not in answered:
                raise Invalid("unknown_output", f"the model has no output '{name}'", field=name)
        return {name: answered[name] for name in wanted}

    def close(self) -> None:
        """Free the model."""
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, rows: object, output: TensorSpec) -> Array:
        tensors = to_tensors(self.signature, rows)
        self.signature.check(tensors)
        return self._runtime.run(tensors)[output.name]
