"""Find the updates that make an algorithm fail, so that the round closes without them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import sentence_of

T = TypeVar("T")


async def combine_without_culprits(
    edges: Collection[str], combine: Callable[[Collection[str]], Awaitable[T]]
) -> tuple[T, dict[str, str]]:
    """Return the combined result, and the reason of each edge that was left out.

    Where the combination of all fails, the edges whose update fails by itself are left out; where none does, or the
    rest fails too, all are. Errors that another attempt may mend are raised.

    Args:
        combine: combines the updates of the given edges, also of none.
    """
    left_out: dict[str, str] = {}
    whole = await _attempt(edges, combine)
    if not isinstance(whole, str):
        return whole[0], left_out
    for edge in edges if len(edges) > 1 else ():
        alone = await _attempt([edge], combine)
        if isinstance(alone, str):
            left_out[edge] = alone
    rest = [edge for edge in edges if edge not in left_out]
    again = await _attempt(rest, combine) if rest and left_out else whole
    if not isinstance(again, str):
        return again[0], left_out
    return await combine([]), left_out | dict.fromkeys(rest, again)


async def _attempt(edges: Collection[str], combine: Callable[[Collection[str]], Awaitable[T]]) -> tuple[T] | str:
    """Return the result, or why there is none."""
    try:
        return (await combine(edges),)
    except Refused as error:
        return str(error)
    except (HeliographError, OSError, MemoryError):  # no broker, no room on the disk
        raise
    except Exception as error:
        return sentence_of(error)
