"""Progressive roll-outs in SQL: begun here, moved by whichever worker holds the lease.

Many workers look at a roll-out, and each writes what it has counted. One of them may move it: who
wins a conditional UPDATE leads until the lease runs out, and every move checks the lease again in
its own transaction. So a leader that dies is followed by another, and no step is made twice.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from modelyard.core.identity import Actor, as_actor
from modelyard.core.rollout import Figures, Guard, Move, Plan, Progress, Reading, Rollout, Standing
from modelyard.core.route import Route, Shadow
from modelyard.registry import queries, routing
from modelyard.registry.auditing import audit_route
from modelyard.registry.database import Database
from modelyard.registry.tables import rollout_figures, rollout_moves, rollouts

ACTOR: Final = "rollout"
"""Who changes routes in the audit when nobody does."""

_Sums = dict[int, Figures]


class RolloutBook:
    """The roll-outs of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def running(self) -> list[Rollout]:
        """Those that are under way."""
        with self._database.read() as connection:
            return _list(connection, rollouts.c.state == "running")

    def of(self, model: str) -> list[Rollout]:
        """Every roll-out of a model with its moves, oldest first."""
        with self._database.read() as connection:
            return _list(connection, rollouts.c.model == model)

    def report(self, number: int, worker: str, figures: Mapping[int, Figures]) -> None:
        """Write what a worker has counted of each version since it first saw the roll-out."""
        key = (rollout_figures.c.rollout == number) & (rollout_figures.c.worker == worker)
        plain = _encode(figures)
        with self._database.write() as connection:
            if _running(connection, number) is None:
                return
            if not connection.execute(
                update(rollout_figures).where(key).values(figures=plain)
            ).rowcount:
                connection.execute(
                    insert(rollout_figures).values(rollout=number, worker=worker, figures=plain)
                )

    def lead(self, number: int, worker: str, lease_s: float) -> Standing | None:
        """Take or renew the lead, and see how things stand; None where somebody else has it."""
        now = _now()
        with self._database.write() as connection:
            taken = connection.execute(
                update(rollouts)
                .where(
                    rollouts.c.id == number,
                    rollouts.c.state == "running",
                    or_(
                        rollouts.c.leader == worker,
                        rollouts.c.lease_until.is_(None),
                        rollouts.c.lease_until < now,
                    ),
                )
                .values(leader=worker, lease_until=now + datetime.timedelta(seconds=lease_s))
            ).rowcount
            row = _running(connection, number) if taken else None
            if row is None:
                return None
            since = _decode(row.since)
            figures = {
                version: counted - since.get(version, Figures())
                for version, counted in _sums(connection, number).items()
            }
            return Standing(_to_rollout(connection, row), figures)

    def wait(self, number: int, worker: str, reason: str) -> None:
        """Say what the step waits for."""
        with self._database.write() as connection:
            row = _led(connection, number, worker)
            if row is not None and row.reason != reason:
                _set(connection, number, reason=reason)

    def move(self, number: int, worker: str, step: int, readings: Sequence[Reading]) -> bool:
        """Go from that step to the next; False where the lead or the step has gone."""
        with self._database.write() as connection:
            row = _led(connection, number, worker)
            if row is None or row.step != step:
                return False
            rollout = _to_rollout(connection, row)
            percent = rollout.plan.steps[step + 1]
            reason = f"step {step + 2} of {len(rollout.plan.steps)}: {percent:g}%"
            _reroute(connection, rollout, row.origin, percent, reason)
            if percent < 100.0:
                _record(connection, rollout, "moved", percent, readings, "")
                _set(
                    connection,
                    number,
                    step=step + 1,
                    reason="",
                    next_at=_now() + datetime.timedelta(seconds=rollout.plan.every_s),
                    since=_encode(_sums(connection, number)),
                )
            else:
                _record(connection, rollout, "done", percent, readings, "")
                _set(connection, number, step=step + 1)
                _end(connection, number, "done", "")
            return True

    def break_off(self, number: int, worker: str, readings: Sequence[Reading], reason: str) -> bool:
        """Roll back to where it began; False where the lead has gone."""
        with self._database.write() as connection:
            row = _led(connection, number, worker)
            if row is None:
                return False
            rollout = _to_rollout(connection, row)
            previous = queries.find_route(connection, rollout.model)
            route = routing.rollback(connection, rollout.model, actor=ACTOR, reason=reason)
            audit_route(connection, "rollback", route, previous, rollout.stable, ACTOR, reason)
            _record(connection, rollout, "rolled_back", 0.0, readings, reason)
            _end(connection, number, "rolled_back", reason)
            return True


def start(
    connection: Connection,
    base: Route,
    present: Route,
    candidate: int,
    plan: Plan,
    *,
    action: str,
    actor: str | Actor,
    reason: str,
    details: Mapping[str, Any] | None = None,
) -> Rollout:
    """Make the first step from `base`, the stable version's own route, which is put in place."""
    first = _step_route(base, candidate, plan.steps[0], plan)
    if not base.says(present):
        # A canary or a shadow was there, or options changed: the roll-out goes back to the plain
        # route with these options, and a rollback from there to what was before.
        base = routing.change(connection, base, action="deploy", actor=actor, reason=reason)
        audit_route(connection, "deploy", base, present, base.number, actor, reason, details)
    else:
        base = present
    now = _now()
    inserted = connection.execute(
        insert(rollouts).values(
            model=base.model,
            stable=base.number,
            candidate=candidate,
            steps=list(plan.steps),
            every_s=plan.every_s,
            guards=[guard.text for guard in plan.guards],
            least_calls=plan.least_calls,
            actor=as_actor(actor).name,
            started=now,
            state="running",
            step=0,
            next_at=now + datetime.timedelta(seconds=plan.every_s),
            reason="",
            origin=base.generation,
            since={},
            leader="",
        )
    ).inserted_primary_key
    assert inserted is not None  # noqa: S101 - the database counts up
    route = routing.change(
        connection, first, action=action, actor=actor, reason=reason, before=base.generation
    )
    audit_route(connection, action, route, base, candidate, actor, reason, details)
    row = connection.execute(select(rollouts).where(rollouts.c.id == inserted[0])).one()
    rollout = _to_rollout(connection, row)
    _record(connection, rollout, "begun", plan.steps[0], (), reason)
    return _to_rollout(connection, row)


