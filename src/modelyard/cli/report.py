"""A bundle in words: what it takes, how good it is, and what became of its conversion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelyard.cli.screen import say, say_table

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Confusion, Conversion, Evaluation, Manifest, Threshold
    from modelyard.core.signature import TensorSpec

_FEW = 8


def describe(manifest: "Manifest") -> list[tuple[str, object]]:
    """Names and values, for `say_facts`."""
    lineage = manifest.lineage
    return [
        ("bundle", manifest.digest),
        ("made with", f"{manifest.framework.name} {manifest.framework.version}"),
        ("served from", f"{manifest.serving.path} ({manifest.serving.format})"),
        ("conversion", describe_conversion(manifest.conversion)),
        ("task", manifest.signature.task),
        ("inputs", _describe_tensors(manifest.signature.inputs)),
        ("outputs", _describe_tensors(manifest.signature.outputs)),
        ("data", [f"{data.name}: {data.rows} rows of {data.source}" for data in lineage.data]),
        ("seed", lineage.seed),
        ("commit", _describe_commit(manifest)),
        ("files", [f"{entry.path} ({entry.size:,} B)" for entry in manifest.files]),
        ("intended use", manifest.card.intended_use),
        ("limits", manifest.card.limits),
        ("licence", manifest.card.licence),
        ("contacts", manifest.card.contacts),
    ]


def describe_conversion(conversion: "Conversion") -> str:
    """One sentence: whether the fast form was proven equal, and if not, why not."""
    target = conversion.target.upper()
    if conversion.verdict == "equal":
        return (
            f"served as {target}, proven equal on {conversion.rows} rows, "
            f"largest difference {conversion.max_difference:.1e}"
        )
    if conversion.verdict == "native":
        return f"served as it came, {target}"
    return f"not served as {target}: {conversion.reason or conversion.verdict}"


def say_evaluation(evaluation: "Evaluation") -> None:
    """Tables of scores, the last part's confusion matrix, and the gate."""
    if not evaluation.scores:
        return
    metrics = _metrics(evaluation)
    say()
    say_table(
        ("data", "rows", *metrics),
        [
            (score.dataset, score.rows, *(_number(score.metrics.get(name)) for name in metrics))
            for score in evaluation.scores
        ],
    )
    last = evaluation.scores[-1]
    if last.confusion is not None:
        _say_confusion(last.confusion, last.dataset)
    if evaluation.thresholds:
        say()
        say_table(
            ("gate", "wanted", "is", "verdict"),
            [
                (
                    f"{threshold.metric} on {threshold.dataset}",
                    _wanted(threshold),
                    _number(threshold.value),
                    "passed" if threshold.passed else "failed",
                )
                for threshold in evaluation.thresholds
            ],
        )


def _metrics(evaluation: "Evaluation") -> list[str]:
    """The metrics that any part was scored by, in the order in which people look at them."""
    from modelyard.train.metrics import METRICS

    scored = {name for score in evaluation.scores for name in score.metrics}
    return [name for name in METRICS if name in scored] + sorted(scored - set(METRICS))


def _say_confusion(confusion: "Confusion", dataset: str) -> None:
    if len(confusion.labels) > 12:
        say(f"(confusion matrix of {len(confusion.labels)} classes: see --json)")
        return
    rows: list[Sequence[object]] = [
        (f"is {label}", *counts)
        for label, counts in zip(confusion.labels, confusion.matrix, strict=True)
    ]
    say()
    say_table((f"{dataset}, rows", *(f"called {label}" for label in confusion.labels)), rows)


def _wanted(threshold: "Threshold") -> str:
    bounds = (("at least", threshold.minimum), ("at most", threshold.maximum))
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _describe_tensors(specs: "Sequence[TensorSpec]") -> list[str]:
    more = [f"and {len(specs) - _FEW} more"] if len(specs) > _FEW else []
    return [*map(_describe_tensor, specs[:_FEW]), *more]


def _describe_tensor(spec: "TensorSpec") -> str:
    columns = f" of {len(spec.columns)} columns" if len(spec.columns) > 1 else ""
    return f"{spec.name} {spec.datatype} {list(spec.shape)}{columns}"


def _describe_commit(manifest: "Manifest") -> str:
    source = manifest.lineage.source
    if source is None:
        return ""
    return source.commit + (" with uncommitted changes" if source.dirty else "")
