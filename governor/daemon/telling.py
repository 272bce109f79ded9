"""The threads that tell receivers, one each: those of the settings, and those of `routing.yaml`."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from governor.core.errors import ConfigError
from governor.core.routing import LOG, Addressee, Routing
from governor.loops.deliver import Deliver, Receiver

JOIN_TIMEOUT_S: Final = 3.0


class Telling:
    """Starts and stops the threads, each of which `make` makes of a receiver.

    `named` makes the receivers of `routing.yaml`; it raises ConfigError where it cannot.
    """

    def __init__(
        self,
        fixed: Sequence[Receiver],
        *,
        make: Callable[[Receiver], Deliver],
        named: Callable[[Addressee], Receiver],
    ) -> None:
        self._fixed = {receiver.name: receiver for receiver in fixed}
        self._make = make
        self._named = named
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Deliver, threading.Thread, threading.Event]] = {}
        self._addressed: dict[str, Addressee] = {}
        self._wanted: tuple[Addressee, ...] = ()
        self._open = False

    def check(self, routing: Routing) -> None:
        """Raise ConfigError where somebody is to be told who cannot be."""
        for each in routing.receivers:
            self._named(each)
        known = {LOG, *self._fixed, *(each.name for each in routing.receivers)}
        for route in routing.routes:
            for name in (*route.to, *(to for each in route.escalate for to in each.to)):
                if name not in known:
                    why = "slack.bot_token and slack.channel, or slack.webhook_url, in settings"
                    raise ConfigError(f"{route.place}: to={name!r}: needs {why}")

    def use(self, routing: Routing) -> None:
        """Tell the receivers of a routing from now on, and no others."""
        with self._lock:
            self._wanted = routing.receivers
            if self._open:
                self._adjust()

    def open(self) -> None:
        """Start the threads."""
        with self._lock:
            self._open = True
            for receiver in self._fixed.values():
                self._start(receiver)
            self._adjust()

    def close(self) -> None:
        """Ask all threads to end, then wait for them."""
        with self._lock:
            self._open = False
            self._stop(list(self._running))

    @property
    def troubles(self) -> list[str]:
        """Why somebody cannot be told, in plain lines."""
        with self._lock:
            running = list(self._running.values())
        return [deliver.trouble for deliver, _, _ in running if deliver.trouble]

    def _adjust(self) -> None:
        wanted = {each.name: each for each in self._wanted}
        gone = [name for name, each in self._addressed.items() if wanted.get(name) != each]
        self._stop(gone)
        for name, each in wanted.items():
            if name not in self._running:
                self._addressed[name] = each
                self._start(self._named(each))

    def _start(self, receiver: Receiver) -> None:
        stop = threading.Event()
        deliver = self._make(receiver)
        name = f"deliver-{receiver.name}"
        thread = threading.Thread(target=deliver.run, args=(stop,), name=name, daemon=True)
        thread.start()
        self._running[receiver.name] = (deliver, thread, stop)

    def _stop(self, names: Iterable[str]) -> None:
        ending = [self._running.pop(name) for name in names if name in self._running]
        for name in names:
            self._addressed.pop(name, None)
        for _, _, stop in ending:
            stop.set()
        for _, thread, _ in ending:
            thread.join(JOIN_TIMEOUT_S)
