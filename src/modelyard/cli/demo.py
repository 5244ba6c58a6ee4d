"""`modelyard demo`: the whole road on real data, from a table on disk to a rollback."""

import contextlib
import csv
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from modelyard.cli.demo_calls import Caller, infer_over_grpc
from modelyard.cli.progress import Steps
from modelyard.cli.report import describe_conversion, say_evaluation
from modelyard.cli.screen import say
from modelyard.cli.settings import Settings
from modelyard.core.errors import Conflict, Internal, MissingExtra, TimedOut, Unavailable

if TYPE_CHECKING:
    from modelyard.cli.child import Child
    from modelyard.core.datatypes import Array
    from modelyard.core.names import Reference
    from modelyard.core.records import Version
    from modelyard.train.training import Trained
    from modelyard.yard import Yard

MODEL: Final = "breast-cancer"
_DEFAULT_HOME: Final = Path(".modelyard") / "demo"
_TOLERANCE: Final = 1e-5
_SWAP_S: Final = 20.0
_KEY_S: Final = 86_400.0
_RECIPE: Final = """\
name = "breast-cancer"
target = "diagnosis"
positive = "malignant"

[source]
csv = "breast-cancer.csv"

[split]
validation = 0.15
test = 0.2
seed = 0

[algorithm]
name = "random_forest"
parameters = {{ {parameters} }}

[[gate]]
metric = "accuracy"
dataset = "test"
minimum = 0.9

[[gate]]
metric = "roc_auc"
dataset = "test"
minimum = 0.95

[card]
intended_use = "Demonstration: malignant or benign, from 30 measures of cell nuclei."
limits = "569 patients of one hospital, 1993; no medical device."
licence = "CC-BY-4.0 (data: Breast Cancer Wisconsin, UCI Machine Learning Repository)"
"""
_FIRST: Final = "n_estimators = 100"
_SECOND: Final = "n_estimators = 200, max_depth = 6"


def demo(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Stop the server at the end instead of leaving it.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="HTTP port; by default 8080, or a free one."),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="gRPC port; by default 8081, or a free one."),
    ] = None,
) -> None:
    """Train, publish, serve, call, swap, roll back.

    On the Wisconsin breast-cancer table, in the home given or in a fresh one: ./.modelyard/demo.
    """
    signal.signal(signal.SIGTERM, _exit)
    started = time.monotonic()
    with _demo_home(Settings.of(context).here()) as settings, settings.yard() as yard:
        story = _Story(yard, _Clock())
        first = story.first_version()
        ports = _free(port, 8080), _free(grpc_port, 8081)
        with story.serve(first, *ports) as child:
            story.call(child, first)
            story.second_version(child)
            story.roll_back(child, first)
            say(f"\nAll of it took {time.monotonic() - started:.1f} s.")
            if not once:
                _leave_running(child, story)


@dataclass(frozen=True, slots=True)
class _Made:
    """A trained model and the version that it became."""

    trained: "Trained"
    version: "Version"


class _Clock:
    """Numbers the steps and times them."""

    def __init__(self) -> None:
        self._number = 0
        self._since = time.monotonic()

    def tell(self, text: str) -> None:
        """One line on what was just done."""
        self._number += 1
        now = time.monotonic()
        say(f"{self._number}. {text} [{now - self._since:.2f} s]")
        sys.stdout.flush()
        self._since = now


