"""The DuckDB file when things go wrong: half-done batches, damage, locks, strangers."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from governor.adapters.duckdb.file import FileOptions, StoreInUseError
from governor.adapters.duckdb.outbox import Outbox
from governor.adapters.duckdb.query import ask
from governor.adapters.duckdb.store import Store
from governor.core.errors import ConfigError, GovernorError, PermanentError, TransientError
from tests.unit.accountant import NOW, PRICES, resolve, resolve_provider
from tests.unit.office import PLACES, Office, begun_file, event, opened
from tests.unit.shelf import rate_table

ADVICE = r"Nothing is lost while Kafka still holds the events: move .* aside and start governor"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path in a folder of the test's own; nothing is there yet."""
    return tmp_path / "governor.duckdb"


def edit(path: Path, statement: str) -> None:
    with duckdb.connect(path) as connection:
        connection.execute(statement)


# ------------------------------------------------------------------------- all of it, or nothing


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "provider"),
        ("late_events", "provider"),
        ("rollup_minute", "region"),
        ("rejects", "detail"),
        ("positions", "updated_at"),
    ],
)
def test_an_error_on_the_way_undoes_the_batch(path: Path, table: str, column: str) -> None:
    """Whichever step fails, nothing of the batch is stored; mended, the same batch goes through."""
    late = event("3", NOW.replace(hour=9))
    with Office(path) as office:
        office.append(event("1"))
        stored = office.store.partitions
        batch = office.batch({PLACES[1]: [event("2"), late, b"no json", event("1")]})
        office.store.close()
        edit(path, f"ALTER TABLE {table} RENAME COLUMN {column} TO broken")
        office.open()
        with pytest.raises(PermanentError, match=f"{path}: .*{column}"):
            office.store.append(batch)
        assert office.store.partitions == stored
        office.store.close()
        edit(path, f"ALTER TABLE {table} RENAME COLUMN broken TO {column}")
        for what in ("sum(events) FROM spend_daily", "1 + count(*) FROM rejects"):
            assert ask(path, f"SELECT {what}", limit=1).rows == [(1,)]
        office.open()
        assert office.store.partitions == stored
        assert office.store.append(batch) is not None
        office.check()


def test_a_batch_that_does_not_add_up_leaves_no_open_transaction(path: Path) -> None:
    """It is refused, nothing is stored, and the next batch goes through at once."""
    with Office(path) as office:
        batch = office.batch({PLACES[1]: [event("1"), event("2")]})
        (span,) = batch.spans
        wrong = replace(batch, spans=(replace(span, events=3),))
        with pytest.raises(PermanentError, match="do not add up, nothing stored"):
            office.store.append(wrong)
        assert office.store.append(batch) is not None
        office.check()


def test_a_batch_that_lacks_a_column_is_undone(path: Path) -> None:
    """An error outside DuckDB is no reason to keep half a batch either."""
    with Office(path) as office:
        batch = office.batch({PLACES[1]: [event("1")]})
        with pytest.raises(Exception, match="team"):
            office.store.append(replace(batch, events=batch.events.drop_columns(["team"])))
        assert office.store.append(batch) is not None
        office.check()


def test_only_a_batch_at_the_stored_positions_is_taken(path: Path) -> None:
    """One that skips, overlaps, or is known in one partition of two is refused for good."""
    first, second = PLACES[1:]
    with Office(path) as office:
        one = office.batch({first: [event("1"), event("2")]})
        two = office.batch({first: [event("3")], second: [event("4")]})
        with pytest.raises(PermanentError, match="does not follow the stored positions"):
            office.store.append(two)
        office.store.append(one)
        (span,) = one.spans
        half = replace(one, spans=(replace(span, start=1, end=3),))
        both = replace(two, spans=(span, two.spans[1]))
        for batch in (half, both):
            with pytest.raises(PermanentError, match="does not follow the stored positions"):
                office.store.append(batch)
        assert office.store.append(two) is not None
        assert office.store.append(one) is None
        assert office.store.append(two) is None
        office.check()


