"""`modelyard.publish` and `modelyard.load`: the yard's two most used verbs, in one call."""

from pathlib import Path
from typing import Any

from modelyard.core.names import Reference
from modelyard.core.records import Version
from modelyard.local import LocalModel
from modelyard.yard import Yard


def publish(
    model: object, *, name: str, sample: Any, home: Path | str | None = None, deploy: bool = False
) -> Version:
    """Publish a fitted estimator as the next version of `name`; see `Yard.publish`.

    With `deploy`, calls to `name` go to it at once.
    """
    with Yard.open(home) as yard:
        version = yard.publish(model, name=name, sample=sample)
        if deploy:
            yard.deploy(Reference(version.model, version=version.number))
        return version


def load(reference: str, *, home: Path | str | None = None) -> LocalModel:
    """A version for predictions in this process: `churn`, `churn:3` or `churn@champion`."""
    with Yard.open(home) as yard:
        return yard.load(Reference.parse(reference))
