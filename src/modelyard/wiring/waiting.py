"""Waiting for something that may be overtaken."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def unless(stopping: asyncio.Event, starting: Coroutine[Any, Any, _T]) -> _T | None:
    """What `starting` gives, or None when the event came first: a load may take for ever."""
    task = asyncio.ensure_future(starting)
    signalled = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()
