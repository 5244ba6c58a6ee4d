"""The recipe: how a model is made of a table, as a TOML file says it. Knows no data."""

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from modelyard.bundle.manifest import Card
from modelyard.core.errors import Invalid, NotFound
from modelyard.core.names import check_name
from modelyard.train import toml
from modelyard.train.algorithms import TASKS, Task, algorithm, parameters_of
from modelyard.train.choices import choices
from modelyard.train.hints import did_you_mean, quoted
from modelyard.train.metrics import METRICS, metrics_of

ColumnType = Literal["number", "integer", "boolean", "text"]
Part = Literal["train", "validation", "test"]
Strategy = Literal["auto", "drop", "mean", "median", "most_frequent", "keep"]
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What a CSV cell may hold to say that it holds nothing."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the table is: one of `csv`, `parquet` (paths from the recipe's folder) and `sql`.

    `sql` is an SQLAlchemy URL; `${NAME}` in it is taken from the environment, for secrets.
    `separator`, `decimal`, `encoding` and `missing` are about CSV; `types` names columns.
    """

    csv: str | None = None
    parquet: str | None = None
    sql: str | None = None
    query: str | None = None
    separator: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = MISSING
    types: dict[str, ColumnType] = {}


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A missing value is replaced by this one."""

    constant: bool | int | float | str


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of missing values: by kind of column, and by column where `columns` says so.

    `drop` removes the row before the split. All others fill in inside the fitted pipeline, so
    that callers may leave the value out too. `keep` hands missing numbers to an algorithm that
    takes them, and makes missing text a category of its own; `auto` keeps where the algorithm can
    and takes the median otherwise.
    """

    numbers: Strategy | Constant = "auto"
    text: Strategy | Constant = "most_frequent"
    columns: dict[str, Strategy | Constant] = {}


class Outliers(msgspec.Struct, frozen=True, kw_only=True):
    """Which numbers of the train part are too far out, and what becomes of them.

    `iqr`: more than `factor` interquartile ranges outside the quartiles (Tukey; 1.5).
    `zscore`: more than `factor` standard deviations from the mean (3).
    `percentile`: below the `factor`-th or above the (100 - `factor`)-th percentile (1).
    The limits are learnt from the train part and applied to it alone: the scores are of rows as
    callers will send them.
    """

    rule: Literal["iqr", "zscore", "percentile"]
    factor: float | None = None
    action: Literal["drop", "clip"] = "drop"
    columns: tuple[str, ...] | None = None


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """What is mended before training."""

    missing: Missing = Missing()
    duplicates: Literal["keep", "drop"] = "keep"
    outliers: Outliers | None = None


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a number, both included."""

    minimum: float | None = None
    maximum: float | None = None


class Validate(msgspec.Struct, frozen=True, kw_only=True):
    """What must be true of the cleaned table, by column."""

    required: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    ranges: dict[str, Range] = {}
    allowed: dict[str, tuple[bool | int | float | str, ...]] = {}
    regex: dict[str, str] = {}
    min_rows: int = 0

    @property
    def columns(self) -> frozenset[str]:
        """Every column that a condition names."""
        return frozenset(
            (*self.required, *self.not_null, *self.unique, *self.ranges, *self.allowed, *self.regex)
        )


class Prepare(msgspec.Struct, frozen=True, kw_only=True):
    """Scaling of numbers and encoding of text, inside the fitted pipeline.

    `scale = "auto"` standardises for algorithms that measure distances or descend gradients.
    `unknown` says what a category that training never saw does to a call.
    """

    scale: Literal["auto", "none", "standard", "minmax", "robust"] = "auto"
    encode: Literal["onehot", "ordinal"] = "onehot"
    max_categories: int = 200
    unknown: Literal["ignore", "error"] = "ignore"


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Fractions of the rows, and the seed of everything random in training.

    `stratify` unset: by class wherever every class has rows enough for it.
    """

    train: float | None = None
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    stratify: bool | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that get rows."""
        return ("train", "validation", "test") if self.validation else ("train", "test")


class AlgorithmChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A textbook name, and the parameters that shall differ from their defaults."""

    name: str
    parameters: dict[str, Any] = {}


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that the model must meet to be deployable."""

    metric: str
    dataset: Part = "test"
    minimum: float | None = None
    maximum: float | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what a training makes of its data.

    `features` unset: every column but the target and those in `drop`. `positive` is the class
    that precision, recall and F1 of a binary classifier are about (unset: the last in order).
    """

    name: str
    target: str
    source: Source
    algorithm: AlgorithmChoice
    task: Literal["auto", "classification", "regression"] = "auto"
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    positive: bool | int | str | None = None
    metrics: tuple[str, ...] = ()
    clean: Clean = Clean()
    validate: Validate = Validate()
    prepare: Prepare = Prepare()
    split: Split = Split()
    gate: tuple[Gate, ...] = ()
    card: Card = Card()

    def render(self) -> bytes:
        """The recipe as TOML, one spelling for one recipe; loading it gives the same recipe."""
        return toml.dumps(msgspec.to_builtins(self)).encode()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises `NotFound`, or `Invalid` naming the file and the key."""
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise NotFound("no_such_recipe", f"there is no recipe {path}", field=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("bad_recipe", f"{path} cannot be read: {error}", field=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise Invalid("bad_recipe", f"{path} is not TOML: {error}", field=str(path)) from None
    return parse_recipe(document, str(path))


def parse_recipe(document: Mapping[str, object], where: str = "the recipe") -> Recipe:
    """A recipe of plain values; `where` begins every message of the `Invalid` it may raise."""
    try:
        _refuse_unknown(document, Recipe, "")
        recipe = msgspec.convert(document, Recipe)
        _check(recipe)
    except msgspec.ValidationError as error:
        reason, key = _plainly(str(error))
        raise Invalid("bad_recipe", f"{where}: {reason}", field=key) from None
    except Invalid as error:
        raise Invalid(error.code, f"{where}: {error.message}", field=error.field) from None
    return recipe


def recipe_for(
    data: Path,
    target: str,
    algorithm: str,
    name: str,
    *,
    task: Literal["auto", "classification", "regression"] = "auto",
    parameters: Mapping[str, object] | None = None,
    drop: tuple[str, ...] = (),
    seed: int = 0,
) -> Recipe:
    """A recipe of defaults for a table on disk; train it with `base=data.parent`.

    The format is told by the suffix: `.parquet`, `.tsv`, anything else is CSV.
    """
    kind = "parquet" if data.suffix.lower() in (".parquet", ".pq") else "csv"
    source: dict[str, object] = {kind: data.name}
    if data.suffix.lower() == ".tsv":
        source["separator"] = "\t"
    return parse_recipe(
        {
            "name": name,
            "target": target,
            "task": task,
            "drop": list(drop),
            "source": source,
            "algorithm": {"name": algorithm, "parameters": dict(parameters or {})},
            "split": {"seed": seed},
        },
        "the command line",
    )


def _refuse_unknown(value: object, wanted: Any, path: str) -> None:
    """Walk values and types together; msgspec would name the unknown key, but not the near one."""
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        if not isinstance(value, Mapping):
            return
        hints = get_type_hints(wanted)
        for key, inner in value.items():
            here = f"{path}.{key}" if path else key
            if key not in hints:
                raise Invalid(
                    "unknown_key",
                    f"'{here}' is no key of a recipe{did_you_mean(key, hints)}",
                    field=here,
                )
            _refuse_unknown(inner, hints[key], here)
    elif get_origin(wanted) is tuple and isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unknown(inner, get_args(wanted)[0], f"{path}[{index}]")
    elif get_origin(wanted) is dict and isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unknown(inner, get_args(wanted)[1], f"{path}.{key}")
    else:
        for option in get_args(wanted):
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                _refuse_unknown(value, option, path)


def _plainly(message: str) -> tuple[str, str | None]:
    """msgspec's message in the words of a recipe, and the key it is about."""
    reason, _, path = message.partition(" - at `$")
    key = path.rstrip("`").lstrip(".") or None
    reason = reason.replace("`", "'").replace("Object missing required field", "missing key")
    reason = reason[:1].lower() + reason[1:]
    known = choices(Recipe, key) if key else ()
    if known and "enum value" in reason:
        reason += did_you_mean(reason.partition("'")[2].rstrip("'"), known)
    return (f"'{key}': {reason}" if key else reason), key


def _check(recipe: Recipe) -> None:
    check_name(recipe.name)
    _check_source(recipe.source)
    _check_columns(recipe)
    _check_split(recipe)
    _check_limits(recipe)
    chosen = algorithm(recipe.algorithm.name)
    for task in TASKS if recipe.task == "auto" else (recipe.task,):
        if recipe.task != "auto" or task in chosen.forms:
            chosen.form(task)
    _check_parameters(recipe)
    _check_metrics(recipe)


def _check_parameters(recipe: Recipe) -> None:
    """Refuse parameters that fit no task that the recipe may turn out to be of."""
    chosen = algorithm(recipe.algorithm.name)
    tasks: list[Task] = [recipe.task] if recipe.task != "auto" else list(chosen.forms)
    errors: list[Invalid] = []
    for task in tasks:
        try:
            parameters_of(recipe.algorithm.name, task, recipe.algorithm.parameters)
        except Invalid as error:
            errors.append(error)
    if len(errors) == len(tasks):
        raise errors[0]


def _check_source(source: Source) -> None:
    given = [key for key in ("csv", "parquet", "sql") if getattr(source, key) is not None]
    if len(given) != 1:
        raise Invalid(
            "bad_recipe",
            "[source] must have exactly one of 'csv', 'parquet' and 'sql', not "
            + (quoted(given) if given else "none"),
            field="source",
        )
    if (source.sql is None) != (source.query is None):
        raise Invalid("bad_recipe", "'sql' and 'query' go together", field="source.query")
    if len(source.separator) != 1 or source.separator in '"\r\n':
        raise Invalid(
            "bad_recipe", "'source.separator' must be one character", field="source.separator"
        )


def _check_columns(recipe: Recipe) -> None:
    if recipe.target in recipe.drop or recipe.target in (recipe.features or ()):
        raise Invalid(
            "bad_recipe",
            f"the target '{recipe.target}' cannot be a feature or a dropped column too",
            field="target",
        )
    if recipe.features is not None:
        if not recipe.features:
            raise Invalid(
                "bad_recipe", "'features' is empty; leave it out for all", field="features"
            )
        twice = [name for name in recipe.features if recipe.features.count(name) > 1]
        both = [name for name in recipe.features if name in recipe.drop]
        if twice or both:
            raise Invalid(
                "bad_recipe",
                f"'{(twice or both)[0]}' is named twice in 'features' and 'drop'",
                field="features",
            )


def _check_split(recipe: Recipe) -> None:
    split = recipe.split
    rest = 1.0 - split.validation - split.test
    if not (0.0 <= split.validation < 1.0 and 0.0 < split.test < 1.0 and rest > 1e-9):
        raise Invalid(
            "bad_recipe",
            "the fractions of [split] must leave rows for train and test: "
            f"validation is {split.validation:g}, test {split.test:g}",
            field="split",
        )
    if split.train is not None and not math.isclose(split.train, rest, abs_tol=1e-9):
        raise Invalid(
            "bad_recipe",
            f"train, validation and test of [split] add up to {split.train + 1 - rest:g}, not 1",
            field="split.train",
        )
    if not 0 <= split.seed < 2**32:
        raise Invalid("bad_recipe", "'split.seed' must lie in 0 to 2^32-1", field="split.seed")


def _check_limits(recipe: Recipe) -> None:
    for pattern_of, pattern in recipe.validate.regex.items():
        try:
            re.compile(pattern)
        except re.error as error:
            key = f"validate.regex.{pattern_of}"
            raise Invalid("bad_recipe", f"'{key}' is no pattern: {error}", field=key) from None
    outliers = recipe.clean.outliers
    if outliers is not None and outliers.factor is not None:
        top = 50.0 if outliers.rule == "percentile" else math.inf
        if not 0.0 < outliers.factor < top:
            raise Invalid(
                "bad_recipe",
                f"'clean.outliers.factor' is {outliers.factor:g}; it must be above 0"
                + (" and below 50" if top == 50.0 else ""),
                field="clean.outliers.factor",
            )
    if recipe.prepare.max_categories < 2:
        raise Invalid(
            "bad_recipe",
            "'prepare.max_categories' must be 2 or more",
            field="prepare.max_categories",
        )


def _check_metrics(recipe: Recipe) -> None:
    known = METRICS if recipe.task == "auto" else metrics_of(recipe.task)
    asked = [("metrics", name) for name in recipe.metrics]
    asked += [(f"gate[{index}].metric", gate.metric) for index, gate in enumerate(recipe.gate)]
    for field, name in asked:
        if name not in known:
            of = "" if recipe.task == "auto" else f" for a {recipe.task}"
            raise Invalid(
                "unknown_metric",
                f"'{name}' is no metric{of}{did_you_mean(name, known)}",
                field=field,
            )
    for index, gate in enumerate(recipe.gate):
        if gate.minimum is None and gate.maximum is None:
            raise Invalid(
                "bad_recipe",
                f"the gate on '{gate.metric}' needs a 'minimum' or a 'maximum'",
                field=f"gate[{index}]",
            )
        if gate.dataset not in recipe.split.parts:
            raise Invalid(
                "bad_recipe",
                f"the gate on '{gate.metric}' looks at '{gate.dataset}', which gets no rows",
                field=f"gate[{index}].dataset",
            )
