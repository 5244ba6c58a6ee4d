"""What is done with a hostile file, in the process that is made for it."""

import dataclasses
import resource
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.manifest import Conversion, Format, Framework, Lineage, Serving
from modelyard.bundle.samples import decode_samples
from modelyard.cli.importing import read_sample
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import ModelyardError
from modelyard.core.signature import Signature, TensorSpec
from modelyard.packaging.package import package_file
from modelyard.runtimes.open import open_runtime
from modelyard.yard import Yard

_ROOM_BYTES = 3 * 1024**3
_TIME_S = 40
ROWS = np.random.default_rng(0).random((20, 3))


def run_limited(
    answer: Connection, action: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Do it with little room and little time, and say how it ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_TIME_S, _TIME_S))
    with Path("/proc/self/statm").open() as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        action(*arguments)
    except ModelyardError as error:
        answer.send(("refused", error.code, error.message))
    except BaseException as error:  # noqa: BLE001 - what it was is what the test asks
        answer.send(("broke", type(error).__name__, str(error)))
    else:
        answer.send(("done", "", ""))


def import_file(path: Path, home: Path) -> None:
    """`modelyard import`."""
    with Yard.open(home) as yard:
        yard.import_file(path, name="m", sample=ROWS)


def package(path: Path) -> None:
    """The same without a home, and without a sample."""
    with tempfile.TemporaryDirectory() as folder:
        package_file(path, name="m", staging=Path(folder))


def import_archive(path: Path, home: Path) -> None:
    """`modelyard bundle import`."""
    with Yard.open(home) as yard:
        yard.import_archive(path)


def serve(data: bytes, format: str, others: dict[str, bytes]) -> None:
    """Open a bundle that somebody has made around the bytes, and answer from it."""
    with tempfile.TemporaryDirectory() as folder:
        builder = BundleBuilder(Path(folder))
        builder.add("model.bin", data)
        for path, content in others.items():
            builder.add(path, content, "application/vnd.onnx.external-data")
        width = 2 if format == "onnx" else 3
        bundle = builder.build(
            name="m",
            framework=Framework("none", "0"),
            serving=Serving(Format(format), "model.bin"),
            conversion=Conversion(Format.ONNX, "native"),
            signature=Signature(
                inputs=(TensorSpec("x", Datatype.FP32, (-1, width)),),
                outputs=(TensorSpec("y", Datatype.FP32, (-1, width)),),
            ),
            lineage=Lineage(),
        )
        runtime = open_runtime(bundle)
        answers = runtime.run({"x": np.zeros((2, width), np.float32)})
        # Whatever a graph reads that is not its own, it must not say.
        assert format != "onnx" or not answers["y"].any(), "it answers with bytes not given to it"
        runtime.close()


def read_samples(data: bytes) -> None:
    """The sample file of a bundle."""
    samples = decode_samples(data)
    assert dataclasses.is_dataclass(samples)


def read_table(path: Path) -> None:
    """What `--sample` names."""
    read_sample(path)
