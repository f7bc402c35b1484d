"""Runs work in several threads and returns the results in order, within a limit of memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MAX_THREADS = 8


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], cost: Callable[[_Item], int], limit: int
) -> Generator[_Result, None, None]:
    """Results of ``work`` for each item, in the order of the items.

    Args:
        work: called from several threads at once.
        items: the items.
        cost: how much of the limit the work on an item takes.
        limit: maximum cost of the items in work at a time; a single item may cost more.
    """
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[int, Future[_Result]]] = deque()
    total = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="pivotal-images") as pool:
        try:
            for item in items:
                amount = cost(item)
                while waiting and (total + amount > limit or len(waiting) >= 2 * threads):
                    done, future = waiting.popleft()
                    yield future.result()
                    total -= done
                try:
                    waiting.append((amount, pool.submit(work, item)))
                    total += amount
                except RuntimeError:
                    # The system allows no more threads.
                    while waiting:
                        total -= waiting[0][0]
                        yield waiting.popleft()[1].result()
                    yield work(item)
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()