def newest(connection: Connection, model: str) -> Rollout:
    """A model's roll-out that was begun last."""
    return _list(connection, rollouts.c.model == model)[-1]


def stop(connection: Connection, model: str, action: str, actor: str | Actor) -> None:
    """End a model's running roll-out, because somebody changes the route by hand."""
    for rollout in _list(connection, (rollouts.c.model == model) & (rollouts.c.state == "running")):
        reason = f"{as_actor(actor).name} changed the route: {action}"
        _record(connection, rollout, "stopped", rollout.percent, (), reason)
        _end(connection, rollout.id, "stopped", reason)


def _step_route(base: Route, candidate: int, percent: float, plan: Plan) -> Route:
    if percent >= 100.0:
        return base.only(candidate)
    route = base.with_canary(candidate, percent)
    if plan.compares:
        route = dataclasses.replace(route, shadow=Shadow(base.number))
    return route


def _reroute(
    connection: Connection, rollout: Rollout, origin: int, percent: float, reason: str
) -> None:
    present = queries.find_route(connection, rollout.model)
    assert present is not None, "whoever takes a route away stops its roll-out"  # noqa: S101
    base = present.only(rollout.stable)
    route = routing.change(
        connection,
        _step_route(base, rollout.candidate, percent, rollout.plan),
        action="rollout",
        actor=ACTOR,
        reason=reason,
        before=origin,
    )
    audit_route(connection, "rollout", route, present, rollout.candidate, ACTOR, reason)


def _record(
    connection: Connection,
    rollout: Rollout,
    verdict: str,
    percent: float,
    readings: Sequence[Reading],
    reason: str,
) -> None:
    last = connection.execute(
        select(func.max(rollout_moves.c.number)).where(rollout_moves.c.rollout == rollout.id)
    ).scalar()
    connection.execute(
        insert(rollout_moves).values(
            rollout=rollout.id,
            number=(last or 0) + 1,
            at=_now(),
            verdict=verdict,
            percent=percent,
            readings=msgspec.to_builtins(list(readings)),
            reason=reason,
        )
    )


def _end(connection: Connection, number: int, state: Progress, reason: str) -> None:
    _set(connection, number, state=state, reason=reason, next_at=None, ended=_now(), since={})
    connection.execute(delete(rollout_figures).where(rollout_figures.c.rollout == number))


def _set(connection: Connection, number: int, **values: Any) -> None:
    connection.execute(update(rollouts).where(rollouts.c.id == number).values(**values))


def _running(connection: Connection, number: int) -> Row[Any] | None:
    return connection.execute(
        select(rollouts).where(rollouts.c.id == number, rollouts.c.state == "running")
    ).one_or_none()


def _led(connection: Connection, number: int, worker: str) -> Row[Any] | None:
    row = _running(connection, number)
    return row if row is not None and row.leader == worker else None


def _sums(connection: Connection, number: int) -> _Sums:
    sums: _Sums = {}
    for plain in connection.execute(
        select(rollout_figures.c.figures).where(rollout_figures.c.rollout == number)
    ).scalars():
        for version, counted in _decode(plain).items():
            sums[version] = sums.get(version, Figures()) + counted
    return sums


def _list(connection: Connection, condition: Any) -> list[Rollout]:
    rows = connection.execute(select(rollouts).where(condition).order_by(rollouts.c.id)).all()
    return [_to_rollout(connection, row) for row in rows]


def _to_rollout(connection: Connection, row: Row[Any]) -> Rollout:
    moves = connection.execute(
        select(rollout_moves)
        .where(rollout_moves.c.rollout == row.id)
        .order_by(rollout_moves.c.number)
    )
    return Rollout(
        id=row.id,
        model=row.model,
        stable=row.stable,
        candidate=row.candidate,
        plan=Plan(
            steps=tuple(row.steps),
            every_s=row.every_s,
            guards=tuple(map(Guard.parse, row.guards)),
            least_calls=row.least_calls,
        ),
        actor=row.actor,
        started=row.started,
        state=row.state,
        step=row.step,
        next_at=row.next_at,
        ended=row.ended,
        led_until=row.lease_until,
        reason=row.reason,
        moves=tuple(
            Move(
                number=move.number,
                at=move.at,
                verdict=move.verdict,
                percent=move.percent,
                readings=msgspec.convert(move.readings, tuple[Reading, ...]),
                reason=move.reason,
            )
            for move in moves
        ),
    )


def _encode(figures: Mapping[int, Figures]) -> Any:
    return msgspec.to_builtins(dict(figures), str_keys=True)


def _decode(plain: Any) -> _Sums:
    return msgspec.convert(plain, dict[int, Figures], str_keys=True, strict=False)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
