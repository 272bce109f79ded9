"""Pictures of alerts, for those who are told: where the extra that draws is installed."""

import queue
import tempfile
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog

from governor.core.errors import GovernorError
from governor.core.picture import Picture
from governor.loops.deliver import Ask

MAX_JOBS: Final = 20
"""Pictures that wait to be drawn."""
NEEDED: Final = ("altair", "vl_convert")
"""What the extra brings along."""
ADVICE: Final = "pip install 'governor[charts]'"

_log = structlog.get_logger()


class Behind:
    """Does jobs one after another in a thread of its own, so that nobody waits for a picture.

    What there is no room for is left undone, and so is the rest when the daemon ends.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(MAX_JOBS)
        self._begun = False

    def __call__(self, job: Callable[[], None]) -> None:
        """Take a job."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, name="drawing", daemon=True).start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            _log.warning("chart.left_out", waiting=MAX_JOBS)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:  # noqa: BLE001  # the top of a loop: log, go on
                _log.exception("chart.failed")


class Drawing:
    """Draws alerts by id as PNG; `pictured` runs in the thread that owns the store."""

    def __init__(self, pictured: Callable[[str], Picture | None], *, ask: Ask) -> None:
        self._pictured = pictured
        self._ask = ask
        self._missing = next((name for name in NEEDED if find_spec(name) is None), None)
        if self._missing:
            _log.info("charts.missing", module=self._missing, advice=ADVICE)

    def __call__(self, alert: str) -> bytes | None:
        """Return a picture of an alert; None where there is none, or it cannot be drawn."""
        if self._missing:
            return None
        try:
            picture = self._ask(lambda: self._pictured(alert))
            if picture is None:
                return None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "alert.png"
                drawing = import_module("governor.pictures.alert")  # heavy, and seldom needed
                drawing.draw(picture, path)
                return path.read_bytes()
        except (GovernorError, ValueError, OSError) as error:
            _log.warning("chart.failed", alert=alert, error=str(error)[:200])
            return None
