"""Writes `docs/reference/` from the code: `python -m docs.generate`.

A test compares what is on disk with `pages()`, so that the reference cannot fall behind.
"""

import ast
import dataclasses
import importlib.util
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import typer.main

from modelyard.api.asks import PUBLIC
from modelyard.api.grpc.connection import Method
from modelyard.api.grpc.errors import STATUSES
from modelyard.api.grpc.inference import MAX_OPEN_CALLS
from modelyard.api.grpc.messages import POOL
from modelyard.api.grpc.methods import make_methods
from modelyard.api.grpc.unary import Function
from modelyard.api.http import errors as http_errors
from modelyard.api.http import preferences
from modelyard.api.http.encoding import WORTH_PACKING
from modelyard.api.http.openapi import document
from modelyard.bundle.manifest import Card
from modelyard.cli.main import app
from modelyard.core import errors, options
from modelyard.core.administration.operation import Operation
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.config import settings
from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Exchange, Listing
from modelyard.core.route import Options
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.gateway.open_access import ANYBODY
from modelyard.train import recipe as recipes
from modelyard.train.algorithms import ALGORITHMS, Parameters
from modelyard.train.metrics import CLASSIFICATION, REGRESSION

FOLDER: Final = Path(__file__).parent / "reference"
_MADE_BY: Final = "<!-- Made by `make docs` from the code; edit the code. -->"


