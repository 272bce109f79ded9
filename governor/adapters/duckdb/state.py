"""The state of alerts, what people were told, directives and the audit: in the store's file."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa

from governor.adapters.duckdb import asking, histories, outbox, queries, rows
from governor.adapters.duckdb.explaining import Numbers
from governor.adapters.duckdb.file import registered
from governor.adapters.duckdb.store import Store
from governor.core.acks import Ack
from governor.core.admission import NO_WATERMARK_US
from governor.core.alerts import Alert, AlertKey, Phase, Seen, Transition
from governor.core.decisions import Decisions
from governor.core.directives import Directive
from governor.core.gauges.history import Block, Exemption, Wanted
from governor.core.gauges.shared import Sighting
from governor.core.notifications import Notice
from governor.core.pricewatch import Compared, ModelName, Unpriced
from governor.core.raises import Raise
from governor.core.routing import Silence
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.scopes import Key
from governor.core.stories import Comparison, Spans
from governor.core.totals import Mask, Sums

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class State:
    """Reads and writes the state tables; used by the thread that owns the store, and no other."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self.store: Final = store
        self._now = now
        self.decided, self._seq = self._stored()

    def alerts(self, open_or_after: datetime) -> list[Alert]:
        """Return every alert that is open, or whose period ends after a time."""
        found = self._rows(
            "SELECT * FROM alerts WHERE phase <> $1 OR period_end > $2",
            [Phase.RESOLVED.value, open_or_after],
        )
        return [rows.alert_of(row) for row in found]

    def acks(self, now: datetime) -> list[Ack]:
        """Return the newest acknowledgement of each alert, if it ends after `now`."""
        found = self._rows(
            "SELECT * FROM (FROM acks QUALIFY row_number() OVER"
            " (PARTITION BY alert_id ORDER BY made_at DESC) = 1) WHERE until > $1",
            [now],
        )
        return [rows.ack_of(row) for row in found]

    def silences(self, now: datetime) -> list[Silence]:
        """Return the silences that people ordered and that end after `now`."""
        found = self._rows(
            "SELECT * FROM (FROM silences QUALIFY row_number() OVER"
            " (PARTITION BY silence ORDER BY made_at DESC) = 1) WHERE until > $1 ORDER BY made_at",
            [now],
        )
        return [rows.silence_of(row) for row in found]

    def raises(self, now: datetime) -> list[Raise]:
        """Return the raises of budgets that end after `now`."""
        found = self._rows(
            "SELECT * FROM (FROM raises QUALIFY row_number() OVER"
            " (PARTITION BY raise ORDER BY made_at DESC) = 1) WHERE until > $1 ORDER BY asked_at",
            [now],
        )
        return [rows.raise_of(row) for row in found]

    def last_report(self, report: str) -> datetime | None:
        """Return when the last period began that is in the ledger of a report."""
        (row,) = self._rows(
            "SELECT max(period_start) AS last FROM report_ledger WHERE report = $1", [report]
        )
        found: datetime | None = row["last"]
        return found

    def reports(self, limit: int) -> list[dict[str, Any]]:
        """Return the ledger of reports without what they told, the newest first."""
        return self._rows(
            "SELECT * EXCLUDE (body), body IS NOT NULL AS made FROM report_ledger"
            " ORDER BY made_at DESC, report, period_start DESC LIMIT $1",
            [limit],
        )

    def report_body(self, message: str) -> str | None:
        """Return what a report told, by the message that tells of it; None for an unknown one."""
        found = self._rows(
            "SELECT body FROM report_ledger WHERE body IS NOT NULL AND"
            " 'report-' || report || '-' || strftime(made_at, '%Y%m%dT%H%M%S.%f') = $1",
            [message],
        )
        body: str | None = found[0]["body"] if found else None
        return body

    def directives(self, now: datetime) -> list[Directive]:
        """Return the newest version of each directive that ends later or whose alert lasts."""
        found = self._rows(
            "SELECT arg_max(body, version) AS body FROM directive_versions GROUP BY directive_id"
            " HAVING arg_max(until, version) > $1 OR left(directive_id, 12) IN"
            " (SELECT alert_id FROM alerts WHERE phase <> 'resolved')",
            [now],
        )
        return [msgspec.json.decode(row["body"], type=Directive) for row in found]

    def max_version(self) -> int:
        """Return the greatest version of a directive; 0 where there is none."""
        return int(self._one("SELECT coalesce(max(version), 0) FROM directive_versions"))

    def notices(self, messages: Sequence[str]) -> dict[str, Notice]:
        """Return what was last to be said in these messages, less those of which nothing was."""
        found = self._rows(
            "SELECT message, any_value(body) AS body FROM messages"
            " WHERE message IN (SELECT unnest($1::VARCHAR[])) GROUP BY ALL",
            [list(messages)],
        )
        return {row["message"]: msgspec.json.decode(row["body"], type=Notice) for row in found}

    def history(self, alerts: Sequence[AlertKey]) -> list[tuple[AlertKey, Transition]]:
        """Return the lines of these alerts, in order."""
        keys = {key.id: key for key in alerts}
        found = self._rows(
            "SELECT * FROM alert_lines WHERE alert_id IN (SELECT unnest($1::VARCHAR[]))"
            " ORDER BY seq",
            [list(keys)],
        )
        return [(keys[row["alert_id"]], rows.transition_of(row)) for row in found]

    def totals(self, mask: Mask, start: datetime, end: datetime) -> list[Sums]:
        """Return what is stored of [`start`, `end`) by event time, as if used at `start`."""
        with self.store.database.translated() as connection:
            return connection.execute(queries.stored_sums(mask), [start, end]).fetchall()

    def totals_ahead(self, mask: Mask, start: datetime) -> list[Sums]:
        """Return what is stored from `start` on by event time, by quarter of an hour."""
        with self.store.database.translated() as connection:
            return connection.execute(queries.sums_ahead(mask), [start]).fetchall()

    def sums_since(self, mask: Mask, start: datetime, cell: timedelta) -> Iterator[Sums]:
        """Yield what is stored from `start` on by event time, by cells of that length."""
        query = queries.sums_since(mask, cell // timedelta(microseconds=1))
        with self.store.database.translated() as connection:
            yield from asking.streamed(connection, query, [start])

    def seen(self, mask: Mask, start: datetime) -> Iterator[Sighting]:
        """Yield when each combination of values was last seen, from `start` on by event time."""
        with self.store.database.translated() as connection:
            yield from asking.streamed(connection, queries.seen_since(mask), [start])

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when, at most `at`, the denominator of a ratio was told."""
        with self.store.database.translated() as connection:
            return asking.stated_until(connection, rule, at)

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window."""
        with self.store.database.translated() as connection:
            return asking.stated(connection, rule, start, end)

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule; raise PermanentError where it has no answer in time."""
        self.store.require_open()
        with self.store.database.translated() as connection:
            return asking.answer(connection, rule, start, end)

    def histories(self, wanted: Wanted) -> Iterator[Block]:
        """Yield what groups used by cell."""
        with self.store.database.translated() as connection:
            yield from histories.histories(connection, wanted)

    def exemptions(self, rule: str) -> Sequence[Exemption]:
        """Return what a rule is not to learn from."""
        with self.store.database.translated() as connection:
            return histories.exemptions(connection, rule)

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison:
        """Compare what a group of a rule used in two spans."""
        with self.store.database.translated() as connection:
            return histories.compared(connection, rule, group, spans)

    def newest(self) -> datetime | None:
        """Return the newest event time of all partitions; None before the first event."""
        known = [state.watermark_us for state in self.store.partitions.values()]
        newest_us = max(known, default=NO_WATERMARK_US)
        return None if newest_us == NO_WATERMARK_US else EPOCH + timedelta(microseconds=newest_us)

    @contextmanager
    def numbers(self) -> Iterator[Numbers]:
        """Hand out what explains rules; used by the thread that owns the store."""
        self.store.require_open()
        with self.store.database.translated() as connection:
            yield Numbers(connection)

    def recall(self) -> None:
        """Learn whether a commit of unknown outcome was made."""
        self.decided, self._seq = self._stored()

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        """Store decisions in one transaction; once, however often they are handed in.

        `number` is one more than the last one stored. A crash before the commit leaves nothing,
        and the totals are judged again at the next start. Raise TransientError where the outcome
        is unknown or nothing was stored: `recall`, take up what is stored, and decide anew.
        """
        self.store.require_open()
        if self._one("SELECT number FROM decided") >= number:
            self.recall()
            return
        self.store.database.check_space()
        with self.store.database.translated() as connection:
            connection.execute("BEGIN")
            _replace_alerts(connection, decisions.alerts)
            lines = itertools.starmap(rows.line_row, enumerate(decisions.lines, self._seq + 1))
            _insert(connection, "alert_lines", rows.LINES, lines)
            outbox.want(connection, decisions.notices, receivers, self._now())
            _insert(
                connection,
                "directive_versions",
                rows.DIRECTIVES,
                map(rows.directive_row, decisions.directives),
            )
            _insert(connection, "audit", rows.AUDIT, map(rows.audit_row, decisions.audit))
            exempt = (rows.exemption_row(each, self._now()) for each in decisions.exemptions)
            _insert(connection, "exemptions", rows.EXEMPTIONS, exempt)
            _insert(connection, "acks", rows.ACKS, map(rows.ack_row, decisions.acks))
            raises = (rows.raise_row(each, self._now()) for each in decisions.raises)
            _insert(connection, "raises", rows.RAISES, raises)
            silences = (rows.silence_row(each, self._now()) for each in decisions.silences)
            _insert(connection, "silences", rows.SILENCES, silences)
            _insert(
                connection, "report_ledger", rows.REPORTS, map(rows.report_row, decisions.reports)
            )
            connection.execute("UPDATE decided SET number = $1", [number])
            connection.execute("COMMIT")
        self.decided = number
        self._seq += len(decisions.lines)

    def recent_alerts(self, limit: int) -> list[Alert]:
        """Return alerts that fired, open ones first, the newest before the others."""
        found = self._rows(
            "SELECT * FROM alerts WHERE fired_at IS NOT NULL"
            " ORDER BY phase = $1, fired_at DESC, alert_id LIMIT $2",
            [Phase.RESOLVED.value, limit],
        )
        return [rows.alert_of(row) for row in found]

    def alert(self, name: str) -> Alert | None:
        """Return the alert of an id; None where there is none."""
        found = self._rows("SELECT * FROM alerts WHERE alert_id = $1", [name])
        return rows.alert_of(found[0]) if found else None

    def last_notice(self, prefix: str) -> Notice | None:
        """Return what was last to be said in the newest message of this name and a time."""
        found = self._rows(
            "SELECT body FROM messages WHERE starts_with(message, $1)"
            " AND regexp_full_match(message[len($1) + 1 :], '-[0-9]{8}T[0-9]{6}[.][0-9]{6}')"
            " ORDER BY wanted_at DESC, message LIMIT 1",
            [prefix],
        )
        return msgspec.json.decode(found[0]["body"], type=Notice) if found else None

    def open_notices(self, kind: str) -> list[Notice]:
        """Return how messages stand that begin like this and have not ended."""
        found = self._rows(
            "SELECT any_value(body) AS body FROM messages WHERE starts_with(message, $1)"
            " GROUP BY message ORDER BY message",
            [f"{kind}-"],
        )
        notices = [msgspec.json.decode(row["body"], type=Notice) for row in found]
        return [notice for notice in notices if notice.resolved is None]

    def unpriced(self, since: datetime) -> dict[ModelName, Unpriced]:
        """Return usage without a price from the hour of a time on, by model."""
        found = self._rows(queries.UNPRICED_SINCE, [since])
        return {
            ModelName(row["provider"], row["model"]): Unpriced(
                row["events"], row["tokens"], int(row["nano"])
            )
            for row in found
        }

    def compared(self, since: date) -> dict[tuple[date, ModelName], Compared]:
        """Return reported costs and ours from a UTC day on, by day and model."""
        found = self._rows(queries.COMPARED_SINCE, [since])
        return {
            (row["day"], ModelName(row["provider"], row["model"])): Compared(
                int(row["reported"]), int(row["ours"])
            )
            for row in found
        }

    def _stored(self) -> tuple[int, int]:
        """Return the numbers of the last decisions and of the last line of history."""
        last_line = self._one("SELECT coalesce(max(seq), 0) FROM alert_lines")
        return self._one("SELECT number FROM decided"), last_line

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        self.store.require_open()
        with self.store.database.translated() as connection:
            found: list[dict[str, Any]] = (
                connection.execute(query, list(values)).to_arrow_table().to_pylist()
            )
        return found

    def _one(self, query: str) -> int:
        (row,) = self._rows(query)
        return int(next(iter(row.values())))


def _replace_alerts(connection: duckdb.DuckDBPyConnection, alerts: Iterable[Alert]) -> None:
    values = [rows.alert_row(alert) for alert in alerts]
    if values:
        with registered(connection, new_rows=pa.Table.from_pylist(values, rows.ALERTS)):
            connection.execute(
                "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM new_rows)"
            )
            connection.execute("INSERT INTO alerts BY NAME FROM new_rows")


def _insert(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    schema: pa.Schema,
    listed: Iterable[dict[str, Any]],
) -> None:
    values = list(listed)
    if values:
        with registered(connection, new_rows=pa.Table.from_pylist(values, schema)):
            connection.execute(f"INSERT INTO {table} BY NAME FROM new_rows")
