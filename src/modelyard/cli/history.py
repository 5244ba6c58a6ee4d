"""`modelyard models history`: which version answered when, and by whose leave."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.deploy import describe_route
from modelyard.cli.moments import parse_moment
from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Settings, parse_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from modelyard.core.history import Era
    from modelyard.core.identity import Actor


def history(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what answered then, such as 2026-05-03T10:00Z."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which version answered when, who deployed it, who approved, and on which evidence.

    Times without a zone are UTC.
    """
    from modelyard.core.administration.approvals import GetEra, ListEras
    from modelyard.core.administration.port import every

    model = parse_model(model, "models history")
    moment = parse_moment(at, "--at")
    with Settings.of(context).administration() as administration:
        if moment is not None:
            era = administration.do(GetEra(model=model, at=moment))
        else:
            eras = list(every(administration, ListEras(model=model)))
    if moment is None:
        _say_eras(eras, as_json)
    elif as_json:
        say_json(era)
    else:
        _say_era(era)


def _say_eras(eras: "Sequence[Era]", as_json: bool) -> None:
    if as_json:
        say_json(eras)
        return
    say_table(
        ("from", "to", "calls went to", "by", "who", "approved by", "why"),
        [
            (
                era.since,
                "now" if era.until is None else era.until,
                "nothing" if era.route is None else describe_route(era.route),
                era.action,
                _person(era.changed_by),
                _person(era.approved_by),
                era.reason,
            )
            for era in eras
        ],
    )


def _say_era(era: "Era") -> None:
    say_facts(
        [
            ("model", era.model),
            ("calls went to", "nothing" if era.route is None else describe_route(era.route)),
            ("from", era.since),
            ("to", "now" if era.until is None else era.until),
            ("by", era.action),
            ("who", _person(era.changed_by)),
            ("approved by", _person(era.approved_by)),
            ("why", era.reason),
        ]
    )
    for each in era.evidence:
        say()
        say_facts(
            [
                ("version", f"{era.model}:{each.version}"),
                ("share", f"{each.percent:g}%" if each.percent else "shadow"),
                ("state", each.state),
                ("bundle", each.digest),
                ("published", each.published),
                ("published by", each.published_by),
                *_evaluation(each.evaluation),
            ]
        )


def _evaluation(found: "Mapping[str, Any] | None") -> "list[tuple[str, object]]":
    if found is None:
        return [("evaluation", "lost: the bundle is damaged")]
    scores = [
        (
            f"on {score['dataset']}",
            [f"{name} {value:.4g}" for name, value in score["metrics"].items()],
        )
        for score in found["scores"]
    ]
    return [("gate", found["verdict"]), *scores]


def _person(actor: "Actor | None") -> str | None:
    if actor is None:
        return None
    return f"{actor.name} ({actor.tenant})" if actor.tenant else actor.name
