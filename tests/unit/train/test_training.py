import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.core.errors import Invalid, MissingExtra
from modelyard.train import Trained, load_recipe, recipe_for, train
from modelyard.train.algorithms import ALGORITHMS
from modelyard.train.recipe import parse_recipe

from .tables import csv_table, text

EXAMPLES = Path(__file__).parents[3] / "examples"
FORMS = [(each.name, task) for each in ALGORITHMS.values() for task in each.forms]
SMALL = {
    "random_forest": {"n_estimators": 5},
    "hist_gradient_boosting": {"max_iter": 5},
    "mlp": {"hidden_layer_sizes": [4], "max_iter": 30},
    "xgboost": {"n_estimators": 5},
    "lightgbm": {"n_estimators": 5, "min_child_samples": 5},
    "sgd": {"epochs": 20},
}
Trainer = Callable[..., Trained]


def example(name: str) -> Any:
    """The module of an example's program."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("churn")
    example("make_churn").write(folder / "churn.csv", rows=300)
    return folder


@pytest.fixture
def plotless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra `plots`: drawing is half of a small training's time."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.parametrize(
    ("recipe", "program"),
    [("breast-cancer", "make_breast_cancer"), ("churn", "make_churn")],
)
def test_the_examples_train_and_pass_their_gates(recipe: str, program: str, tmp_path: Path) -> None:
    """What the documentation shows works as it stands."""
    example(program).write(tmp_path / f"{recipe}.csv")
    trained = train(load_recipe(EXAMPLES / f"{recipe}.toml"), base=tmp_path)
    assert trained.name == recipe
    assert trained.evaluation.verdict == "passed"
    assert [score.dataset for score in trained.evaluation.scores] == ["train", "validation", "test"]
    assert trained.card.intended_use
    assert trained.lineage.data[0].source == f"{recipe}.csv"


def test_the_example_tables_are_the_same_each_time(tmp_path: Path) -> None:
    """A seed, not a clock."""
    for name in ("a.csv", "b.csv"):
        example("make_churn").write(tmp_path / name, rows=50)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.usefixtures("plotless")
@pytest.mark.parametrize(("name", "task"), FORMS)
def test_every_algorithm_trains_on_a_mixed_table_with_gaps(
    churn: Path, name: str, task: str
) -> None:
    """Raw rows in, with missing numbers and text, labels or values out; twice the same."""
    target = "churned" if task == "classification" else "monthly_charge"
    recipe = recipe_for(
        churn / "churn.csv",
        target,
        name,
        "m",
        drop=("customer_id",),
        parameters=SMALL.get(name),
    )
    trained, again = (train(recipe, base=churn) for _ in range(2))
    answers = trained.estimator.predict(trained.sample)
    np.testing.assert_array_equal(answers, again.estimator.predict(trained.sample))
    assert trained.files == again.files
    assert trained.evaluation == again.evaluation
    assert trained.sample["region"].isna().any()
    if task == "classification":
        assert set(answers) <= {"yes", "no"}
        assert list(trained.estimator.classes_) == ["no", "yes"]
    assert trained.recipe.task == task
    unseen = trained.sample.head(1).assign(region="atlantis")
    assert len(trained.estimator.predict(unseen)) == 1


@pytest.mark.usefixtures("plotless")
@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("labels", [("0", "1"), ("3", "7"), ("true", "false"), ("a", "b")])
def test_boosters_learn_any_labels(train_csv: Trainer, name: str, labels: tuple[str, str]) -> None:
    """Whole numbers from 0 or not, truth and text come back as they went in."""
    lines = [f"{index},{labels[index // 30]}" for index in range(60)]
    trained = train_csv(text(["a,y", *lines]), algorithm={"name": name, "parameters": SMALL[name]})
    said = trained.estimator.predict(pd.DataFrame({"a": [0, 59]}))
    assert [str(label).lower() for label in said.tolist()] == list(labels)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("sgd", "epoch"),
        ("mlp", "epoch"),
        ("hist_gradient_boosting", "trees"),
        ("xgboost", "trees"),
        ("lightgbm", "trees"),
    ],
)
def test_learning_curves_exist_where_there_are_stages(
    train_csv: Trainer, name: str, unit: str
) -> None:
    """The loss on train falls from the first stage to the last."""
    trained = train_csv(
        text(csv_table(120)),
        algorithm={"name": name, "parameters": SMALL[name]},
        split={"validation": 0.2, "test": 0.2},
    )
    curve = json.loads(trained.files["evaluation/learning-curve.json"])
    assert curve["unit"] == unit
    assert len(curve["at"]) == len(curve["train"])
    assert curve["train"][-1] < curve["train"][0]
    assert bool(curve["validation"]) == (name != "mlp")
    assert "evaluation/learning-curve.svg" in trained.evaluation.plots


def test_a_forest_has_no_learning_curve(train_csv: Trainer) -> None:
    """Its trees do not learn from one another; it has importances instead."""
    files = train_csv(
        text(csv_table()), algorithm={"name": "random_forest", "parameters": {"n_estimators": 5}}
    ).files
    assert "evaluation/learning-curve.json" not in files
    assert b"colour_red" in files["evaluation/feature-importance.svg"]


def test_plots_belong_to_the_task(churn: Path, train_csv: Trainer) -> None:
    """A matrix and a curve for classes, two clouds of points for values; all of them SVG."""
    classes = train_csv(text(csv_table()), algorithm={"name": "knn"})
    assert classes.evaluation.plots == (
        "evaluation/confusion-matrix.svg",
        "evaluation/roc-curve.svg",
    )
    recipe = recipe_for(churn / "churn.csv", "monthly_charge", "knn", "m", drop=("customer_id",))
    values = train(recipe, base=churn)
    assert values.evaluation.plots == (
        "evaluation/predicted-vs-actual.svg",
        "evaluation/residuals.svg",
    )
    for path in values.evaluation.plots:
        assert values.files[path].startswith(b"<?xml")
        assert b"</svg>" in values.files[path]


@pytest.mark.usefixtures("plotless")
def test_without_the_plots_extra_there_are_no_plots(train_csv: Trainer) -> None:
    """The model is trained all the same, and a note says what to install."""
    trained = train_csv(text(csv_table()))
    assert trained.evaluation.plots == ()
    assert any("modelyard[plots]" in note for note in trained.notes)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("xgboost", "xgboost"), ("pandas", "sklearn"), ("pyarrow", "sklearn"), ("sklearn", "sklearn")],
)
def test_a_missing_framework_says_what_to_install(
    train_csv: Trainer, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    """The exact command."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"modelyard\[{extra}\]"):
        train_csv(text(csv_table()), algorithm={"name": "xgboost"})


