"""Mini-batches that are made in a thread while the network works on those before."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

AHEAD = 4  # batches

Given = TypeVar("Given")
Made = TypeVar("Made")


class Prefetched(Generic[Given, Made]):
    """Iterate over `make(one)` for each one of `plan`, in order, some made ahead of time.

    `waited` is the number of seconds that the consumer has waited.
    """

    def __init__(self, make: Callable[[Given], Made], plan: Iterable[Given]) -> None:
        self.waited = 0.0
        self._make, self._plan = make, iter(plan)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: deque[Future[Made]] = deque()

    def __enter__(self) -> Self:
        self._submit(AHEAD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        if not self._ahead:
            raise StopIteration
        started = time.perf_counter()
        made = self._ahead.popleft().result()
        self.waited += time.perf_counter() - started
        self._submit(1)
        return made

    def _submit(self, count: int) -> None:
        self._ahead += [self._thread.submit(self._make, one) for one in islice(self._plan, count)]
