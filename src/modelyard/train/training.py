"""From a recipe to a trained model: read, clean, validate, split, fit, evaluate, gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.bundle.manifest import Card, Evaluation, Lineage
from modelyard.core.errors import MissingExtra
from modelyard.train.algorithms import Algorithm, Parameters, Task, algorithm, parameters_of
from modelyard.train.hints import counted, require
from modelyard.train.progress import Progress, Silence
from modelyard.train.recipe import AlgorithmChoice, Part, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.train.evaluation import Report
    from modelyard.train.fitting import Fitted, Rows
    from modelyard.train.table import Table

RECIPE_PATH = "recipe.toml"
CURVE_PATH = "evaluation/learning-curve.json"
_SAMPLE_ROWS = 2000


@dataclass(frozen=True)
class Trained:
    """A fitted model with everything a bundle wants to know about it.

    `estimator` is a scikit-learn pipeline: raw feature columns by name in, labels or values out.
    `sample` is up to 2,000 raw feature rows as a caller would send them, test rows first.
    `files` are paths and bytes for the bundle; `notes` are sentences for the person who trained.
    """

    name: str
    estimator: object
    sample: "pd.DataFrame"
    evaluation: Evaluation
    lineage: Lineage
    card: Card
    files: dict[str, bytes]
    recipe: Recipe
    notes: tuple[str, ...] = ()


def train(recipe: Recipe, *, base: Path, progress: Progress | None = None) -> Trained:
    """Train what the recipe says, its paths taken from `base`. Nothing is written anywhere.

    Raises `Invalid` or `NotFound` for what is wrong with recipe or data, `MissingExtra`. The same
    recipe and data give the same model and the same files.
    """
    for module in ("pandas", "pyarrow", "sklearn"):
        require(module, "sklearn", "training")
    return _Training(recipe, base, progress or Silence()).run()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The table cleaned, checked and cut."""

    table: "Table"
    recipe: Recipe
    chosen: Algorithm
    task: Task
    parameters: Parameters
    features: list[str]
    parts: Mapping[Part, "Rows"]