def test_the_resolved_recipe_makes_the_same_model_again(churn: Path, tmp_path: Path) -> None:
    """What the bundle holds is enough: task, features and parameters are filled in."""
    first = train(
        recipe_for(
            churn / "churn.csv", "churned", "logistic_regression", "m", drop=("customer_id",)
        ),
        base=churn,
    )
    (tmp_path / "recipe.toml").write_bytes(first.files["recipe.toml"])
    resolved = load_recipe(tmp_path / "recipe.toml")
    assert resolved == first.recipe
    assert resolved.task == "classification"
    assert resolved.features is not None
    assert resolved.algorithm.parameters["C"] == 1.0
    again = train(resolved, base=churn)
    assert again.files == first.files
    np.testing.assert_array_equal(
        again.estimator.predict_proba(first.sample), first.estimator.predict_proba(first.sample)
    )


@pytest.mark.usefixtures("plotless")
def test_the_seed_changes_the_model(churn: Path) -> None:
    """Another seed is another split."""
    scores = [
        train(
            recipe_for(
                churn / "churn.csv",
                "churned",
                "decision_tree",
                "m",
                drop=("customer_id",),
                seed=seed,
            ),
            base=churn,
        ).evaluation.scores
        for seed in (1, 2)
    ]
    assert scores[0] != scores[1]


@pytest.mark.usefixtures("plotless")
def test_only_the_train_part_teaches(train_csv: Trainer) -> None:
    """What fills a gap and what scales a number come from train rows alone."""
    lines = ["a,y", *(f"{index if index % 5 else ''},{index / 10}" for index in range(40))]
    trained = train_csv(
        text(lines),
        algorithm={"name": "ridge"},
        split={"validation": 0.25, "test": 0.25, "seed": 4},
    )
    parts = trained.sample["a"]
    train_rows = parts.iloc[20:]
    imputer, scaler = (
        step for _, step in trained.estimator.named_steps["prepare"].transformers_[0][1].steps
    )
    assert imputer.statistics_[0] == train_rows.median()
    assert imputer.statistics_[0] != parts.median()
    assert scaler.mean_[0] == pytest.approx(train_rows.fillna(train_rows.median()).mean())


@pytest.mark.usefixtures("plotless")
def test_the_sample_is_raw_rows_that_training_saw_least_first(train_csv: Trainer) -> None:
    """Unscaled, unfilled, by the columns' own names and types."""
    trained = train_csv(text(csv_table(40)), split={"validation": 0.25, "test": 0.25})
    assert trained.sample.dtypes.astype(str).to_dict() == {
        "size": "float64",
        "count": "int64",
        "colour": "str",
        "wet": "bool",
    }
    assert trained.sample.index.tolist() == list(range(40))
    test_part = trained.evaluation.scores[-1]
    said = trained.estimator.predict(trained.sample.head(10))
    assert test_part.rows == 10
    assert test_part.confusion is not None
    called = dict(zip(*np.unique(said, return_counts=True), strict=True))
    columns = [sum(row[j] for row in test_part.confusion.matrix) for j in range(2)]
    assert columns == [called.get("big", 0), called.get("small", 0)]


