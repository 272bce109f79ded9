"""Pictures of alerts, for those who are told: where the extra that draws is installed."""

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from governor.core.errors import GovernorError
from governor.core.picture import Picture
from governor.loops.deliver import Ask

_log = structlog.get_logger()


class Drawing:
    """Draws alerts by id as PNG; `pictured` runs in the thread that owns the store."""

    def __init__(self, pictured: Callable[[str], Picture | None], *, ask: Ask) -> None:
        self._pictured = pictured
        self._ask = ask
        self._alert: Any = None
        try:
            self._alert = import_module("governor.pictures.alert")
        except ImportError as error:
            _log.info("charts.missing", module=error.name, advice="pip install 'governor[charts]'")

    def __call__(self, alert: str) -> bytes | None:
        """Return a picture of an alert; None where there is none, or it cannot be drawn."""
        if self._alert is None:
            return None
        try:
            picture = self._ask(lambda: self._pictured(alert))
            if picture is None:
                return None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "alert.png"
                self._alert.draw(picture, path)
                return path.read_bytes()
        except (GovernorError, ValueError, OSError) as error:
            _log.warning("chart.failed", alert=alert, error=str(error)[:200])
            return None