class _Training:
    """One training on its way; collects the notes of every step."""

    def __init__(self, recipe: Recipe, base: Path, progress: Progress) -> None:
        self._recipe = recipe
        self._base = base
        self._progress = progress
        self._notes: list[str] = []

    def run(self) -> Trained:
        prepared = self._prepare()
        fitted = self._fit(prepared)
        report, evaluation, files = self._evaluate(prepared, fitted)
        return Trained(
            name=prepared.recipe.name,
            estimator=fitted.pipeline,
            sample=_sample(prepared),
            evaluation=evaluation,
            lineage=_lineage(prepared, self._base),
            card=prepared.recipe.card,
            files={RECIPE_PATH: prepared.recipe.render(), **files},
            recipe=prepared.recipe,
            notes=(*self._notes, *report.notes),
        )

    def _prepare(self) -> _Prepared:
        from modelyard.train.cleaning import clean_rows
        from modelyard.train.features import (
            choose_features,
            labels,
            resolve_task,
            useful_features,
        )
        from modelyard.train.source import read_source
        from modelyard.train.validation import validate

        recipe = self._recipe
        self._progress.step("read", _place(recipe))
        table = read_source(recipe, self._base)
        features = choose_features(table, recipe)
        self._progress.step("clean", counted(len(table.frame), "row"))
        table, notes = clean_rows(table, recipe.clean, features, recipe.target)
        self._notes += notes
        self._progress.step("validate", counted(len(table.frame), "row"))
        validate(table, recipe.validate)
        features, notes = useful_features(table, features, recipe)
        self._notes += notes
        chosen = algorithm(recipe.algorithm.name)
        task = resolve_task(recipe.task, table.frame[recipe.target], chosen)
        parameters = parameters_of(chosen.name, task, recipe.algorithm.parameters)
        target = labels(table, recipe.target, task)
        parts = self._split(table, features, target, task)
        resolved = _resolved(recipe, task, features, parameters)
        return _Prepared(table, resolved, chosen, task, parameters, features, parts)

    def _split(
        self, table: "Table", features: list[str], target: "pd.Series", task: Task
    ) -> Mapping[Part, "Rows"]:
        from modelyard.train.cleaning import tame_outliers
        from modelyard.train.fitting import Rows, target_values
        from modelyard.train.splitting import split_rows

        split = self._recipe.split
        self._progress.step("split", f"seed {split.seed}")
        indices, notes = split_rows(target, split, task)
        self._notes += notes
        parts: dict[Part, Rows] = {}
        for part, index in indices.items():
            frame = table.frame.loc[index, features]
            if part == "train":
                frame, notes = tame_outliers(frame, self._recipe.clean.outliers, features)
                self._notes += notes
            parts[part] = Rows(frame, target_values(target.loc[frame.index]))
        return parts

    def _fit(self, prepared: _Prepared) -> "Fitted":
        from modelyard.train.fitting import fit

        train = prepared.parts["train"]
        self._progress.step(
            "fit",
            f"{prepared.chosen.name} on {counted(len(train.features), 'row')} of "
            + counted(len(prepared.features), "column"),
        )
        fitted = fit(
            prepared.recipe,
            prepared.chosen,
            prepared.task,
            prepared.parameters,
            prepared.table.frame[prepared.features],
            train,
            prepared.parts.get("validation"),
            self._progress,
        )
        self._notes += fitted.notes
        return fitted

    def _evaluate(
        self, prepared: _Prepared, fitted: "Fitted"
    ) -> tuple["Report", Evaluation, dict[str, bytes]]:
        from modelyard.train.evaluation import evaluate, positive_class
        from modelyard.train.gate import judge

        recipe, model = prepared.recipe, fitted.pipeline
        self._progress.step("evaluate", ", ".join(prepared.parts))
        positive = None
        if prepared.task == "classification":
            positive = positive_class(model.classes_, recipe.positive)
        if positive is not None:
            self._notes.append(f"precision, recall and F1 are those of class '{positive}'")
        wanted = [*recipe.metrics, *(gate.metric for gate in recipe.gate)] if recipe.metrics else []
        report = evaluate(
            model, prepared.parts, prepared.task, tuple(dict.fromkeys(wanted)), positive
        )
        files = self._draw(prepared, fitted, report, positive)
        plots = tuple(sorted(path for path in files if path.endswith(".svg")))
        self._progress.step("gate", counted(len(recipe.gate), "condition"))
        thresholds, verdict = judge(recipe.gate, report.scores, report.reasons)
        evaluation = Evaluation(
            scores=report.scores, thresholds=thresholds, verdict=verdict, plots=plots
        )
        return report, evaluation, files

    def _draw(
        self, prepared: _Prepared, fitted: "Fitted", report: "Report", positive: object
    ) -> dict[str, bytes]:
        from modelyard.train.importance import importances

        files: dict[str, bytes] = {}
        if fitted.curve is not None:
            files[CURVE_PATH] = msgspec.json.format(msgspec.json.encode(fitted.curve))
        try:
            require("matplotlib", "plots", "plots")
        except MissingExtra as error:
            self._notes.append(f"no plots: {error.message}")
            return files
        from modelyard.train.plots import draw

        classes = fitted.pipeline.classes_ if prepared.task == "classification" else None
        plots = draw(
            report.answers["test"],
            "test",
            confusion=report.scores[-1].confusion,
            classes=classes,
            positive=positive,
            curve=fitted.curve,
            importances=importances(fitted.pipeline, prepared.features),
        )
        return {**files, **plots}


def _place(recipe: Recipe) -> str:
    source = recipe.source
    return source.csv or source.parquet or "a database"


def _resolved(recipe: Recipe, task: Task, features: list[str], parameters: Parameters) -> Recipe:
    """The recipe with everything it left open filled in, and no secret in it."""
    from modelyard.train.source import redacted

    source = recipe.source
    if source.sql is not None:
        source = msgspec.structs.replace(source, sql=redacted(source.sql))
    complete = {
        key: value for key, value in msgspec.to_builtins(parameters).items() if value is not None
    }
    return msgspec.structs.replace(
        recipe,
        task=task,
        features=tuple(features),
        source=source,
        algorithm=AlgorithmChoice(name=recipe.algorithm.name, parameters=complete),
    )


def _sample(prepared: _Prepared) -> "pd.DataFrame":
    """Raw rows of every part, those that training saw least first."""
    import pandas as pd

    order: tuple[Part, ...] = ("test", "validation", "train")
    indices = [prepared.parts[part].features.index for part in order if part in prepared.parts]
    frame = prepared.table.frame[prepared.features]
    chosen = pd.Index([position for index in indices for position in index][:_SAMPLE_ROWS])
    sample: pd.DataFrame = frame.loc[chosen].reset_index(drop=True)
    return sample


def _lineage(prepared: _Prepared, base: Path) -> Lineage:
    from modelyard.packaging.provenance import source_commit
    from modelyard.train.lineage import package_versions, python_version

    recipe = prepared.recipe
    parameters: dict[str, Any] = {
        "algorithm": recipe.algorithm.name,
        "task": prepared.task,
        **recipe.algorithm.parameters,
    }
    return Lineage(
        recipe=RECIPE_PATH,
        parameters=parameters,
        seed=recipe.split.seed,
        data=(prepared.table.dataset,),
        source=source_commit(base),
        packages=package_versions(prepared.chosen.name),
        python=python_version(),
    )
