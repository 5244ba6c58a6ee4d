"""What every bundle holds beside its model: sample rows, lineage, evaluation, card, files."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.manifest import Card, Evaluation, Lineage
from modelyard.bundle.samples import SAMPLES_PATH, Samples, encode_samples
from modelyard.core.ports import Arrays, Runtime
from modelyard.optimise.parity import cast_inputs

_SAMPLE_ROWS: Final = 16


@dataclass(frozen=True, slots=True)
class Extras:
    """What a bundle holds beside its model."""

    lineage: Lineage | None = None
    evaluation: Evaluation | None = None
    card: Card | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def add_samples(builder: BundleBuilder, runtime: Runtime, inputs: Arrays | None) -> str | None:
    """Put a few rows and the runtime's answers into the bundle; None where there are none."""
    if not inputs:
        return None
    few = {name: array[:_SAMPLE_ROWS] for name, array in inputs.items()}
    few = cast_inputs(runtime.signature, few)
    builder.add(SAMPLES_PATH, encode_samples(Samples(few, runtime.run(few))))
    return SAMPLES_PATH


def complete(lineage: Lineage | None, versions: Mapping[str, str]) -> Lineage:
    """The lineage, with package versions and Python's where it does not have them."""
    lineage = lineage or Lineage()
    return msgspec.structs.replace(
        lineage,
        packages=lineage.packages or dict(versions),
        python=lineage.python or platform.python_version(),
    )
