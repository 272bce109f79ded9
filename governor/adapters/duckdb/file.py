"""The DuckDB file itself: made, opened, guarded and, when it breaks, opened again."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from governor import __version__
from governor.adapters.duckdb.rates import RateTable
from governor.core.errors import ConfigError, GovernorError, PermanentError, TransientError

SCHEMA_VERSION: Final = 5
UPGRADES: Final = {
    2: "ALTER TABLE alerts ADD COLUMN cleared_at TIMESTAMPTZ",
    3: """
ALTER TABLE alerts ADD COLUMN told HUGEINT DEFAULT 0;
ALTER TABLE alerts ADD COLUMN why VARCHAR;
CREATE TABLE exemptions (
    rule VARCHAR, "group" VARCHAR[], starts_at TIMESTAMPTZ, ends_at TIMESTAMPTZ, planned BOOLEAN,
    reason VARCHAR, who VARCHAR, made_at TIMESTAMPTZ
);
""",
    4: """
ALTER TABLE messages RENAME TO messages_4;
CREATE TABLE messages (
    receiver VARCHAR, message VARCHAR, body VARCHAR, together VARCHAR,
    level INTEGER, lines INTEGER, "over" BOOLEAN, weight HUGEINT,
    wanted INTEGER, wanted_at TIMESTAMPTZ, begun_at TIMESTAMPTZ, next_at TIMESTAMPTZ,
    quiet_until TIMESTAMPTZ, escalated BOOLEAN,
    thread VARCHAR, trying INTEGER, trying_lines INTEGER,
    told INTEGER, told_lines INTEGER, told_at TIMESTAMPTZ
);
CREATE TABLE threads (
    receiver VARCHAR, thread VARCHAR, together VARCHAR, storm BOOLEAN, opened_at TIMESTAMPTZ,
    serial INTEGER, level INTEGER, reference VARCHAR,
    attempts INTEGER, unsure BOOLEAN, next_at TIMESTAMPTZ, last_error VARCHAR,
    told_at TIMESTAMPTZ, posted_at TIMESTAMPTZ, closed_at TIMESTAMPTZ
);
INSERT INTO messages BY NAME
SELECT * EXCLUDE (reference, attempts, unsure, last_error), message AS together,
       (body->>'$.level')::INTEGER AS level, json_array_length(body, '$.history') AS lines,
       body->>'$.resolved' IS NOT NULL AS "over", 0 AS weight, wanted_at AS begun_at,
       false AS escalated,
       CASE WHEN told > 0 OR unsure THEN message END AS thread,
       CASE WHEN told > 0 OR unsure THEN told END AS trying,
       json_array_length(body, '$.history') AS trying_lines,
       CASE WHEN told > 0 THEN json_array_length(body, '$.history') ELSE 0 END AS told_lines
FROM messages_4;
INSERT INTO threads BY NAME
SELECT m.receiver, m.message AS thread, m.message AS together, false AS storm,
       m.wanted_at AS opened_at, least(m.told, 1) AS serial, n.level, m.reference, m.attempts,
       m.unsure, m.next_at, m.last_error, m.told_at, m.told_at AS posted_at,
       CASE WHEN n."over" AND m.told >= m.wanted THEN m.told_at END AS closed_at
