"""What is remembered of requests that may come again."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from modelyard.api.admin.repeats import Repeatable
from modelyard.core.administration.access import CreateKey, RevokeKey
from modelyard.core.administration.port import Reception
from modelyard.core.errors import Conflict, Invalid
from modelyard.core.identity import Principal, Role

ADMIN = Principal(tenant="default", key="k1", name="ann", role=Role.ADMIN)


class Memory:
    """Remembers answers, as a registry does."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, bytes]] = {}

    def once(self, mark: str, request: str, perform: Callable[[], bytes]) -> tuple[bytes, bool]:
        again = mark in self.kept
        if not again:
            self.kept[mark] = request, perform()
        return self.kept[mark][1], again


def answer(memory: Memory, operation: Any, credential: bytes) -> tuple[bytes, bool]:
    asked = Repeatable(ADMIN, "idem-1", credential)
    return asked.answer(cast(Reception, memory), operation, b"{}", lambda: b"a secret")


def test_a_secret_is_kept_only_for_who_has_another() -> None:
    """What is stored opens with the credential of then, and with no other."""
    memory = Memory()
    assert answer(memory, CreateKey.operation, b"Bearer one") == (b"a secret", False)
    assert answer(memory, CreateKey.operation, b"Bearer one") == (b"a secret", True)
    assert b"a secret" not in str(memory.kept).encode()
    with pytest.raises(Conflict, match="a secret in it"):
        answer(memory, CreateKey.operation, b"Bearer two")


def test_who_is_known_by_a_certificate_has_nothing_to_seal_a_secret_with() -> None:
    """So nothing is done that would have to be kept; anything else is repeated as for others."""
    memory = Memory()
    with pytest.raises(Invalid) as caught:
        answer(memory, CreateKey.operation, b"")
    assert (caught.value.code, memory.kept) == ("unrepeatable", {})
    assert answer(memory, RevokeKey.operation, b"") == (b"a secret", False)