class _Story:
    """The steps of the demo, in order."""

    def __init__(self, yard: "Yard", clock: _Clock) -> None:
        self._yard = yard
        self._clock = clock
        self.folder = yard.config.home / "demo"
        self.key = ""

    def first_version(self) -> _Made:
        """A table on disk becomes version 1."""
        self.folder.mkdir(parents=True, exist_ok=True)
        table = self.folder / "breast-cancer.csv"
        rows = _write_table(table)
        self._clock.tell(f"Wrote the table to {table}: {rows} rows; the road begins at a file.")
        trained = self._train("recipe-1.toml", _FIRST)
        say_evaluation(trained.evaluation)
        say()
        scores = ", ".join(
            f"{each.metric} on {each.dataset} is {each.value:.3f} (at least {each.minimum})"
            for each in trained.evaluation.thresholds
        )
        self._clock.tell(f"Trained a forest of 100 trees from that file. The gate: {scores}.")
        return self._publish(trained)

    def second_version(self, child: "Child") -> None:
        """Another model takes over while calls go on."""
        trained = self._train("recipe-2.toml", _SECOND)
        self._clock.tell("Trained another forest, of 200 shallower trees.")
        second = self._publish(trained)
        answers = self._deploy_under_calls(
            child, second, lambda: self._yard.deploy(_reference(second.version))
        )
        self._clock.tell(
            f"Deployed version {second.version.number} while the server ran: {answers} calls went "
            f"on, none failed, and version {second.version.number} answers now."
        )

    def roll_back(self, child: "Child", first: _Made) -> None:
        """And back."""
        answers = self._deploy_under_calls(
            child, first, lambda: self._yard.rollback(MODEL, reason="the demo's end")
        )
        self._clock.tell(
            f"Rolled back: {answers} calls went on, none failed, and version "
            f"{first.version.number} answers again."
        )

    @contextlib.contextmanager
    def serve(self, made: _Made, port: int, grpc_port: int) -> "Iterator[Child]":
        """Deploy what was published and start a server on it."""
        from modelyard.cli.child import serving

        route = self._yard.deploy(_reference(made.version))
        issued = self._yard.registry.keys.create(
            name="demo", models=[MODEL], lifetime_s=_KEY_S, actor=self._yard.actor
        )
        self.key = issued.text
        log = self.folder / "server.log"
        with serving(self._yard.config.home, port, grpc_port, log) as child:
            self._clock.tell(
                f"Deployed version {route.number} and started a server: {child.url} and gRPC at "
                f"{child.grpc_address}."
            )
            self._call_without_key(child)
            yield child

    def call(self, child: "Child", made: _Made) -> None:
        """Every way in gives the estimator's own answers."""
        sample, estimator = made.trained.sample, cast(Any, made.trained.estimator)
        own = [str(label) for label in estimator.predict(sample)]
        row = {str(name): value for name, value in sample.iloc[0].items()}
        (self.folder / "row.json").write_text(json.dumps(row), "utf-8")
        self._call_rest(child, own[0])
        self._call_with_client(child, sample, own, estimator.predict_proba(sample))
        signature = self._yard.registry.bundle(made.version).manifest.signature
        try:
            labels = infer_over_grpc(child.grpc_address, self.key, MODEL, signature, sample)
        except MissingExtra as missing:
            self._clock.tell(f"It answers over gRPC too; {missing.message}.")
            return
        _agree(labels, own)
        self._clock.tell(
            f"Called it over gRPC, the Open Inference Protocol: the same {len(own)} labels."
        )

    def _call_without_key(self, child: "Child") -> None:
        import httpx

        refused = httpx.post(f"{child.url}/predict/{MODEL}").status_code
        if refused != httpx.codes.UNAUTHORIZED:
            raise Internal("demo_open", f"a call without a key was answered with {refused}")
        self._clock.tell(
            f"Called it without a key: refused ({refused}). Made a key that may call this model "
            "and nothing else, for a day."
        )

    def _call_rest(self, child: "Child", own: str) -> None:
        with Caller(child.url, self.key, MODEL, self.folder / "row.json") as caller:
            answer = caller.post()
        _agree([answer["prediction"]], [own])
        chance = answer["probabilities"][own]
        self._clock.tell(
            f"Called it over REST as curl does: the first row is {own} ({chance:.1%}), as the "
            "estimator itself says."
        )

    def _call_with_client(
        self, child: "Child", sample: object, own: Sequence[str], chances: "Array"
    ) -> None:
        from modelyard.client import Client

        with Client(child.url, key=self.key) as client:
            _agree([str(label) for label in client.predict(MODEL, sample)], own)
            largest = float(abs(client.predict_proba(MODEL, sample) - chances).max())
        if largest > _TOLERANCE:
            raise Internal("demo_differs", f"a probability differs by {largest:.1e}")
        self._clock.tell(
            f"Called it with the Python client, {len(own)} rows in one call: every label as the "
            f"estimator's, no probability further off than {largest:.1e}."
        )

    def _train(self, file: str, parameters: str) -> "Trained":
        from modelyard.train.recipe import load_recipe
        from modelyard.train.training import train

        recipe = self.folder / file
        recipe.write_text(_RECIPE.format(parameters=parameters), "utf-8")
        with Steps() as steps:
            return train(load_recipe(recipe), base=self.folder, progress=steps)

    def _publish(self, trained: "Trained") -> _Made:
        version = self._yard.publish_trained(trained)
        manifest = self._yard.registry.bundle(version).manifest
        self._clock.tell(
            f"Published {version.model}:{version.number} as an immutable bundle, "
            f"{version.digest[:19]}…: {describe_conversion(manifest.conversion)}."
        )
        return _Made(trained, version)

    def _deploy_under_calls(self, child: "Child", made: _Made, act: Callable[[], object]) -> int:
        """Change the route, and call until the change is seen; every call must be answered."""
        deadline = time.monotonic() + _SWAP_S
        with Caller(child.url, self.key, MODEL, self.folder / "row.json") as caller:
            caller.post()
            act()
            while caller.post()["version"] != made.version.number:
                if time.monotonic() > deadline:
                    raise TimedOut("no_swap", "the server did not follow the route; see server.log")
            return caller.answers


