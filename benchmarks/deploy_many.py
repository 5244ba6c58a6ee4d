"""Deploy one model under many names: `python -m benchmarks.deploy_many HOME MODEL FROM TO`.

Through the Python API and in one process: a command line a name would take minutes. The bundle is
made once; each name is a manifest of its own over the same files.
"""

import sys
from pathlib import Path

import msgspec

from modelyard.bundle.bundle import Bundle
from modelyard.core.names import Reference
from modelyard.yard import Yard


def model_name(number: int) -> str:
    """The name of the so-manieth model."""
    return f"small-{number}"


def deploy(home: Path, model: Path, first: int, last: int) -> None:
    """Publish and deploy the names from `first` to before `last`."""
    with Yard.open(home) as yard:
        for number in range(first, last):
            name = model_name(number)
            if number == 0:
                yard.import_file(model, name=name)
            else:
                original = yard.bundle(Reference.parse(model_name(0)))
                manifest = msgspec.structs.replace(original.manifest, name=name)
                yard.registry.publish(Bundle(manifest, original.files), actor=yard.actor)
            yard.deploy(Reference(name, version=1))


if __name__ == "__main__":
    home, model, first, last = sys.argv[1:]
    deploy(Path(home), Path(model), int(first), int(last))
