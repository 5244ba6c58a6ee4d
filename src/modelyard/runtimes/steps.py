"""Walks the estimators inside a fitted scikit-learn estimator, without importing scikit-learn."""

from collections.abc import Iterator

_INNER = ("estimator_", "best_estimator_", "calibrated_classifiers_")


def walk(model: object) -> Iterator[object]:
    """The estimator itself and every fitted estimator inside it, outermost first."""
    yield model
    for child in _children(model):
        if hasattr(child, "get_params"):
            yield from walk(child)


def last_step(model: object) -> object:
    """The estimator that decides: the last step of a pipeline, or the model itself."""
    steps = getattr(model, "steps", None)
    return last_step(steps[-1][1]) if steps else model


def _children(model: object) -> Iterator[object]:
    for _, step in getattr(model, "steps", None) or ():
        yield step
    for transformer in getattr(model, "transformers_", None) or ():
        yield transformer[1]
    for _, union in getattr(model, "transformer_list", None) or ():
        yield union
    # A forest's `estimator_` is the unfitted template of its trees.
    inner_names = () if hasattr(model, "estimators_") else _INNER
    for name in inner_names:
        inner = getattr(model, name, None)
        yield from inner if isinstance(inner, list) else (inner,)
    # Voting and stacking hold a list; a forest's list of trees needs no walk.
    if hasattr(model, "named_estimators_"):
        yield from getattr(model, "estimators_", ())