def test_a_full_disk_changes_nothing(path: Path) -> None:
    """Below `store.min_free` the batch waits; with room again the same batch is stored."""
    with Office(path) as office:
        batch = office.batch({PLACES[1]: [event("1")]})
        office.store.close()
        table = rate_table(PRICES, resolve, resolve_provider)
        office.store = Store(FileOptions(path, 2**28, 1, 2**24, 2**62), table, lambda: NOW)
        with pytest.raises(TransientError, match=r"below store\.min_free"):
            office.store.append(batch)
        office.reopen()
        assert office.store.append(batch) is not None
        office.check()


def test_a_file_that_was_replaced_stops_the_store(path: Path) -> None:
    """What is written into a file without a name would be lost with the process."""
    with Office(path) as office:
        batch = office.batch({PLACES[1]: [event("1")]})
        copy = path.with_name("copy")
        copy.write_bytes(begun_file())
        copy.replace(path)
        with pytest.raises(PermanentError, match="was replaced while governor had it open"):
            office.store.append(batch)


# ---------------------------------------------------------------------------- what is on the disk


@pytest.mark.parametrize("content", [b"", b"\0" * 5_000, os.urandom(50_000), b"SQLite format 3\0"])
def test_what_is_no_duckdb_file_is_refused_with_advice(path: Path, content: bytes) -> None:
    """The error names the file, says that Kafka still has the events, and how to go on."""
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=f"{path} cannot be read.*{ADVICE}"):
        opened(path, PRICES)
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_file_cut_short_is_refused_with_advice(path: Path, share: float) -> None:
    """A copy that was broken off is not taken for an empty store."""
    path.write_bytes(begun_file()[: int(len(begun_file()) * share)])
    with pytest.raises(PermanentError, match=ADVICE):
        opened(path, PRICES)


def test_damage_anywhere_is_harmless_or_permanent(path: Path) -> None:
    """A damaged block is no passing trouble: nobody should wait for it to go away."""
    whole = begun_file()
    for at in range(0, len(whole), 65_536):
        damaged = bytearray(whole)
        damaged[at + 16 : at + 316] = bytes(255 - byte for byte in damaged[at + 16 : at + 316])
        path.write_bytes(damaged)
        try:
            store = opened(path, PRICES)
        except GovernorError as error:
            assert isinstance(error, PermanentError), (at, error)  # noqa: PT017
        else:
            assert set(store.partitions) == set(PLACES)
            store.close()


def test_a_file_of_another_program_is_refused(path: Path) -> None:
    """A DuckDB file that is not ours is left alone, and waiting would not help."""
    edit(path, "CREATE TABLE theirs AS SELECT 1 AS one")
    with pytest.raises((ConfigError, PermanentError), match=str(path)):
        opened(path, PRICES)
    with duckdb.connect(path) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == [("theirs",)]


@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_schema_is_refused(path: Path, version: int) -> None:
    """Older or newer, the message names the file, both versions and the way out."""
    path.write_bytes(begun_file())
    edit(path, f"UPDATE meta SET schema_version = {version}")
    with pytest.raises(ConfigError, match=rf"{path} has schema .*{version}.* reads schema 5: run"):
        opened(path, PRICES)


def test_a_first_start_that_was_killed_leaves_no_trace(path: Path) -> None:
    """The file is made under another name first; what a crash left of that is overwritten."""
    for leftover in ("governor.duckdb.new", "governor.duckdb.new.wal"):
        path.with_name(leftover).write_bytes(b"half a file")
    opened(path, PRICES).close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_folders_are_made(tmp_path: Path) -> None:
    """`store.path` may lie in a folder that does not exist yet."""
    path = tmp_path / "a" / "b" / "governor.duckdb"
    opened(path, PRICES).close()
    assert path.exists()


