"""Prefetching by a thread: batches are made while TensorFlow computes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


def prefetch(items: Iterator[T], depth: int = 3) -> Iterator[T]:
    """Yield the same items, made by a thread of its own, `depth` of them at most in advance.

    What the iterator raises is raised here. Closing this iterator ends the thread.
    """
    made: queue.Queue[Any] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Any) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                put((item, None))
                if closed.is_set():
                    return
            put((_END, None))
        except BaseException as error:
            put((_END, error))

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        closed.set()
