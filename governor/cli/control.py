"""Calls of the running daemon's control API, for the commands that give orders."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from governor.core.errors import ConfigError, PermanentError, TransientError
from governor.settings import Settings

TIMEOUT_S: Final = 70
"""Longer than the daemon lets an order wait for the store."""
PIPED_WIDTH: Final = 200

_UNAVAILABLE: Final = 503
_WRONG: Final = 422


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def call(settings: Settings, method: str, path: str) -> Any:
    """Return what the daemon answers.

    Raise TransientError where none answers or it is not ready, ConfigError where a file is wrong,
    PermanentError where there is no such thing.
    """
    place = settings.control.socket
    connection = _SocketConnection(place)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TransientError(
            f"no governor answers at {place} ({error}); is it running, and by this user?"
        ) from error
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return body
    kinds = {_UNAVAILABLE: TransientError, _WRONG: ConfigError}
    raise kinds.get(answer.status, PermanentError)(body["error"])


def show(rows: list[dict[str, Any]], columns: dict[str, str], nothing: str) -> None:
    """Print rows as a table of some columns (title by key), or a line that there are none."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if not rows:
        console.print(nothing)
        return
    table = Table(*columns.values())
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key}={'(none)' if v is None else v}" for key, v in value.items())
    text = str(value)
    return text[:16].replace("T", " ") if _is_time(text) else text


def _is_time(text: str) -> bool:
    return len(text) >= len("2026-11-24 12:00") and text[4] == text[7] == "-" and text[13] == ":"
