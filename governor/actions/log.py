"""The receiver that is always there: one line in the daemon's log."""

from typing import Final

import structlog

from governor.core.bulletins import Bulletin

_log = structlog.get_logger()


class Log:
    """Tells by the line `alert.told`; nothing can refuse it, and nothing is edited."""

    name: Final = "log"
    apart: Final = True

    def tell(self, bulletin: Bulletin) -> None:
        """Log how the alert stands; a line cannot be edited, so there is no reference."""
        (notice,) = bulletin.notices
        _log.info(
            "alert.told",
            message=notice.message,
            revision=notice.revision,
            alert=notice.alert,
            rule=notice.rule,
            owner=notice.owner,
            mode=str(notice.mode),
            alert_level=str(notice.level),  # `level` is the line's own
            resolved=notice.resolved,
            title=notice.title,
            summary=notice.summary,
            value=notice.value,
            limit=notice.limit,
            percent=None if notice.percent is None else str(notice.percent),
            group=dict(notice.group),
            period=notice.period,
            period_end=notice.period_end.isoformat(),
            throttles=list(notice.throttles),
            why=notice.why,
        )
