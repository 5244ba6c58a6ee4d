from pathlib import Path

import pytest

from modelyard.core.errors import Invalid, NotFound
from modelyard.train import load_recipe, recipe_for
from modelyard.train.recipe import parse_recipe

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = """
name = "m"
target = "y"
[source]
csv = "t.csv"
[algorithm]
name = "random_forest"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_rendered_recipe_is_the_same_recipe(example: Path, tmp_path: Path) -> None:
    """Rendering and loading loses nothing, and there is one spelling."""
    recipe = load_recipe(example)
    again = load_recipe(write(tmp_path, recipe.render().decode()))
    assert again == recipe
    assert again.render() == recipe.render()


@pytest.mark.parametrize(
    ("line", "field", "hint"),
    [
        ("taget = 'y'", "taget", "did you mean 'target'"),
        ("[split]\nsed = 3", "split.sed", "did you mean 'seed'"),
        ("[source]\ncvs = 'a'", "source.cvs", "did you mean 'csv'"),
        ("[clean.missing]\nnumber = 'mean'", "clean.missing.number", "did you mean 'numbers'"),
        (
            "[clean.missing]\ncolumns = { a = { konstant = 1 } }",
            "clean.missing.columns.a.konstant",
            "did you mean 'constant'",
        ),
        ("[[gate]]\nmetrik = 'f1'", "gate[0].metrik", "did you mean 'metric'"),
        ("[validate.ranges]\nage = { min = 1 }", "validate.ranges.age.min", "'minimum'"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_near_name(
    tmp_path: Path, line: str, field: str, hint: str
) -> None:
    """The message names the file, the key and the key that was meant."""
    text = GOOD.replace("[source]\ncsv = 't.csv'", "") + line if "[source]" not in line else line
    if "=" in line.splitlines()[0]:
        text = f"{line}\n{GOOD}"
    with pytest.raises(Invalid) as caught:
        load_recipe(write(tmp_path, text))
    assert caught.value.field == field
    assert caught.value.code == "unknown_key"
    assert hint in caught.value.message
    assert str(tmp_path / "recipe.toml") in caught.value.message


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("[split]\ntest = 'much'", "split.test"),
        ("[split]\ntest = 1.0", "split"),
        ("[split]\nvalidation = 0.6\ntest = 0.4", "split"),
        ("[split]\ntrain = 0.5\ntest = 0.2", "split.train"),
        ("[split]\nseed = -1", "split.seed"),
        ("[prepare]\nscale = 'metric'", "prepare.scale"),
        ("[prepare]\nmax_categories = 1", "prepare.max_categories"),
        ("[clean.missing]\nnumbers = 'medain'", "clean.missing.numbers"),
        ("[clean.outliers]\nrule = 'iqr'\nfactor = 0", "clean.outliers.factor"),
        ("[clean.outliers]\nrule = 'percentile'\nfactor = 50", "clean.outliers.factor"),
        ("[validate.regex]\na = '('", "validate.regex.a"),
        ("[[gate]]\nmetric = 'acuracy'\nminimum = 1", "gate[0].metric"),
        ("[[gate]]\nmetric = 'accuracy'", "gate[0]"),
        (
            "[[gate]]\nmetric = 'f1'\nminimum = 1\ndataset = 'validation'\n[split]\nvalidation = 0",
            "gate[0].dataset",
        ),
        ("[algorithm.parameters]\nn_estimator = 3", "algorithm.parameters.n_estimator"),
        ("[algorithm.parameters]\nn_estimators = 0", "algorithm.parameters.n_estimators"),
        ("[algorithm.parameters]\ncriterion = 'x'", "algorithm.parameters.criterion"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(tmp_path: Path, section: str, field: str) -> None:
    """Types, ranges and names are checked before any data is read."""
    with pytest.raises(Invalid) as caught:
        load_recipe(write(tmp_path, GOOD + section))
    assert caught.value.field == field
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("[clean.missing]\nnumbers = 'medain'", "did you mean 'median'"),
        ("[clean.missing.columns]\na = 'medain'", "did you mean 'median'"),
        ("[prepare]\nscale = 'zz'", "known are 'auto', 'minmax', 'none', 'robust', 'standard'"),
        ("[[gate]]\nmetric = 'f1'\nminimum = 0\ndataset = 'tset'", "did you mean 'test'"),
        ("[algorithm.parameters]\ncriterion = 'ginni'", "did you mean 'gini'"),
        ("[algorithm.parameters]\nmax_features = 'sqr'", "did you mean 'sqrt'"),
    ],
)
def test_a_misspelt_choice_is_corrected(tmp_path: Path, section: str, hint: str) -> None:
    """The near word, or all there are."""
    with pytest.raises(Invalid) as caught:
        load_recipe(write(tmp_path, GOOD + section))
    assert hint in caught.value.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "no/name"}, "model"),
        ({"source": {}}, "source"),
        ({"source": {"csv": "a", "parquet": "b"}}, "source"),
        ({"source": {"sql": "sqlite:///a"}}, "source.query"),
        ({"source": {"csv": "a", "separator": "||"}}, "source.separator"),
        ({"drop": ["y"]}, "target"),
        ({"features": []}, "features"),
        ({"features": ["a", "a"]}, "features"),
        ({"features": ["a"], "drop": ["a"]}, "features"),
        ({"algorithm": {"name": "random_forrest"}}, "algorithm.name"),
        ({"algorithm": {"name": "ridge"}, "task": "classification"}, "algorithm.name"),
        ({"task": "regression", "metrics": ["accuracy"]}, "metrics"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], field: str) -> None:
    """What cannot hold together is said before any data is read."""
    document = {
        "name": "m",
        "target": "y",
        "source": {"csv": "t.csv"},
        "algorithm": {"name": "random_forest"},
        **changes,
    }
    with pytest.raises(Invalid) as caught:
        parse_recipe(document)
    assert caught.value.field == field


def test_a_file_that_is_no_toml_or_not_there_is_named(tmp_path: Path) -> None:
    """Both messages name the file."""
    with pytest.raises(NotFound, match=r"none\.toml"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(Invalid, match=r"recipe\.toml is not TOML"):
        load_recipe(write(tmp_path, "a = "))
    (tmp_path / "recipe.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(Invalid, match=r"recipe\.toml cannot be read"):
        load_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("file", "kind", "separator"),
    [("a.csv", "csv", ","), ("a.tsv", "csv", "\t"), ("a.parquet", "parquet", ",")],
)
def test_a_recipe_for_a_file_reads_its_format_by_the_suffix(
    tmp_path: Path, file: str, kind: str, separator: str
) -> None:
    """The path inside is the file's name alone, so that no folder of this machine is published."""
    recipe = recipe_for(tmp_path / file, "y", "knn", "m", parameters={"n_neighbors": 3})
    assert getattr(recipe.source, kind) == file
    assert recipe.source.separator == separator
    assert recipe.algorithm.parameters == {"n_neighbors": 3}
