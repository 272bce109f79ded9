"""One question to the file, read-only, in a connection of its own that can reach nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from governor.adapters.duckdb.file import open_file
from governor.core.errors import ConfigError

_SANDBOX: Final = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "memory_limit": "1GB",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a result, and whether there are more than were asked for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


def ask(path: Path, query: str, *, limit: int) -> Answer:
    """Run one SELECT; times come back as aware UTC datetimes, money as Decimal.

    Raise StoreInUseError while a daemon has the file open, ConfigError for a faulty query.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist yet; start governor run, or see store.path")
    with open_file(path, _SANDBOX, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
        try:
            statements = connection.extract_statements(query)
            if [statement.type.name for statement in statements] != ["SELECT"]:
                raise ConfigError("one SELECT at a time, and nothing else")
            table = connection.execute(statements[0]).to_arrow_reader(limit + 1).read_next_batch()
        except StopIteration:
            return Answer([], [], more=False)
        except duckdb.Error as error:
            raise ConfigError(f"the query is not right: {str(error).strip()}") from error
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return Answer(table.schema.names, rows[:limit], more=len(rows) > limit)