@pytest.mark.usefixtures("plotless")
def test_outliers_are_tamed_in_train_alone(train_csv: Trainer) -> None:
    """Test rows are scored as they are, so their number does not change."""
    lines = ["a,b,y", *(f"{index % 7},{index % 3},{index % 2}" for index in range(60))]
    lines += [f"{1000 + index},0,1" for index in range(8)]
    trained = train_csv(text(lines), clean={"outliers": {"rule": "iqr", "factor": 3.0}})
    scores = {score.dataset: score.rows for score in trained.evaluation.scores}
    assert scores["test"] == 17
    assert scores["train"] < 51
    assert any("outliers by iqr: dropped" in note for note in trained.notes)


@pytest.mark.parametrize(
    ("table", "sections", "code", "field"),
    [
        ("a,b\n1,2\n3,4\n", {}, "no_target", "target"),
        ("a;y\n1;2\n", {}, "no_target", "target"),
        ("a,y\n1,\n2,\n", {}, "no_target", "y"),
        ("y\n1\n2\n", {}, "no_features", "features"),
        ("a,y\n1,u\n2,u\n3,u\n", {}, "one_class", "y"),
        ("a,y\n1,u\n2,v\n3,w\n", {}, "too_many_classes", "y"),
        ("a,y\n1,1.5\n2,2\n3,1\n", {"task": "classification"}, "wrong_target", "y"),
        ("a,y\n1,u\n2,v\n", {"task": "regression"}, "wrong_target", "y"),
        ("a,y\n1,1.5\n2,inf\n", {"task": "regression"}, "infinite_values", "y"),
        ("a,y\n1,u\n-inf,v\n3,u\n", {}, "infinite_values", "a"),
        ("a,y\n,u\n,v\n", {}, "no_features", "features"),
        ("a,b,y\n,1,u\n,2,v\n", {"features": ["a", "b"]}, "empty_column", "a"),
        ("a,b,y\n1,1,u\n2,2,v\n", {"features": ["a", "c"]}, "missing_column", "c"),
        ("a,y\n1,u\n2,v\n", {}, "too_few_rows", "split"),
        (
            "a,y\n1,u\n2,v\n",
            {"clean": {"missing": {"columns": {"q": "drop"}}}},
            "missing_column",
            "q",
        ),
        ("a,y\n1,u\n2,v\n", {"validate": {"min_rows": 9}}, "bad_table", None),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_one_clear_error(
    train_csv: Trainer, table: str, sections: dict[str, object], code: str, field: str | None
) -> None:
    """Each with its code and the column or key it is about."""
    with pytest.raises(Invalid) as caught:
        train_csv(table, **sections)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert "\n" not in caught.value.message


def test_infinite_values_are_named_by_line(train_csv: Trainer) -> None:
    """Line 3 of the file, the header being line 1."""
    with pytest.raises(Invalid, match="in line 3"):
        train_csv("a,y\n1,u\ninf,v\n3,u\n")


def test_a_wrong_separator_is_guessed_at(train_csv: Trainer) -> None:
    """A table of one column most likely is one of several."""
    with pytest.raises(Invalid, match=r"source\.separator"):
        train_csv("a;b;y\n1;2;3\n")


@pytest.mark.usefixtures("plotless")
def test_too_many_categories_are_refused_with_the_way_out(train_csv: Trainer) -> None:
    """A name or an identifier is no category."""
    lines = ["name,a,y", *(f"n{index},{index},{index % 2}" for index in range(60))]
    with pytest.raises(Invalid, match="60 different texts") as caught:
        train_csv(text(lines), prepare={"max_categories": 50})
    assert caught.value.field == "name"
    assert train_csv(text(lines), drop=["name"])
    assert train_csv(text(lines), prepare={"max_categories": 60})


@pytest.mark.usefixtures("plotless")
def test_columns_that_tell_nothing_are_left_out_and_noted(train_csv: Trainer) -> None:
    """Callers need not send them; a constant one that is asked for stays."""
    lines = ["a,same,none,y", *(f"{index},1,,{index % 2}" for index in range(40))]
    trained = train_csv(text(lines))
    assert list(trained.sample.columns) == ["a"]
    assert "column 'same' is '1' in every row: left out" in trained.notes
    assert "column 'none' has no values: left out" in trained.notes
    asked = train_csv(text(lines), features=["a", "same"])
    assert list(asked.sample.columns) == ["a", "same"]


def test_validation_names_the_lines_of_the_file_after_cleaning(train_csv: Trainer) -> None:
    """Rows that cleaning dropped still count as lines."""
    with pytest.raises(Invalid, match=r"table\.csv: column 'a' is outside 0 to 9 in line 4"):
        train_csv(
            "a,y\n,u\n1,v\n11,u\n",
            clean={"missing": {"numbers": "drop"}},
            validate={"ranges": {"a": {"minimum": 0, "maximum": 9}}},
        )


def test_what_a_framework_refuses_is_our_error(train_csv: Trainer) -> None:
    """scikit-learn's reason, without its stack."""
    with pytest.raises(Invalid, match="'knn' cannot be fitted") as caught:
        train_csv(
            text(csv_table(20)), algorithm={"name": "knn", "parameters": {"n_neighbors": 10_000}}
        )
    assert caught.value.code == "fit_failed"


@pytest.mark.usefixtures("plotless")
def test_a_fit_that_did_not_converge_is_noted(train_csv: Trainer) -> None:
    """A warning of the framework becomes a sentence of ours."""
    trained = train_csv(
        text(csv_table()),
        algorithm={"name": "mlp", "parameters": {"max_iter": 2, "hidden_layer_sizes": [3]}},
    )
    assert any("ConvergenceWarning" in note for note in trained.notes)


@pytest.mark.usefixtures("plotless")
def test_lineage_tells_how_to_make_it_again(train_csv: Trainer) -> None:
    """Parameters, seed, data, Python and packages; no folder of this machine."""
    lineage = train_csv(text(csv_table()), split={"test": 0.3, "seed": 9}).lineage
    assert lineage.seed == 9
    assert lineage.parameters["algorithm"] == "decision_tree"
    assert lineage.parameters["criterion"] == "gini"
    assert (lineage.data[0].rows, lineage.data[0].columns) == (60, 5)
    assert {"scikit-learn", "numpy", "pandas"} <= set(lineage.packages)
    assert lineage.python == ".".join(map(str, sys.version_info[:3]))
    assert lineage.recipe == "recipe.toml"


class Watcher:
    """Remembers the steps; stops as Ctrl-C would at one of them."""

    def __init__(self, stop_at: str = "") -> None:
        self.steps: list[str] = []
        self.epochs: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def step(self, name: str, detail: str) -> None:
        assert detail
        self.steps.append(name)
        if name == self._stop_at:
            raise KeyboardInterrupt

    def advance(self, done: int, total: int) -> None:
        self.epochs.append((done, total))
        if self._stop_at == "epoch":
            raise KeyboardInterrupt


@pytest.mark.usefixtures("plotless")
def test_progress_is_told_step_by_step(churn: Path) -> None:
    """Seven steps, and each epoch of a descent."""
    watcher = Watcher()
    recipe = recipe_for(
        churn / "churn.csv",
        "churned",
        "sgd",
        "m",
        drop=("customer_id",),
        parameters={"epochs": 3, "tolerance": 0.0},
    )
    train(recipe, base=churn, progress=watcher)
    assert watcher.steps == ["read", "clean", "validate", "split", "fit", "evaluate", "gate"]
    assert watcher.epochs == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("step", ["read", "split", "fit", "epoch", "evaluate"])
def test_ctrl_c_passes_through_and_leaves_nothing(churn: Path, step: str) -> None:
    """It is no error of the training, and no file is written."""
    before = sorted(churn.rglob("*"))
    recipe = recipe_for(churn / "churn.csv", "churned", "sgd", "m", drop=("customer_id",))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, base=churn, progress=Watcher(step))
    assert sorted(churn.rglob("*")) == before


# SQLite knows no passwords; it warns of an option that it does not know, and goes on.
@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
@pytest.mark.usefixtures("plotless")
def test_a_query_trains_without_its_password_anywhere(tmp_path: Path) -> None:
    """Neither the recipe in the bundle nor the lineage holds what the URL held."""
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE t (a REAL, y TEXT)")
        rows = [(float(index), "u" if index < 20 else "v") for index in range(40)]
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    connection.close()
    recipe = parse_recipe(
        {
            "name": "m",
            "target": "y",
            "source": {
                "sql": "sqlite:///t.db?api_token=hunter2",
                "query": "SELECT a, y FROM t ORDER BY a",
            },
            "algorithm": {"name": "decision_tree"},
        }
    )
    trained = train(recipe, base=tmp_path)
    assert b"hunter2" not in trained.files["recipe.toml"]
    assert "hunter2" not in repr(trained.lineage)
    assert trained.lineage.data[0].source == "sqlite:///t.db?api_token=%2A%2A%2A"


def test_importing_training_is_light() -> None:
    """Reading a recipe needs neither pandas nor scikit-learn."""
    code = (
        "import sys, modelyard.train\n"
        "heavy = {'pandas', 'sklearn', 'matplotlib', 'pyarrow', 'xgboost'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
