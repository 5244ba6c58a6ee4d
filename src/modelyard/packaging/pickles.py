"""Pickle and joblib files, opened only where the operator's policy says so."""

import io
from pathlib import Path
from typing import Any

from modelyard.bundle.trust import refuse_pickle
from modelyard.core.errors import Invalid, MissingExtra


def load_pickle(path: Path, *, trust: bool) -> Any:
    """The object in a pickle or joblib file. It runs whatever code the file names.

    Raises `UntrustedFormat` unless `trust`; the object is never stored as a pickle again.
    """
    refuse_pickle(f"'{path.name}'", trust)
    data = path.read_bytes()
    try:
        import joblib
    except ImportError:
        raise MissingExtra("sklearn", "opening a pickled model") from None
    try:
        # joblib reads plain pickles too, compressed or not.
        return joblib.load(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - a pickle can raise anything
        raise Invalid(
            "bad_pickle",
            f"'{path.name}' cannot be opened: {type(error).__name__}: {error!s:.200}",
            field=path.name,
        ) from None
