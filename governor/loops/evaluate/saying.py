"""What evaluation says of transitions: a count of each, and a line in the log."""

from collections.abc import Sequence
from typing import Final

import structlog

from governor import telemetry
from governor.core.decisions import Line

MAX_SHOWN: Final = 20
"""Changes that are logged of one evaluation, and totals that a line about a drift names."""

_log = structlog.get_logger()


def say(lines: Sequence[Line]) -> None:
    """Count and log transitions that are stored."""
    for line in lines:
        telemetry.TRANSITIONS.labels(line.transition.what.value, line.mode.value).inc()
    if len(lines) > MAX_SHOWN:
        _log.info("alerts.changed", lines=len(lines), shown=MAX_SHOWN)
    for line in lines[:MAX_SHOWN]:
        transition = line.transition
        _log.info(
            "alert.changed",
            alert=line.key.id,
            rule=line.key.rule,
            group=line.key.group,
            period=line.key.period.name,
            what=transition.what.value,
            alert_level=str(transition.level) if transition.level else None,
            threshold=transition.threshold,
            mode=line.mode.value,
            reason=transition.reason,
        )