def pages() -> dict[str, str]:
    """Every page of the reference by file name."""
    return {
        "configuration.md": _configuration(),
        "command-line.md": _command_line(),
        "errors.md": _errors(),
        "recipe.md": _recipe(),
        "http.md": _http(),
        "grpc.md": _grpc(),
        "administration.md": _administration(),
        "route-options.md": _route_options(),
    }


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _MADE_BY, *parts)) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        list(headings),
        ["---"] * len(headings),
        *([_cell(each) for each in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(value: object) -> str:
    return f"`{value}`"


def _prose(thing: object) -> str:
    return inspect.getdoc(thing) or ""


# Configuration


def _configuration() -> str:
    rows = [
        (
            _code(setting.name),
            _code(f"MODELYARD_{setting.name.upper()}"),
            _code(_setting_default(setting)),
            setting.metadata["doc"],
        )
        for setting in settings()
    ]
    return _page(
        "Configuration",
        "The command line wins over the environment, the environment over `modelyard.toml` in the "
        "home, the file over the default. An unknown key and a value of the wrong type are errors. "
        "`modelyard config` shows what is in force. `home` cannot be set in the file, which lies "
        "in it.",
        _table(("setting", "environment", "default", "meaning"), rows),
    )


def _setting_default(setting: Any) -> object:
    if setting.name == "home":
        return "~/.modelyard"
    return (
        str(setting.default).lower()
        if isinstance(setting.default, bool)
        else (setting.default if setting.default != "" else '""')
    )


# Options of a route


def _route_options() -> str:
    named = {setting.name for setting in settings()}
    rows = [
        (
            _code(option.name),
            str(options._KINDS[option.name]),
            "the setting of that name" if option.name in named else "",
            option.metadata["doc"],
        )
        for option in dataclasses.fields(Options)
    ]
    return _page(
        "Options of a route",
        "How a model's versions are served: `modelyard deploy MODEL --set NAME=VALUE`, and "
        "`--unset NAME` for the way back. They stay with the route through later deployments, and "
        "a rollback undoes them as it undoes versions. A version whose options change is loaded "
        "anew beside the one in place, and exchanged for it.",
        _table(("option", "takes", "where unset", "meaning"), rows),
    )


# The command line


def _command_line() -> str:
    root = cast(Any, typer.main.get_command(app))
    context = root.make_context("modelyard", [], resilient_parsing=True)
    parts = [
        f"    {_usage(context)}",
        f"{root.help} Options of `modelyard` itself stand before the verb. Results go to stdout, "
        "everything else to stderr.",
        _options(root, context),
        _table(
            ("exit status", "meaning"),
            [
                ("0", "done"),
                ("1", "it failed; one line on stderr says why and what to do"),
                ("2", "the command line was wrong"),
                ("130", "interrupted by Ctrl-C"),
            ],
        ),
    ]
    for name in root.list_commands(context):
        parts += _verb(root.commands[name], name, context)
    return _page("Command line", *parts)


def _verb(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield f"## {context.command_path}"
    yield f"    {_usage(context)}"
    yield command.help.strip()
    yield _options(command, context)
    for inner, each in getattr(command, "commands", {}).items():
        yield from _verb(each, inner, context)


def _usage(context: Any) -> str:
    return " ".join(context.get_usage().split()).removeprefix("Usage: ")


def _options(command: Any, context: Any) -> str:
    records = [parameter.get_help_record(context) for parameter in command.params]
    return _table(
        ("argument or option", "meaning"),
        [(_code(record[0]), " ".join(record[1].split())) for record in records if record],
    )


# Errors


def _errors() -> str:
    kinds = [
        (
            _code(kind),
            str(http_errors.STATUS[kind]),
            _code(STATUSES[kind].name),
            _prose(_class_of(kind)).partition("\n")[0],
        )
        for kind in errors.Kind
    ]
    exact = [(_code(code), str(status)) for code, status in sorted(http_errors._BY_CODE.items())]
    codes = [
        (_code(code), ", ".join(map(_code, sorted(kinds))), ", ".join(map(_code, sorted(folders))))
        for code, (kinds, folders) in sorted(_codes().items())
    ]
    return _page(
        "Errors",
        "Every error has a `kind` (whose fault it is, and whether trying again helps), a `code` "
        "(stable, for programs), a message (what happened, and what to do) and, where there is "
        "one, the `field` at fault.",
        'Over HTTP the body is `{"error": message, "kind": …, "code": …, "field": …}`. Over '
        "gRPC the message is the status's details, and `modelyard-kind`, `modelyard-code` and "
        "`modelyard-field` are trailing metadata. In Python it is an exception of "
        "`modelyard.core.errors` with these attributes; on the command line it is one line on "
        "stderr and the exit status 1.",
        "## Kinds",
        _table(("kind", "HTTP", "gRPC", "meaning"), kinds),
        "A few codes have a more exact HTTP status than their kind's:",
        _table(("code", "HTTP"), exact),
        "## Codes",
        "The folders say which part of `src/modelyard` raises it.",
        _table(("code", "kind", "raised in"), codes),
    )


def _class_of(kind: errors.Kind) -> type[errors.ModelyardError]:
    return next(each for each in errors.ModelyardError.__subclasses__() if each.kind is kind)


def _codes() -> dict[str, tuple[set[str], set[str]]]:
    """Codes written in the source where an error is made, with kinds and folders."""
    classes = {
        name: value.kind
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ModelyardError)
    }
    spec = importlib.util.find_spec("modelyard")
    root = Path(str(spec.origin if spec else "")).parent
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    found["missing_extra"][0].add(errors.MissingExtra.kind)
    for path in sorted(root.rglob("*.py")):
        folder = path.relative_to(root).parts[0].removesuffix(".py")
        if folder == "testing":
            continue
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id == "MissingExtra":
                found["missing_extra"][1].add(folder)
            elif call.func.id in classes and call.args and isinstance(call.args[0], ast.Constant):
                kinds, folders = found[str(call.args[0].value)]
                kinds.add(classes[call.func.id])
                folders.add(folder)
    return found


# Recipes


_WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _recipe() -> str:
    parts = [
        "A recipe is a TOML file. Paths in it begin at the recipe's folder. An unknown key is an "
        "error that names the nearest known one.",
        *_struct("Top level", recipes.Recipe),
    ]
    for title, struct in (
        ("[source]", recipes.Source),
        ("[clean]", recipes.Clean),
        ("[clean.missing]", recipes.Missing),
        ("[clean.outliers]", recipes.Outliers),
        ("[validate]", recipes.Validate),
        ("[prepare]", recipes.Prepare),
        ("[split]", recipes.Split),
        ("[algorithm]", recipes.AlgorithmChoice),
        ("[[gate]]", recipes.Gate),
        ("[card]", Card),
    ):
        parts += _struct(f"`{title}`", struct)
    parts += [
        "## Metrics",
        f"Classification: {', '.join(map(_code, CLASSIFICATION))}. "
        f"Regression: {', '.join(map(_code, REGRESSION))}.",
        "## Algorithms",
        "`name` and `parameters` of `[algorithm]`. A default of none leaves the framework's own.",
    ]
    for algorithm in ALGORITHMS.values():
        parts.append(f"### `{algorithm.name}`")
        forms: dict[type[Parameters], list[str]] = {}
        for task, form in algorithm.forms.items():
            forms.setdefault(form.parameters, []).append(
                f"{task} by `{form.estimator.replace(':', '.')}`"
            )
        for parameters, tasks in forms.items():
            text = ", ".join(tasks)
            parts += [f"{text[0].upper()}{text[1:]}. {_prose(parameters)}", _fields(parameters)]
    return _page("Recipe", *parts)


def _struct(title: str, struct: type[msgspec.Struct]) -> list[str]:
    return [f"## {title}", _prose(struct), _fields(struct)]


def _fields(struct: type[msgspec.Struct]) -> str:
    hints = get_type_hints(struct, include_extras=True)
    return _table(
        ("key", "takes", "default"),
        [
            (_code(field.name), _describe(hints[field.name]), _default(field))
            for field in msgspec.structs.fields(struct)
        ],
    )


def _default(field: Any) -> str:
    if field.required:
        return "must be given"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "its own defaults"
    return _code(msgspec.json.encode(value).decode())


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _describe(arguments[0]) + _limits(arguments[1:])
    if origin is Literal:
        return " or ".join(_code(f'"{each}"') for each in arguments)
    if origin in (Union, UnionType):
        options = [_describe(each) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys(options))
    if origin is tuple:
        return f"list of {_describe(arguments[0])}"
    if origin is dict:
        return f"table of {_describe(arguments[1])} by name"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        keys = ", ".join(_code(name) for name in hint.__struct_fields__)
        return f"table ({keys})"
    return _WORDS.get(hint, "any value")


def _limits(metas: Iterable[Any]) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(meta, key):g}"
        for meta in metas
        for key, word in words.items()
        if getattr(meta, key, None) is not None
    ]
    return f", {' and '.join(found)}" if found else ""


