"""What a training was made of: Python and package versions."""

import platform
from importlib.metadata import PackageNotFoundError, version

_ALWAYS = ("modelyard", "scikit-learn", "numpy", "scipy", "pandas", "pyarrow")
_BY_ALGORITHM = {"xgboost": ("xgboost-cpu", "xgboost"), "lightgbm": ("lightgbm",)}


def python_version() -> str:
    """The interpreter, as `3.11.2`."""
    return platform.python_version()


def package_versions(algorithm: str) -> dict[str, str]:
    """The versions of the packages that a training of this algorithm runs through."""
    found: dict[str, str] = {}
    for package in (*_ALWAYS, *_BY_ALGORITHM.get(algorithm, ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