FROM messages_4 m JOIN messages n ON n.receiver = m.receiver AND n.message = m.message
WHERE m.told > 0 OR m.unsure;
DROP TABLE messages_4;
CREATE TABLE acks (
    alert_id VARCHAR, episode INTEGER, who VARCHAR, made_at TIMESTAMPTZ, until TIMESTAMPTZ,
    level VARCHAR, snooze BOOLEAN, note VARCHAR
);
CREATE TABLE silences (
    silence VARCHAR, match VARCHAR, since TIMESTAMPTZ, until TIMESTAMPTZ, reason VARCHAR,
    who VARCHAR, made_at TIMESTAMPTZ
);
CREATE TABLE raises (
    raise VARCHAR, rule VARCHAR, amount HUGEINT, until TIMESTAMPTZ, reason VARCHAR,
    asked_by VARCHAR, asked_at TIMESTAMPTZ, approved_by VARCHAR[], needs INTEGER, ended BOOLEAN,
    made_at TIMESTAMPTZ
);
CREATE TABLE report_ledger (
    report VARCHAR, period VARCHAR, period_start TIMESTAMPTZ, period_end TIMESTAMPTZ,
    made_at TIMESTAMPTZ, body VARCHAR
);
""",
}
"""What makes a file of a version one of the next; others are rebuilt from Kafka."""

_HOLDER: Final = re.compile(r"\(PID (\d+)\)")
_CORRUPT: Final = re.compile(r"corrupt|checksum|not a valid DuckDB", re.IGNORECASE)
_BREAKING: Final = (duckdb.FatalException, duckdb.InternalException)
_PASSING: Final = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)


class StoreInUseError(ConfigError):
    """Another process owns the file."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Where the file is and what it may use; sizes in bytes."""

    path: Path
    memory_limit_bytes: int
    threads: int
    checkpoint_threshold_bytes: int
    min_free_bytes: int


