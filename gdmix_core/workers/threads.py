"""Threads that share the pieces of one work: compiled kernels and Arrow's readers, which let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait


class Threads:
    """So many threads, that of the caller among them.

    Parameters
    ----------
    count
        From 1 on; the caller's alone starts none.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._others = ThreadPoolExecutor(count - 1) if count > 1 else None

    def each(self, work: Callable[[int], object], pieces: int) -> None:
        """Call work(0) … work(pieces − 1), each once, begun in this order.

        Raises what a piece raises, after all threads have stopped.
        """
        # One thread asks a range's iterator at a time, as it is one step under Python's lock.
        numbers = iter(range(pieces))

        def work_on() -> None:
            for number in numbers:
                work(number)

        running = []
        if self._others is not None:
            running = [self._others.submit(work_on) for _ in range(min(self.count, pieces) - 1)]
        try:
            work_on()
        finally:
            wait(running)
        for other in running:
            other.result()

    def each_span(self, work: Callable[[int, int], object], length: int, size: int) -> None:
        """Call work(begin, end) for each of the spans of `size` that 0 … length − 1 is cut into."""
        self.each(lambda k: work(k * size, min((k + 1) * size, length)), -(-length // size))
