"""Pictures of alerts, for those who are told: where the extra that draws is installed."""

import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog

from governor.core.errors import GovernorError
from governor.core.picture import Picture
from governor.loops.deliver import Ask

NEEDED: Final = ("altair", "vl_convert")
"""What the extra brings along."""
ADVICE: Final = "pip install 'governor[charts]'"

_log = structlog.get_logger()


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
