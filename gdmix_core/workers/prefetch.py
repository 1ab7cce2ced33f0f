"""Work that threads do ahead of the one who needs it: batches are made while others are worked on."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], depth: int = 3) -> Generator[T]:
    """Yield the same items, made by a thread of its own, `depth` of them at most in advance.

    What the iterator raises is raised here. Closing this iterator ends the thread.
    """
    for _, item in prefetch_many(1, lambda _: items, 1, depth):
        yield item


def prefetch_many(
    count: int,
    items_of: Callable[[int], Iterator[T]],
    threads: int,
    depth: int = 3,
    stopped: threading.Event | None = None,
) -> Generator[tuple[int, T]]:
    """Yield (k, item) for the items of items_of(0) … items_of(count − 1), each iterator run through by one thread.

    They are begun in order; the items of several come mixed. At most `depth` items wait. Of what several iterators
    raise, the first one's is raised here, when those before it have ended. Closing this iterator ends the threads, each
    when it has made its next item; so does `stopped`, for somebody else to set.
    """
    made: queue.Queue[tuple[int, Any]] = queue.Queue(depth)
    numbers = iter(range(count))
    lock, closed = threading.Lock(), threading.Event()
    failures: dict[int, BaseException] = {}
    ended = object()

    def put(number: int, item: Any) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                made.put((number, item), timeout=0.1)
                return

    def work() -> None:
        while not closed.is_set():
            with lock:
                number = count if failures else next(numbers, count)
            if number == count:
                break
            try:
                for item in items_of(number):
                    put(number, item)
                    if closed.is_set():
                        break
            except BaseException as error:
                with lock:
                    failures[number] = error
        put(count, ended)

    running = max(1, min(threads, count))
    for _ in range(running):
        threading.Thread(target=work, daemon=True).start()
    try:
        while running:
            try:
                number, item = made.get(timeout=0.2)
            except queue.Empty:
                if stopped is not None and stopped.is_set():
                    return
                continue
            if item is ended:
                running -= 1
            else:
                yield number, item
        if failures:
            raise failures[min(failures)]
    finally:
        closed.set()