# HTTP


def _http() -> str:
    content = document(cast(Exchange, _Example()), "", ANYBODY)
    parts = [
        "A running server describes itself, with every deployed model's columns, at "
        "`/openapi.json` (OpenAPI 3.1). `{model}` and `{version}` stand for a deployed model and "
        "its version's number. A path without a version means the version that is deployed.",
        _table(("path", "method", "what it does", "answers"), _paths(content["paths"])),
        "`GET /` is a page for people: what is deployed, and a command that calls each model. "
        "`GET /v1/models` lists the names.",
        "A body may be compressed (`Content-Encoding: gzip`, `deflate` or `zstd`), and so may an "
        f"answer of {WORTH_PACKING:,} bytes and more, where `Accept-Encoding` takes it. A refusal "
        "that may be none in a moment comes with a `Retry-After` of whole seconds. One by a limit "
        "says how that stands: `x-ratelimit-limit-<unit>s`, `x-ratelimit-remaining-<unit>s`, and "
        "`x-ratelimit-reset-<unit>s`, after how many seconds it is whole again.",
        "Without a key the answer is 401, but of `/v2/health/live`, `/v2/health/ready`, `/ping` "
        "and the health route that is set. [The administration](administration.md) is a page of "
        "its own.",
        "## Headers of a call",
        _table(
            ("header", "meaning"),
            [
                (
                    "`authorization`, `x-api-key`",
                    "Who calls: `Bearer` and a key or an issuer's token, or the key alone. Given "
                    "both, they must agree.",
                ),
                (
                    _code(preferences.TIMEOUT.decode()),
                    "Milliseconds that the caller waits; then the answer is 504, and a call that "
                    "still waits is not run.",
                ),
                (
                    _code(preferences._ENVOY_TIMEOUT.decode()),
                    "The same, said by Envoy and what is built on it; the earlier one holds.",
                ),
                (
                    ", ".join(_code(name.decode()) for name in preferences._ECHOED),
                    "Sent back as they came.",
                ),
                ("a route's `sticky` header", "Keeps its callers on one version of a canary."),
            ],
        ),
        "## Bodies",
    ]
    for name, schema in content["components"]["schemas"].items():
        parts += _schema(name, schema)
    return _page("HTTP", *parts)