@contextlib.contextmanager
def _demo_home(settings: Settings) -> Iterator[Settings]:
    """The home given as it is, or else one of the demo's own, made anew each time."""
    if settings.home is not None or "MODELYARD_HOME" in os.environ:
        yield settings
        return
    import fcntl

    _DEFAULT_HOME.parent.mkdir(parents=True, exist_ok=True)
    with _DEFAULT_HOME.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "demo_running",
                f"a demo is running in {_DEFAULT_HOME}; stop it, or give this one a --home",
            ) from None
        if _DEFAULT_HOME.exists():
            shutil.rmtree(_DEFAULT_HOME)
        yield Settings(_DEFAULT_HOME)


def _exit(number: int, _frame: object) -> None:
    # An exception, not the signal's own death: the server must go with us.
    sys.exit(128 + number)


def _free(port: int | None, usual: int) -> int:
    """The port asked for, or the usual one if it is free, or 0 for any."""
    from modelyard.api.addresses import bind_http

    if port is not None:
        return port
    try:
        bind_http("127.0.0.1", usual).close()
    except Unavailable:
        return 0
    return usual


def _write_table(path: Path) -> int:
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        raise MissingExtra("sklearn", "the demo") from None
    table = load_breast_cancer()
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*table.feature_names, "diagnosis"])
        for values, target in zip(table.data.tolist(), table.target, strict=True):
            lines.writerow([*values, table.target_names[target]])
    return len(table.data)


def _reference(version: "Version") -> "Reference":
    from modelyard.core.names import Reference

    return Reference(version.model, version=version.number)


def _agree(answers: Sequence[str], own: Sequence[str]) -> None:
    if list(answers) != list(own):
        raise Internal("demo_differs", "the server's labels are not the estimator's own")


def _leave_running(child: "Child", story: _Story) -> None:
    say(f"\nThe server goes on until Ctrl-C:  {child.url}  gRPC {child.grpc_address}\n")
    if child.admin_key:
        say(f"  The administrator's key, shown this once: {child.admin_key}")
    say(f"  export MODELYARD_KEY={story.key}")
    say(
        f'  curl -H "Authorization: Bearer $MODELYARD_KEY" {child.url}/predict/{MODEL} '
        f"-d @{story.folder / 'row.json'}"
    )
    say(f"  modelyard --home {story.folder.parent} models show {MODEL}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        status = child.process.wait()
        if status:
            raise Unavailable("no_server", f"the server ended with {status}; see server.log")
