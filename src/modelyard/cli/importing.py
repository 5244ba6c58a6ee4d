"""`modelyard import`: a model file becomes a version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli import publishing
from modelyard.cli.report import describe
from modelyard.cli.screen import note, say, say_facts, say_json
from modelyard.cli.settings import Json, Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Sample = pd.DataFrame | NDArray[np.generic] | dict[str, NDArray[np.generic]]


def import_file(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="ONNX, skops, XGBoost JSON or UBJ, LightGBM text; pickle and joblib only with "
            "--trust-pickle.",
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Real rows as callers will send them (CSV, Parquet, JSON, npz, npy): names the "
            "columns, proves the conversion, warms up the server.",
        ),
    ] = None,
    deploy: Annotated[bool, typer.Option("--deploy", help="Route calls to it at once.")] = False,
    package: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME==VERSION",
            help="A package that the model needs in another version than the server has: it is "
            "served in a process and environment of its own. May be given several times.",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Open a pickle, which can run any code: only for files of your own.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a model file as the next version.

    Converted to ONNX where that is proven equal.
    """
    from modelyard.core.names import check_name
    from modelyard.yard import Imported

    settings = Settings.of(context)
    rows = None if sample is None else read_sample(sample)
    trusted = settings.config(trust_pickle=trust_pickle or None).trust_pickle
    imported = Imported(path, check_name(name), rows, package or (), trusted)
    published = publishing.publish(settings, imported.package)
    version, manifest = published.version, published.manifest
    if as_json:
        say_json(
            {
                "version": version,
                "conversion": manifest.conversion,
                "serving": manifest.serving,
                "signature": manifest.signature,
            }
        )
    else:
        say_facts(describe(manifest))
        say(f"published {version.model}:{version.number}, {version.digest}")
    if deploy:
        publishing.deploy(settings, version)
        note(f"calls to {version.model} go to version {version.number}")


def read_sample(path: Path) -> "Sample":
    """Rows or named arrays from a file, told by its suffix."""
    from modelyard.core.errors import Invalid, MissingExtra, NotFound

    if not path.is_file():
        raise NotFound("no_such_file", f"there is no sample file {path}", field=str(path))
    try:
        return _read(path, path.suffix.lower())
    except ImportError:
        raise MissingExtra("sklearn", "reading a sample table") from None
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise Invalid(
            "bad_sample", f"the sample {path} cannot be read: {error!s:.200}", field=str(path)
        ) from None


def _read(path: Path, suffix: str) -> "Sample":
    if suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if suffix == ".npy":
        import numpy as np

        array: NDArray[np.generic] = np.load(path, allow_pickle=False)
        return array
    import pandas as pd

    if suffix in (".parquet", ".pq"):
        return pd.read_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return pd.read_json(path, lines=True)
    if suffix == ".json":
        return pd.read_json(path)
    return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",")
