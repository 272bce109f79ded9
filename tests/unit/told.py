"""Bulletins as the outbox would make them, for tests of receivers."""

from collections.abc import Sequence

from governor.core.bulletins import Bulletin, News
from governor.core.notifications import Notice


def one(notice: Notice, *, reference: str | None = None, unsure: bool = False) -> Bulletin:
    """Return a bulletin of one alert that has a thread for itself, as its revision is told."""
    return of(
        [notice], thread=notice.message, serial=notice.revision, reference=reference, unsure=unsure
    )


def of(
    notices: Sequence[Notice],
    *,
    thread: str = "t1",
    serial: int = 1,
    news: Sequence[Notice] | None = None,
    reference: str | None = None,
    unsure: bool = False,
    storm: bool = False,
    repeats: bool = False,
    rose: bool = False,
    more: int = 0,
) -> Bulletin:
    """Return a bulletin of several alerts, of which all are news unless some are named.

    So many `more` are open and not shown.
    """
    last = [notice for notice in notices if notice.resolved is None]
    changed = notices if news is None else news
    return Bulletin(
        thread=thread,
        serial=serial,
        opened_at=min(notice.fired_at for notice in notices),
        notices=tuple(notices),
        open=len(last) + more,
        over=len(notices) - len(last),
        level=max(notice.level for notice in (last or notices)),
        news=tuple(News(notice, notice.history[-1:], first=serial == 1) for notice in changed),
        storm=storm,
        repeats=repeats,
        rose=rose,
        reference=reference,
        unsure=unsure,
    )
