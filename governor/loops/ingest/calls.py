"""Calls of other threads, done by the thread that owns the store, between two batches."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, TypeVar

from governor.core.errors import TransientError

MAX_AT_ONCE: Final = 64
"""Calls done before the next batch has its turn."""
TIMEOUT_S: Final = 60.0
"""How long a caller waits for its turn and the answer."""

_T = TypeVar("_T")


class Calls:
    """A queue of calls; many threads `ask`, one has them answered."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._closed = False

    def ask(self, call: Callable[[], _T]) -> _T:
        """Return what `call` returned, or raise what it raised.

        Raise TransientError where the calls are closed, or it does not get its turn in time.
        """
        answer: Future[_T] = Future()
        self._asked.put((call, answer))
        if self._closed:
            self._refuse()
        try:
            return answer.result(TIMEOUT_S)
        except FutureTimeoutError:
            answer.cancel()
            raise TransientError("the store is busy; try again") from None

    def answer(self) -> None:
        """Do the calls that wait, some at most."""
        for _ in range(MAX_AT_ONCE):
            try:
                call, answer = self._asked.get_nowait()
            except queue.Empty:
                return
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(call())
            except Exception as error:  # noqa: BLE001  # the caller's to handle
                answer.set_exception(error)

    def close(self) -> None:
        """Refuse the calls that wait and all that come."""
        self._closed = True
        self._refuse()

    def _refuse(self) -> None:
        while True:
            try:
                _, answer = self._asked.get_nowait()
            except queue.Empty:
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(TransientError("governor is stopping"))