# Administration


def _administration() -> str:
    return _page(
        "Administration",
        "Under `/api/v1`; with every field and answer in `/api/v1/openapi.json` (OpenAPI 3.1). "
        "Each operation asks for a verb that the role and the scope of a key must have, and for "
        "the model where it names one. What is marked with * is for keys that see every model and "
        "belong to the tenant `default`.",
        _table(("operation", "method", "path", "asks for", "what it does"), _operations()),
        "`If-Match` is taken where there is an ETag: " + _matching(),
    )


def _operations() -> Iterator[tuple[str, ...]]:
    for each in OPERATIONS:
        asks = f"{each.verb}{' *' if each.is_global else ''}"
        yield _code(each.name), each.method, _code(each.path), asks, each.summary


def _matching() -> str:
    def told(each: Operation) -> str:
        return f"{_code(each.name)} (demanded)" if each.must_match else _code(each.name)

    return ", ".join(told(each) for each in OPERATIONS if each.guards is not None) + "."


# gRPC


def _grpc() -> str:
    methods = make_methods(cast(Exchange, _Example()), None)
    rows = []
    for path, served in sorted(methods.items()):
        _, service, name = path.decode().split("/")
        # The older name of the reflection service has the newer one's messages.
        described = service.replace("v1alpha", "v1")
        method = POOL.FindServiceByName(described).FindMethodByName(name)
        rows.append(
            (_code(service), _code(name), _way(method), _asks(served), _purpose(served.open))
        )
    return _page(
        "gRPC",
        "On the port `grpc_port`. The main service is the Open Inference Protocol v2; "
        "its messages are in `src/modelyard/api/grpc/open_inference.proto`, and a server tells "
        "them to whoever asks for reflection. A message may be `max_body_bytes` large; messages "
        "may be packed with gzip or deflate, and then answers are too.",
        _table(("service", "method", "form", "asks for", "what it does"), rows),
        f"On a stream at most {MAX_OPEN_CALLS} calls are open at once; answers leave in the order "
        "of the requests. A request that fails is answered with an error, and the stream goes on.",
        "A deadline (`grpc-timeout`) and a cancellation are those of the call, which leaves the "
        "queue. How an error is told: [errors](errors.md).",
    )


def _way(method: Any) -> str:
    if method.client_streaming:
        return "a stream each way"
    return "one request, a stream of answers" if method.server_streaming else "one call"


def _asks(served: Method) -> str:
    return "nothing" if served.asks is PUBLIC else _code(served.asks.value)


def _purpose(opened: Any) -> str:
    """The first sentence on what answers a method: a function of the service, or a class."""
    thing = opened.func if isinstance(opened, partial) else opened
    if thing is Function:
        return _purpose(opened.args[-1])
    return _prose(thing).partition("\n")[0]


class _Example:
    """An exchange with one model whose name and number are placeholders."""

    def listings(self) -> list[Listing]:
        return [Listing("{model}", 1, ready=True)]

    def find(self, model: str, version: str | None = None) -> SimpleNamespace:
        spec = TensorSpec("value", Datatype.FP32, (-1, 1), (Column("value", Datatype.FP32),))
        signature = Signature((spec,), (TensorSpec("prediction", Datatype.FP32, (-1,)),))
        return SimpleNamespace(model=model, version="{version}", signature=signature, sample=None)


def _paths(paths: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
            yield (
                _code(path),
                method.upper(),
                operation["summary"],
                _kind(answer),
            )


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    if schema["type"] == "array":
        name, schema = f"{name}: a list of", schema["items"]
    required = schema.get("required", ())
    rows = [
        (_code(key), _kind(value), "yes" if key in required else "")
        for key, value in schema["properties"].items()
    ]
    return [f"### {name}", _table(("key", "type", "always"), rows)]


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    kinds = schema.get("type", "any value")
    if kinds == "array" or (isinstance(kinds, list) and "array" in kinds):
        inner = schema.get("items") or {}
        return f"list of {_kind(inner)}" if inner else "list"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


if __name__ == "__main__":
    main()