class Database:
    """One open DuckDB file with the rate table installed."""

    connection: duckdb.DuckDBPyConnection

    def __init__(self, options: FileOptions, rates: RateTable, now: Callable[[], datetime]) -> None:
        self._options = options
        self._rates = rates
        self._now = now
        self._broken = False
        self._open()

    def close(self) -> None:
        """Close the file; DuckDB writes its log into it first."""
        with suppress(duckdb.Error):
            self.connection.close()

    def check_space(self) -> None:
        """Raise TransientError below `store.min_free`, PermanentError where the file is gone."""
        path = self._options.path
        try:
            if path.stat().st_ino != self._inode:
                raise PermanentError(
                    f"{path} was replaced while governor had it open; restart governor"
                )
            free = shutil.disk_usage(path.parent).free
        except OSError as error:
            raise PermanentError(
                f"{path} was taken away while governor had it open ({error.strerror});"
                " put it back, or start again without it: the topics are then counted anew"
            ) from error
        if free < self._options.min_free_bytes:
            raise TransientError(
                f"the disk of {path} has {free:,} bytes free, below store.min_free"
                f" ({self._options.min_free_bytes:,}); make room, ingest goes on by itself"
            )

    def failed(self, error: duckdb.Error) -> GovernorError:
        """Undo the open transaction and say what an error of DuckDB asks of us."""
        self._broken = isinstance(error, _BREAKING) or not self.roll_back()
        first_line = str(error).strip().splitlines()[0]
        if _CORRUPT.search(first_line):
            return _unreadable(self._options.path, first_line)
        if self._broken or isinstance(error, _PASSING):
            return TransientError(f"{self._options.path}: {first_line}")
        return PermanentError(f"{self._options.path}: {type(error).__name__}: {first_line}")

    @contextmanager
    def translated(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hand out the connection; undo and translate whatever goes wrong with it."""
        try:
            yield self.connection
        except duckdb.Error as error:
            raise self.failed(error) from error
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> bool:
        """Undo the open transaction, if any; False where the connection is no longer usable."""
        try:
            self.connection.execute("ROLLBACK")
        except duckdb.TransactionException:
            return self._answers()  # no transaction is active
        except duckdb.Error:
            return False
        return True

    def reopen_if_broken(self) -> bool:
        """Open the file again after a fatal error; return whether it was."""
        if not self._broken:
            return False
        self.close()
        self._open()
        self._broken = False
        return True

    def _answers(self) -> bool:
        try:
            self.connection.execute("SELECT 1 FROM meta")
        except duckdb.Error:
            return False
        return True

    def _open(self) -> None:
        path = self._options.path
        if not path.exists():
            _create(path)
        self.connection = open_file(path, self._config())
        try:
            self._inode = path.stat().st_ino
            self.connection.execute("SET TimeZone = 'UTC'")
            self._check_version()
            self._rates.install(self.connection)
        except duckdb.Error as error:
            self.connection.close()
            first_line = str(error).strip().splitlines()[0]
            if isinstance(error, duckdb.CatalogException):
                raise ConfigError(
                    f"{path} is a DuckDB file, but no store of governor; name another store.path"
                ) from error
            if _CORRUPT.search(first_line):
                raise _unreadable(path, first_line) from error
            raise TransientError(f"{path}: {first_line}") from error
        except BaseException:
            self.connection.close()
            raise

    def _config(self) -> dict[str, str]:
        return {
            "memory_limit": f"{self._options.memory_limit_bytes}B",
            "threads": str(self._options.threads),
            "checkpoint_threshold": f"{self._options.checkpoint_threshold_bytes}B",
            "temp_directory": f"{self._options.path}.tmp",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }

    def _check_version(self) -> None:
        read = "SELECT schema_version FROM meta"
        versions = self.connection.execute(read).fetchall()
        while len(versions) == 1 and (upgrade := UPGRADES.get(versions[0][0])):
            self.connection.execute("BEGIN")
            self.connection.execute(upgrade)
            self.connection.execute("UPDATE meta SET schema_version = schema_version + 1")
            self.connection.execute("COMMIT")
            versions = self.connection.execute(read).fetchall()
        if versions != [(SCHEMA_VERSION,)]:
            raise ConfigError(
                f"{self._options.path} has schema {versions}, this governor ({__version__}) reads"
                f" schema {SCHEMA_VERSION}: run the version that wrote it, or name another"
                " store.path"
            )


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **tables: pa.Table) -> Iterator[None]:
    """Let SQL see Arrow tables by these names."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        yield
    finally:
        for name in tables:
            connection.unregister(name)


def open_file(
    path: Path, config: Mapping[str, str], *, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file, or say plainly why that is not possible and what to do."""
    try:
        connection = duckdb.connect(path, read_only=read_only, config={**config})
        connection.execute("SET enable_progress_bar = false")  # it would be among our own words
    except duckdb.Error as error:
        raise _refusal(path, error) from error
    return connection


def _refusal(path: Path, error: duckdb.Error) -> GovernorError:
    first_line = str(error).strip().splitlines()[0]
    if "Conflicting lock" in first_line:
        holder = _HOLDER.search(str(error))
        who = f"process {holder[1]}" if holder else "another process"
        return StoreInUseError(
            f"{path} is in use by {who}; only one governor may own it."
            " Stop that one, or name another store.path"
        )
    if (
        path.exists() and not os.access(path, os.R_OK | os.W_OK)
    ) or "Permission denied" in first_line:
        return ConfigError(f"{path} may not be read and written by this user; see its permissions")
    if "No space left" in first_line:
        return TransientError(f"{path} cannot be opened: the disk is full; make room")
    return _unreadable(path, first_line)


def _unreadable(path: Path, why: str) -> PermanentError:
    return PermanentError(
        f"{path} cannot be read ({why}). Nothing is lost while Kafka still holds the"
        f" events: move {path} and {path}.wal aside and start governor again; with"
        " kafka.auto_offset_reset 'earliest' it counts the topics anew from their beginning"
    )


def schema() -> str:
    """Return the statements that make the tables and views of a store."""
    return resources.files("governor.adapters.duckdb").joinpath("schema.sql").read_text("utf-8")


def _create(path: Path) -> None:
    """Make the file under another name and rename it: a crash leaves none or a whole one."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (fresh, path.with_name(f"{fresh.name}.wal")):
            leftover.unlink(missing_ok=True)
        with duckdb.connect(fresh) as connection:
            connection.execute(schema())
            connection.execute("INSERT INTO meta VALUES ($1, $2)", [SCHEMA_VERSION, __version__])
        fresh.replace(path)
    except (OSError, duckdb.Error) as error:
        raise ConfigError(f"{path} cannot be made: {str(error).splitlines()[0]}") from error
