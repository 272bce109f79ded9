"""What each receiver is to be told and was told: the tables `messages` and `threads`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa

from governor.adapters.duckdb import rows
from governor.adapters.duckdb.file import registered
from governor.adapters.duckdb.store import Store
from governor.core.bulletins import ALONE, STORM_SPAN, Bulletin, News, Owed, Step, Thread
from governor.core.notifications import Notice
from governor.core.rules.shared import Level

MAX_ERROR_CHARACTERS: Final = 500
MAX_OWED: Final = 5_000
"""Groups that are looked at at a time; the others have their turn after them."""
MAX_SHOWN: Final = 50
"""Alerts of a thread, and changes in it, that are handed to a receiver; the others are counted."""

_KEY: Final = "CASE WHEN $apart THEN message ELSE together END"
_THIS: Final = "receiver = $receiver AND thread = $thread"
_OWING: Final = 'told < wanted AND NOT (escalated AND told = 0 AND "over")'
_BEHIND: Final = f"""
receiver = $receiver AND {_OWING} AND next_at <= $now
AND NOT (escalated AND told = 0 AND coalesce(quiet_until > $now, false))
"""

_OWED: Final = f"""
SELECT {_KEY} AS key, thread, max(level) AS level,
       min(CASE WHEN escalated AND told = 0 THEN greatest(next_at, quiet_until)
           ELSE wanted_at END) AS since,
       bool_and("over") AS "over"
FROM messages WHERE {_BEHIND}
GROUP BY ALL ORDER BY since, key LIMIT {MAX_OWED}
"""  # noqa: S608  # our own names; so are those below
_THREADS: Final = """
SELECT t.thread AS id, any_value(t.together) AS key, any_value(t.opened_at) AS opened_at,
       any_value(t.storm) AS storm, any_value(t.level) AS level,
       count_if(NOT m."over")::BIGINT AS open,
       count_if(NOT m."over" AND NOT coalesce(m.quiet_until > $now, false))::BIGINT AS loud,
       any_value(t.attempts) AS attempts, any_value(t.next_at) AS next_at,
       any_value(t.told_at) AS told_at, any_value(t.posted_at) AS posted_at,
       any_value(t.closed_at) IS NOT NULL AS closed
FROM threads t LEFT JOIN messages m ON m.receiver = t.receiver AND m.thread = t.thread
WHERE t.receiver = $receiver
AND (list_contains($named, t.thread) OR (t.closed_at IS NULL AND NOT $apart))
GROUP BY t.thread
"""
_BEGUN: Final = """
SELECT count(DISTINCT together) AS many FROM messages
WHERE receiver = $receiver AND begun_at > $since
"""
_OPENED: Final = """
INSERT INTO threads BY NAME
SELECT $receiver AS receiver, $thread AS thread, $key AS together, $storm AS storm,
       $now AS opened_at, 0 AS serial, 1 AS attempts, false AS unsure, $now AS next_at
"""
_TRIED: Final = f"""
UPDATE threads SET attempts = attempts + 1, next_at = $now, storm = storm OR $storm WHERE {_THIS}
"""  # noqa: S608
_CLAIMED: Final = f"""
UPDATE messages SET thread = $thread, trying = wanted, trying_lines = lines
WHERE {_BEHIND} AND (thread = $thread OR (thread IS NULL AND list_contains($joining, {_KEY})))
"""  # noqa: S608
_STANDING: Final = """
SELECT t.*, m.* FROM threads t, (
    SELECT count_if(NOT "over")::BIGINT AS open, count_if("over")::BIGINT AS "over",
           count_if(trying > told)::BIGINT AS news, count_if(told = 0 AND NOT "over") AS fresh,
           max(CASE WHEN "over" THEN NULL ELSE level END) AS worst, max(level) AS highest
    FROM messages WHERE receiver = $receiver AND thread = $thread
) m
WHERE t.receiver = $receiver AND t.thread = $thread
"""
_WORST: Final = f'"over", messages.level DESC, weight DESC, begun_at, message LIMIT {MAX_SHOWN}'
_SHOWN: Final = f"SELECT body FROM messages WHERE {_THIS} ORDER BY {_WORST}"  # noqa: S608
_NEWS: Final = f"""
SELECT body, told = 0 AS first, told_lines FROM messages WHERE {_THIS} AND trying > told
ORDER BY {_WORST}
"""  # noqa: S608
_TOLD: Final = f"""
UPDATE messages SET told = trying, told_lines = trying_lines, told_at = $now
WHERE {_THIS} AND trying > told
"""  # noqa: S608
_UP_TO_DATE: Final = f"""
UPDATE threads SET
    serial = serial + 1, attempts = 0, unsure = false, next_at = $now, last_error = NULL,
    reference = coalesce($reference, reference), told_at = $now, level = $level,
    posted_at = CASE WHEN $noticed THEN $now ELSE posted_at END,
    closed_at = CASE WHEN EXISTS (
        FROM messages m WHERE m.receiver = $receiver AND m.thread = $thread
        AND (NOT m."over" OR m.told < m.wanted)
    ) THEN NULL ELSE $now END
