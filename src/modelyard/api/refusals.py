"""What every protocol refuses in the same words: tensors and parameters that no model here has."""

from collections.abc import Container, Iterable, Mapping
from typing import Final

from modelyard.core.errors import Invalid
from modelyard.core.signature import TensorSpec

_UNSUPPORTED: Final = {
    "shared_memory_region": "tensors travel in the message here, not in shared memory",
    "classification": "ask for the output itself, not for its classification",
}


def input_spec(specs: Mapping[str, TensorSpec], name: str, datatype: str) -> TensorSpec:
    """The input of that name; raises `Invalid` for another name or another datatype."""
    spec = specs.get(name)
    if spec is None:
        raise Invalid(
            "unknown_input",
            f"the model has no input '{name:.140}'; it takes {_listed(specs)}",
            field=name,
        )
    if datatype != spec.datatype:
        raise Invalid(
            "wrong_datatype", f"input '{name}' is {spec.datatype}, not {datatype:.20}", field=name
        )
    return spec


def output_spec(specs: Mapping[str, TensorSpec], name: str) -> TensorSpec:
    """The output of that name; raises `Invalid` for another."""
    spec = specs.get(name)
    if spec is None:
        raise Invalid(
            "unknown_output",
            f"the model has no output '{name:.140}'; it gives {_listed(specs)}",
            field=name,
        )
    return spec


def refuse_unsupported(parameters: Container[str], name: str) -> None:
    """Refuse tensor parameters that would change what is answered, and that are not served."""
    for parameter, instead in _UNSUPPORTED.items():
        if parameter in parameters:
            raise Invalid("unsupported", f"'{parameter}' is not supported: {instead}", field=name)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
