"""Reading ahead: the next steps are made by a thread while the current one trains.

For a GPU the thread copies batches to pinned memory, so that the copy to the device does not make the host
wait. On a CPU the cores compute the step, and a thread would only take one of them: steps are made when they
are needed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
DEPTH = 2  # steps in flight beside the current one


def read_ahead(items: Iterator[T], ready: Callable[[T], T], depth: int = DEPTH) -> Iterator[T]:
    """Yield `ready(item)` of all items, made by a thread that is at most `depth` items ahead.

    An error of the thread is raised where its item would be. The thread ends with the iterator.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> bool:
        while not left.is_set():
            try:
                made.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(ready(item)):
                    return
        except BaseException as error:  # raised again by the iterator
            put(None, error)
        else:
            put(None)

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        left.set()
        thread.join()
