"""`governor produce`: a file of events to a topic, at full speed, at a rate or in its own time."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from governor import daemon
from governor.adapters.kafka.producer import EventProducer
from governor.adapters.kafka.topics import exists
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError, PermanentError
from governor.settings import load

MAX_LINE_BYTES: Final = 16 * 2**20


class Pace(StrEnum):
    """What decides when a line is sent."""

    NONE = "none"
    EVENT_TIME = "event-time"


class Shift(StrEnum):
    """What the events' times are moved to."""

    NONE = "none"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class _Line:
    value: bytes
    event_time: datetime | None


def produce(
    file: Annotated[Path, typer.Argument(help="NDJSON: one event a line.", dir_okay=False)],
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help="Default: the only topic of the settings.")
    ] = None,
    config: ConfigFile = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Most events a second; default: no limit.")
    ] = None,
    pace: Annotated[
        Pace, typer.Option(help="event-time: keep the gaps between the events' times.")
    ] = Pace.NONE,
    speed: Annotated[float, typer.Option(min=0.001, help="How much faster, with --pace.")] = 1.0,
    shift_to: Annotated[
        Shift, typer.Option(help="now: move all times so that the last event is sent at its time.")
    ] = Shift.NONE,
    time_field: Annotated[str, typer.Option(help="Key of the event time.")] = "event_time",
    key_field: Annotated[
        str | None, typer.Option(help="Key of the field to partition by; default: spread evenly.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a file of events to Kafka, and wait until every one is acknowledged.

    Lines are sent as they are, right or wrong, unless their time is moved. Sending a file twice
    is safe: events are counted once.

    For example:

      governor produce events.ndjson

      governor produce events.ndjson --topic usage --rate 2000

      governor produce day.ndjson --pace event-time --speed 60 --shift-to now
    """
    settings = load(config).settings
    name = topic or _only(list(settings.topics))
    plan = _Plan(file, time_field, pace=pace, speed=speed, rate=rate, shift=shift_to)
    connection = daemon.connection_of(settings)
    if not exists(connection, name):
        raise PermanentError(f"topic {name} does not exist; make it: governor topics create")
    began = time.monotonic()
    with EventProducer(connection, name) as producer, _progress(plan.lines) as progress:
        task = progress.add_task(f"to {name}", total=plan.lines)
        for value in plan.values():
            producer.send(value, _key(value, key_field))
            progress.advance(task)
        producer.flush()
    seconds = time.monotonic() - began
    if producer.failed or producer.acknowledged != plan.lines:
        raise PermanentError(
            f"{producer.acknowledged:,} of {plan.lines:,} events were acknowledged;"
            f" {producer.first_failure}. Sending the file again is safe: events count once"
        )
    if as_json:
        typer.echo(json.dumps({"topic": name, "events": plan.lines, "seconds": round(seconds, 3)}))
    else:
        typer.echo(f"{plan.lines:,} events to {name} in {seconds:.1f} s, all acknowledged")


class _Plan:
    """Reads the file once to know its length and times, then again line by line."""

    def __init__(
        self,
        file: Path,
        time_field: str,
        *,
        pace: Pace,
        speed: float,
        rate: float | None,
        shift: Shift,
    ) -> None:
        self._file = file
        self._time_field = time_field
        self._pace = pace
        self._speed = speed
        self._rate = rate
        self._moves = shift is Shift.NOW
        self._timed = self._moves or pace is Pace.EVENT_TIME
        self.lines = 0
        self._first: datetime | None = None
        self._last: datetime | None = None
        for line in self._read():
            self.lines += 1
            if line.event_time is not None:
                self._first = min(self._first or line.event_time, line.event_time)
                self._last = max(self._last or line.event_time, line.event_time)

    def values(self) -> Iterator[bytes]:
        """Yield each line when it is due."""
        wait = threading.Event().wait
        shift = self._shift(datetime.now(UTC))
        began = time.monotonic()
        for number, line in enumerate(self._read()):
            due = began + self._due_s(number, line)
            if due > time.monotonic():
                wait(due - time.monotonic())
            yield self._moved(line, shift)

    def _read(self) -> Iterator[_Line]:
        try:
            with self._file.open("rb") as lines:
                for number, raw in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b""), 1):
                    value = raw.rstrip(b"\r\n")
                    if value:
                        yield _Line(value, self._time(value, number) if self._timed else None)
        except OSError as error:
            raise ConfigError(f"{self._file}: {error.strerror}") from error

    def _time(self, value: bytes, number: int) -> datetime:
        place = f"{self._file}:{number}"
        try:
            found = msgspec.json.decode(value)[self._time_field]
            return msgspec.convert(found, datetime).astimezone(UTC)
        except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
            raise ConfigError(
                f"{place}: no time to keep in {self._time_field!r} ({error});"
                " send without --pace and --shift-to, or name another --time-field"
            ) from error
        except KeyError:
            raise ConfigError(
                f"{place}: no field {self._time_field!r}; name another --time-field"
            ) from None

    def _shift(self, now: datetime) -> timedelta:
        if not self._moves or self._first is None or self._last is None:
            return timedelta(0)
        lasts = (self._last - self._first) / self._speed if self._pace is Pace.EVENT_TIME else None
        if lasts is None:
            lasts = timedelta(seconds=self.lines / self._rate) if self._rate else timedelta(0)
        return now + lasts - self._last

    def _due_s(self, number: int, line: _Line) -> float:
        due = number / self._rate if self._rate else 0.0
        if self._pace is Pace.EVENT_TIME and self._first and line.event_time:
            due = max(due, (line.event_time - self._first).total_seconds() / self._speed)
        return due

    def _moved(self, line: _Line, shift: timedelta) -> bytes:
        if not self._moves or line.event_time is None:
            return line.value
        event = msgspec.json.decode(line.value)
        event[self._time_field] = line.event_time + shift
        return msgspec.json.encode(event)


def _only(topics: list[str]) -> str:
    if len(topics) == 1:
        return topics[0]
    raise ConfigError(f"which topic? --topic is one of {', '.join(sorted(topics))}")


def _key(value: bytes, field: str | None) -> bytes | None:
    if field is None:
        return None
    try:
        found: Any = msgspec.json.decode(value)[field]
    except (msgspec.MsgspecError, TypeError, KeyError, UnicodeError):
        return None
    return str(found).encode()


def _progress(total: int) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal or not total,
    )