def test_a_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file where a folder should be is a mistake in the settings."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"file/governor\.duckdb cannot be made"):
        opened(tmp_path / "file" / "governor.duckdb", PRICES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write any file")
def test_missing_permissions_are_named(path: Path) -> None:
    """A file of another user is a mistake of set-up, not damage."""
    path.write_bytes(begun_file())
    path.chmod(stat.S_IRUSR)
    with pytest.raises(ConfigError, match="may not be read and written by this user"):
        opened(path, PRICES)


# ------------------------------------------------------------------------------------- one owner


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Have another process open the file; hand out its number."""
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        try:
            yield holder.pid
        finally:
            holder.communicate(b"\n", timeout=30)


def test_a_file_in_use_is_refused_with_its_owner(path: Path) -> None:
    """A second daemon and a question alike are told which process has the file."""
    path.write_bytes(begun_file())
    with held_elsewhere(path) as owner:
        said = f"{path} is in use by process {owner};"
        with pytest.raises(StoreInUseError, match=said):
            opened(path, PRICES)
        with pytest.raises(StoreInUseError, match=said):
            ask(path, "SELECT 1", limit=1)
    opened(path, PRICES).close()


MESSAGES_4 = """
DROP TABLE threads; DROP TABLE messages; DROP TABLE acks; DROP TABLE silences;
DROP TABLE report_ledger; DROP TABLE raises;
CREATE TABLE messages (
    receiver VARCHAR, message VARCHAR, body VARCHAR, wanted INTEGER, told INTEGER,
    reference VARCHAR, attempts INTEGER, unsure BOOLEAN, next_at TIMESTAMPTZ,
    last_error VARCHAR, wanted_at TIMESTAMPTZ, told_at TIMESTAMPTZ
);
INSERT INTO messages BY NAME
SELECT 'slack' AS receiver, message,
       json_object('level', 2, 'resolved', over, 'history', ['80%', '100%'])::VARCHAR AS body,
       2 AS wanted, told, reference, 0 AS attempts, unsure,
       TIMESTAMPTZ '2026-07-01 00:00:00+00' AS next_at, next_at AS wanted_at,
       CASE WHEN told > 0 THEN next_at END AS told_at
FROM (VALUES ('done', 2, 'C0:1', false, 'over'), ('open', 1, 'C0:2', false, NULL),
             ('doubted', 0, NULL, true, NULL), ('new', 0, NULL, false, NULL))
    v(message, told, reference, unsure, over);
"""


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_file_of_an_older_version_is_upgraded(path: Path, version: int) -> None:
    """It has the tables and columns of a fresh one then, in their order, and keeps its alerts.

    Messages keep where they stand: what was told is not told again, and doubts remain.
    """
    path.write_bytes(begun_file())
    columns = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"
        " WHERE NOT internal ORDER BY table_name, column_index"
    )
    with duckdb.connect(path) as connection:
        fresh = connection.execute(columns).fetchall()
        connection.execute(
            "INSERT INTO alerts BY NAME SELECT 'a1' AS alert_id, 'cap' AS rule, '[]' AS \"group\","
            " 'firing' AS phase, 0 AS told"
        )
    edit(path, MESSAGES_4)
    later = {2: ["cleared_at", "told", "why"], 3: ["told", "why"]}.get(version, [])
    edit(path, ";".join(["SELECT 1", *(f"ALTER TABLE alerts DROP COLUMN {c}" for c in later)]))
    edit(path, "DROP TABLE exemptions" if version < 4 else "SELECT 1")
    edit(path, f"UPDATE meta SET schema_version = {version}")
    store = opened(path, PRICES)
    owed, threads, _ = Outbox(store).owed("slack", datetime(2026, 7, 2, tzinfo=UTC), apart=False)
    assert {(each.key, each.thread) for each in owed} == {
        ("open", "open"),
        ("doubted", "doubted"),
        ("new", None),
    }
    assert {thread.id for thread in threads} == {"open", "doubted"}
    store.close()
    with duckdb.connect(path) as connection:
        assert connection.execute(columns).fetchall() == fresh
        told = connection.execute("SELECT alert_id, told, why FROM alerts").fetchall()
        assert told == [("a1", 0, None)]
        assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(5,)]
        stand = (
            "SELECT thread, reference, serial, unsure, closed_at IS NULL FROM threads ORDER BY 1"
        )
        assert connection.execute(stand).fetchall() == [
            ("done", "C0:1", 1, False, False),
            ("doubted", None, 0, True, True),
            ("open", "C0:2", 1, False, True),
        ]
