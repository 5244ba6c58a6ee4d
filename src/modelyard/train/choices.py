"""The words that a typed place in a document may hold, to say which of them was meant."""

import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec


def choices(root: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    """The strings that `root` admits at a path such as `clean.missing.numbers` or `gate[0].metric`.

    Empty where the place takes no fixed words.
    """
    places: list[Any] = [root]
    for segment in re.findall(r"[^.\[\]]+", path.replace("[...]", ".0")):
        places = [inner for place in places for inner in _inside(place, segment)]
    return tuple(word for place in places for word in _words(place))


def _inside(place: Any, segment: str) -> list[Any]:
    if isinstance(place, type) and issubclass(place, msgspec.Struct):
        hints = get_type_hints(place, include_extras=True)
        return _options(hints[segment]) if segment in hints else []
    if get_origin(place) in (dict, tuple):
        arguments = [each for each in get_args(place) if each is not Ellipsis]
        return _options(arguments[-1])
    return []


def _options(hint: Any) -> list[Any]:
    """A union's members, without the constraints around them."""
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [option for each in get_args(hint) for option in _options(each)]
    return [hint]


def _words(place: Any) -> tuple[str, ...]:
    return get_args(place) if get_origin(place) is Literal else ()