WHERE {_THIS}
"""  # noqa: S608
_NOT_WITH: Final = f"""
SELECT message FROM messages WHERE {_BEHIND}
AND (NOT "over" OR starts_with(together, '{ALONE}'))
AND message NOT IN (SELECT message FROM messages WHERE receiver = $fallback)
"""  # noqa: S608
_HANDED_OVER: Final = f"""
INSERT INTO messages BY NAME
SELECT m.* REPLACE ($fallback AS receiver, $now AS wanted_at, $now AS begun_at, $now AS next_at,
                    NULL AS thread, NULL AS trying, NULL AS trying_lines, 0 AS told,
                    0 AS told_lines, NULL AS told_at, false AS escalated)
FROM messages m WHERE receiver = $receiver AND message IN ({_NOT_WITH})
"""  # noqa: S608
_NOT_TOLD: Final = f"""
UPDATE threads SET last_error = $error, next_at = $next_at, unsure = $unsure WHERE {_THIS}
"""  # noqa: S608


class Outbox:
    """Reads and writes what is owed; used by the thread that owns the store, and no other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def owed(
        self, receiver: str, now: datetime, *, apart: bool
    ) -> tuple[list[Owed], list[Thread], int]:
        """Return the groups that a receiver is behind with, its threads, and how many began lately.

        With `apart` each alert is a group.
        """
        given = {"receiver": receiver, "now": now, "apart": apart, "since": now - STORM_SPAN}
        behind = self._rows(_OWED, given)
        owed = [Owed(**{**row, "level": Level(row["level"])}) for row in behind]
        if apart and not owed:
            return [], [], 0
        named = sorted({each.thread for each in owed if each.thread})
        threads = [_thread_of(row) for row in self._rows(_THREADS, given | {"named": named})]
        fresh = any(each.thread is None for each in owed)
        return owed, threads, self._rows(_BEGUN, given)[0]["many"] if fresh else 0

    def begin(self, receiver: str, step: Step, now: datetime, *, apart: bool) -> Bulletin:
        """Record that a try begins, before it is made; return what is to be told."""
        thread = step.thread or _name(receiver, step.key, now)
        given = {
            "receiver": receiver,
            "thread": thread,
            "now": now,
            "key": step.key,
            "storm": step.storm,
            "joining": list(step.joining),
            "apart": apart,
        }
        with self._transaction() as run:
            run(_OPENED if step.thread is None else _TRIED, given)
            run(_CLAIMED, given)
            bulletin = self._bulletin(receiver, thread, step)
            run(f"UPDATE threads SET unsure = true WHERE {_THIS}", given)  # noqa: S608
        return bulletin

    def told(self, receiver: str, bulletin: Bulletin, reference: str | None, now: datetime) -> None:
        """Record that a receiver was told a bulletin."""
        given = {
            "receiver": receiver,
            "thread": bulletin.thread,
            "now": now,
            "reference": reference,
            "noticed": bulletin.is_first or bulletin.rose or bulletin.repeats,
            "level": int(bulletin.level),
        }
        with self._transaction() as run:
            run(_TOLD, given)
            run(_UP_TO_DATE, given)

    def not_told(
        self, receiver: str, bulletin: Bulletin, error: str, next_at: datetime, *, unsure: bool
    ) -> None:
        """Record why a receiver was not told, and when to try again."""
        given = {
            "receiver": receiver,
            "thread": bulletin.thread,
            "error": error[:MAX_ERROR_CHARACTERS],
            "next_at": next_at,
            "unsure": unsure,
        }
        with self._transaction() as run:
            run(_NOT_TOLD, given)

    def hand_over(self, receiver: str, fallback: str, now: datetime) -> int:
        """Have another told of what lasts, and reports, that one is behind with; return how much.

        It hears how each of those goes on, too.
        """
        given = {"receiver": receiver, "fallback": fallback, "now": now}
        fresh = self._rows(_NOT_WITH, given)
        if fresh:
            with self._transaction() as run:
                run(_HANDED_OVER, given)
        return len(fresh)

    def episodes(self, thread: str) -> list[str]:
        """Return the episodes of alerts that are in a thread."""
        query = "SELECT DISTINCT message FROM messages WHERE thread = $thread ORDER BY message"
        return [row["message"] for row in self._rows(query, {"thread": thread})]

    def undelivered(self) -> Mapping[str, int]:
        """Return how many messages each receiver is behind."""
        found = self._rows(
            f"SELECT receiver, count(*) AS behind FROM messages WHERE {_OWING} GROUP BY ALL",  # noqa: S608
            {},
        )
        return {row["receiver"]: row["behind"] for row in found}

    def _bulletin(self, receiver: str, thread: str, step: Step) -> Bulletin:
        given = {"receiver": receiver, "thread": thread}
        (known,) = self._rows(_STANDING, given)
        shown, news = self._rows(_SHOWN, given), self._rows(_NEWS, given)
        worst = known["highest"] if known["worst"] is None else known["worst"]
        before = known["level"]
        higher = known["worst"] is not None and (before is None or known["worst"] > before)
        return Bulletin(
            thread=thread,
            serial=known["serial"] + 1,
            opened_at=known["opened_at"],
            notices=tuple(_notice(row["body"]) for row in shown),
            open=known["open"],
            over=known["over"],
            level=Level(worst),
            news=tuple(_news(row) for row in news),
            more_news=max(0, known["news"] - len(news)),
            storm=known["storm"],
            repeats=step.repeats,
            rose=higher or _is_fresh(known),
            reference=known["reference"],
            attempts=known["attempts"] - 1,
            unsure=known["unsure"],
        )

    @contextmanager
    def _transaction(self) -> Iterator[Callable[[str, Mapping[str, Any]], object]]:
        """Hand out what runs statements of one transaction."""
        self._store.require_open()
        with self._store.database.translated() as connection:
            connection.execute("BEGIN")
            yield lambda statement, given: connection.execute(statement, _used(statement, given))
            connection.execute("COMMIT")

    def _rows(self, query: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._store.require_open()
        with self._store.database.translated() as connection:
            found: list[dict[str, Any]] = (
                connection.execute(query, _used(query, given)).to_arrow_table().to_pylist()
            )
        return found


def want(
    connection: duckdb.DuckDBPyConnection,
    notices: Sequence[Notice],
    receivers: Sequence[str],
    now: datetime,
) -> None:
    """Ask that receivers be told, in the transaction that is open.

    Those of `receivers` that were to be told of a message before are told of its change; it is
    begun for those that its notice names, and later for those that it escalates to.
    """
    wanted = [
        {
            "receiver": receiver,
            "message": notice.message,
            "body": msgspec.json.encode(notice).decode(),
            "together": notice.together or notice.message,
            "level": int(notice.level),
            "lines": len(notice.history),
            "over": notice.resolved is not None,
            "weight": notice.weight,
            "wanted": notice.revision,
            "wanted_at": now,
            "quiet_until": notice.quiet_until,
            "begun": notice.to is None or receiver in notice.to,
            "after_s": dict(notice.later).get(receiver),
        }
        for receiver in receivers
        for notice in notices
    ]
    if not wanted:
        return
    with registered(connection, new_rows=pa.Table.from_pylist(wanted, rows.MESSAGES)):
        connection.execute(
            "UPDATE messages SET body = n.body, wanted = n.wanted, level = n.level,"
            " lines = n.lines, over = n.over, weight = n.weight, quiet_until = n.quiet_until,"
            " next_at = CASE WHEN n.begun AND told = 0 THEN least(next_at, n.wanted_at)"
            " ELSE next_at END, escalated = escalated AND NOT n.begun,"
            " wanted_at = CASE WHEN told < messages.wanted THEN messages.wanted_at"
            " ELSE n.wanted_at END"
            " FROM new_rows n WHERE messages.receiver = n.receiver AND messages.message = n.message"
        )
        connection.execute(
            "INSERT INTO messages BY NAME SELECT * EXCLUDE (begun, after_s), 0 AS told,"
            " 0 AS told_lines, NOT begun AS escalated, wanted_at AS begun_at,"
            " CASE WHEN begun THEN wanted_at ELSE wanted_at + to_seconds(after_s) END AS next_at"
            " FROM new_rows n WHERE (begun OR (after_s IS NOT NULL AND NOT over)) AND NOT EXISTS"
            " (FROM messages m WHERE m.receiver = n.receiver AND m.message = n.message)"
        )


def _thread_of(row: Mapping[str, Any]) -> Thread:
    level = None if row["level"] is None else Level(row["level"])
    return Thread(**{**row, "level": level})


def _news(row: Mapping[str, Any]) -> News:
    notice = _notice(row["body"])
    return News(notice, notice.history[row["told_lines"] :], first=row["first"])


def _notice(body: str) -> Notice:
    return msgspec.json.decode(body, type=Notice)


def _is_fresh(known: Mapping[str, Any]) -> bool:
    """Return whether an alert joined a thread that people did not notice lately."""
    if not known["fresh"] or known["posted_at"] is None:
        return False
    return bool(known["next_at"] - known["posted_at"] >= STORM_SPAN)


def _name(receiver: str, key: str, now: datetime) -> str:
    return hashlib.blake2b(f"{receiver} {key} {now}".encode(), digest_size=6).hexdigest()


def _used(statement: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a statement names; DuckDB refuses others."""
    return {name: value for name, value in given.items() if f"${name}" in statement}
