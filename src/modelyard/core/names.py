"""Names of models, and references to their versions: `churn`, `churn:3`, `churn@champion`."""

import re
from dataclasses import dataclass

from modelyard.core.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,128}")


def check_name(name: str, what: str = "model") -> str:
    """The name itself, if it is one: letters, digits, `.`, `_`, `-`; at most 128 characters."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            "bad_name",
            f"'{name:.140}' is no {what} name: start with a letter or digit, go on with letters, "
            "digits, '.', '_' or '-', 128 at most",
            field=what,
        )
    return name


def check_pattern(pattern: str, what: str = "models") -> str:
    """The pattern itself, if it is one: a name with `*`, `?` and `[…]` in it, as a shell's."""
    if not _PATTERN.fullmatch(pattern):
        raise Invalid(
            "bad_pattern",
            f"'{pattern:.140}' is no pattern of names: write a model's name, or 'churn*', or '*'",
            field=what,
        )
    return pattern


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, and at most one of a version number and an alias."""

    model: str
    version: int | None = None
    alias: str | None = None

    @staticmethod
    def parse(text: str) -> "Reference":
        """Read `model`, `model:version` or `model@alias`; raises `Invalid`."""
        model, at, alias = text.partition("@")
        if at:
            return Reference(check_name(model), alias=check_name(alias, "alias"))
        model, colon, version = text.partition(":")
        check_name(model)
        if not colon:
            return Reference(model)
        # isdecimal alone would admit digits of other scripts, and int() would read them.
        if not (version.isascii() and version.isdecimal() and 0 < int(version[:12]) < 2**31):
            raise Invalid(
                "bad_version",
                f"'{version:.40}' is no version number: use 1, 2, 3 …",
                field="version",
            )
        return Reference(model, version=int(version))

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.model}:{self.version}"
        return self.model if self.alias is None else f"{self.model}@{self.alias}"
