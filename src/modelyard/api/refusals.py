"""What every protocol refuses in the same words: tensors and parameters that no model here has."""

import math
from collections.abc import Container, Iterable, Mapping
from typing import Final

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid, Unavailable
from modelyard.core.limits import MONEY, Headroom
from modelyard.core.signature import TensorSpec

_UNSUPPORTED: Final = {
    "shared_memory_region": "tensors travel in the message here, not in shared memory",
    "shared_memory_byte_size": "tensors travel in the message here, not in shared memory",
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


def column_datatype(name: str, datatype: str) -> Datatype:
    """The datatype of a tensor that is a table's column; raises `Invalid` for an unknown one."""
    try:
        return Datatype(datatype)
    except ValueError:
        raise Invalid(
            "wrong_datatype",
            f"column '{name:.140}' is of '{datatype:.20}', which is no datatype: use "
            + ", ".join(Datatype),
            field=name,
        ) from None


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


def not_generative(model: str) -> Invalid:
    """What a model that predicts says to a request for generated text."""
    return Invalid(
        "not_generative",
        f"'{model:.140}' predicts; generate and generate_stream are reserved for models that "
        "generate text. Call infer",
        field="model",
    )


def headroom_fields(headroom: Headroom) -> list[tuple[str, str]]:
    """How a limit stands, as headers or trailing metadata; `reset` is in seconds."""
    unit = headroom.unit if headroom.unit == MONEY else f"{headroom.unit}s"
    fields = [
        (f"x-ratelimit-limit-{unit}", str(headroom.limit)),
        (f"x-ratelimit-remaining-{unit}", str(max(headroom.remaining, 0))),
    ]
    if headroom.resets_s is not None:
        fields.append((f"x-ratelimit-reset-{unit}", str(max(0, math.ceil(headroom.resets_s)))))
    return fields


def no_operations() -> Unavailable:
    """What a server answers that follows no registry, so that nothing can be changed by it."""
    return Unavailable("no_operations", "this server follows no registry; it loads nothing")


def refuse_load_parameters(parameters: Iterable[str]) -> None:
    """Refuse what would make a load bring its own model or configuration; ignore the rest."""
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Invalid(
                "unsupported",
                f"'{name:.80}' is not supported: a model is loaded as its version was published",
                field=name,
            )
