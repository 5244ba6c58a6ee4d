"""Modelyard with its gate: callers have keys, and every call is limited and metered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from benchmarks.model import Model, Tensors
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.modelyard import Modelyard

Encode = Callable[[Tensors], tuple[bytes, Mapping[str, str]]]
_AMPLE = "1000000000000"
"""So much that no call is ever refused: what is measured is the counting."""


@dataclass(frozen=True)
class Gated(Modelyard):
    """`modelyard serve`, called with a key, on a home with these limits (`limits set …`).

    Or, to compare it with, `is_open`.
    """

    limits: Sequence[Sequence[str]] = ()
    is_open: bool = False
    _key: list[str] = field(default_factory=list)

    @property
    def what(self) -> str:
        """What stands between a caller and the model."""
        if self.is_open:
            return "no key, nothing counted"
        words = [each[0] for each in self.limits] or ["no limit"]
        return f"a key, {', '.join(words)}, every call metered"

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 in JSON, and over gRPC, with a key in the headers."""
        forms = [form for form in super().forms(model) if form.name in ("v2 json", "grpc")]
        if self.is_open:
            return forms
        return [replace(form, encode=self._keyed(form)) for form in forms]

    def _keyed(self, form: Form) -> Encode:
        def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
            body, headers = form.encode(inputs)
            name = "authorization" if form.protocol == "grpc" else "Authorization"
            return body, {**headers, name: f"Bearer {self._key[0]}"}

        return encode

    def prepare(self, model: Model, folder: Path) -> None:
        """Import, deploy, make a key and set the limits."""
        super().prepare(model, folder)
        if self._key or self.is_open:
            return
        made = self._run(folder, "keys", "create", "--name", "benchmark", "--json")
        self._key.append(orjson.loads(made)["key"])
        for limit in self.limits:
            self._run(folder, "limits", "set", *limit)

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The same, without `--open`."""
        launch = super().launch(model, folder, ports)
        if self.is_open:
            return launch
        return replace(launch, command=[each for each in launch.command if each != "--open"])

    def home(self, folder: Path) -> Path:
        """One home for each set of limits."""
        return super().home(folder).with_name(f"home-{self.name.replace(' ', '-')}")


def rate_limit() -> Sequence[str]:
    """Requests a minute for each key."""
    return ("rate", "--per", "key", "--amount", _AMPLE)


def quota() -> Sequence[str]:
    """Rows in all for each key."""
    return ("quota", "--per", "key", "--unit", "row", "--amount", _AMPLE)


def concurrency() -> Sequence[str]:
    """Open calls of each key."""
    return ("concurrency", "--per", "key", "--amount", "100000")
