import json

from modelyard.cli.answers import writer
from modelyard.core.table import Predictions

LABELLED = Predictions(["yes", "no"], [{"no": 0.25, "yes": 0.75}, {"no": 0.5, "yes": 0.5}])


def test_json_is_one_object_a_line() -> None:
    """The prediction, and probabilities by class where there are some."""
    lines = [json.loads(line) for line in writer("json")(LABELLED).splitlines()]
    assert lines[0] == {"prediction": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}
    assert writer("json")(Predictions([1.5])) == '{"prediction":1.5}\n'


def test_csv_has_its_headings_once() -> None:
    """Chunk after chunk, one table."""
    write = writer("csv")
    assert write(LABELLED) == (
        "prediction,probability_no,probability_yes\nyes,0.25,0.75\nno,0.5,0.5\n"
    )
    assert write(LABELLED).startswith("yes,")


def test_csv_gives_other_outputs_a_column_each() -> None:
    """A model with several outputs: a column an output, lists and flags as JSON spells them."""
    found = Predictions([{"scores": [1.0, 2.0], "kind": "a", "sure": True}])
    assert writer("csv")(found) == 'scores,kind,sure\n"[1.0,2.0]",a,true\n'
