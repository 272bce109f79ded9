"""The embedded broker: a Kafka for the demo and the tests, in a side process, with faults to order.

It is librdkafka's mock cluster, which comes inside the confluent-kafka wheel: it speaks the wire
protocol, and nothing else of Kafka is there. Know its limits:

- it keeps records in memory only, and **drops the oldest silently beyond about 5 MB a partition**;
- no compaction, no retention by time, no topic configuration; no admin requests (CreateTopics,
  DeleteRecords, ...): topics are made and records deleted by the methods below;
- no TLS, no SASL, no topic ids, and no transactions worth the name;
- a client that lets the broker create unknown topics gets them created, always;
- kafka-python must be told `EmbeddedBroker.api_version`: it cannot read the answer by which the
  mock cluster tells its versions, and times out.

    python -m governor.demo.broker --topic usage:4 --topic directives:1

prints one JSON line with `bootstrap_servers`, then obeys the command lines it reads from stdin,
answering each with one JSON line, `{"ok": true}` or `{"error": TEXT}`, until stdin ends. So it dies
with its parent, however that dies, as long as no fork of the parent keeps the pipe open.
librdkafka runs on threads of its own, which a fork would lose: hence a fresh interpreter.
"""

import argparse
import ctypes
import ctypes.util
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from ctypes import c_char_p, c_int, c_int16, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Final, Self

from governor.core.errors import ConfigError, PermanentError

CLOSE_TIMEOUT_S: Final = 5.0


class EmbeddedBroker:
    """The side process, started by the constructor and ended by `close` or the end of a `with`."""

    api_version: ClassVar[tuple[int, int]] = (2, 3)
    """What kafka-python must be told."""

    def __init__(self, *, topics: Mapping[str, int] | None = None, brokers: int = 1) -> None:
        """Start `brokers` brokers with these `topics` (name: partitions).

        Raise ConfigError if the confluent-kafka wheel is missing, PermanentError if it will not
        start.
        """
        find_librdkafka()
        arguments = [sys.executable, "-m", __spec__.name, "--brokers", str(brokers)]
        arguments += [f"--topic={name}:{count}" for name, count in (topics or {}).items()]
        self._brokers = brokers
        self._coordinators: dict[str, int] = {}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            self.bootstrap_servers: str = self._read_answer("start")["bootstrap_servers"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; PermanentError if it exists."""
        self.command("topic", name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records."""
        self.command("delete_topic", name)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Let the partition begin at `before_offset`, as retention does."""
        self.command("delete_records", topic, partition, before_offset)

    def down(self) -> None:
        """Close all connections and refuse new ones; the records stay."""
        self.command("down")

    def up(self) -> None:
        """Accept connections again, on the same ports."""
        self.command("up")

    def set_rtt(self, milliseconds: int) -> None:
        """Answer every request this much later."""
        self.command("rtt", milliseconds)

    def move_coordinator(self, group: str) -> int:
        """Give the group to the next broker and return its id; needs `brokers` of 2 or more.

        Until it is moved a group is where the mock cluster's hash of its name puts it.
        """
        if self._brokers < 2:  # noqa: PLR2004 - one to leave, one to go to
            raise ConfigError("embedded broker: moving a coordinator needs brokers=2 or more")
        first = zlib.crc32(group.encode()) % self._brokers + 1
        broker_id = self._coordinators.get(group, first) % self._brokers + 1
        self.command("coordinator", group, broker_id)
        self._coordinators[group] = broker_id
        return broker_id

    def fail_requests(self, api_key: int, code: int, count: int) -> None:
        """Answer the next `count` requests of the kind `api_key` with Kafka's error `code`."""
        self.command("error", api_key, code, count)

    def command(self, *words: str | int) -> None:
        """Send one command line; PermanentError with the broker's own words if it is refused."""
        line = shlex.join(str(word) for word in words)
        with self._lock:
            if self._process.stdin is None or self._process.stdin.closed:
                raise PermanentError(f"embedded broker: {line}: it is closed")
            try:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            except BrokenPipeError as error:
                raise PermanentError(f"embedded broker: {line}: its process has ended") from error
            self._read_answer(line)

    def close(self) -> None:
        """End the side process; what it held is gone. Safe to call twice."""
        with self._process as process:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
            try:
                process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _read_answer(self, line: str) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        text = self._process.stdout.readline()
        if not text:
            code = self._process.wait(CLOSE_TIMEOUT_S)
            raise PermanentError(f"embedded broker: {line}: its process ended with code {code}")
        answer: dict[str, Any] = json.loads(text)
        if "error" in answer:
            raise PermanentError(f"embedded broker: {line}: {answer['error']}")
        return answer


def find_librdkafka() -> str:
    """Return the path of the librdkafka that confluent-kafka uses; ConfigError if there is none."""
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ConfigError("the embedded broker needs confluent-kafka: pip install 'governor[demo]'")
    package = Path(spec.origin).parent
    for folder in (package.with_name("confluent_kafka.libs"), package / ".dylibs", package):
        for path in sorted(folder.glob("*rdkafka[.-]*")):
            if path.name.startswith(("librdkafka-", "librdkafka.")):
                return str(path)
    if path_of_system := ctypes.util.find_library("rdkafka"):
        return path_of_system
    raise ConfigError(
        f"no librdkafka in or beside {package}: pip install --force-reinstall 'governor[demo]'"
    )


_MOCK: Final = c_void_p
_CALLS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_err2str": (c_char_p, [c_int]),
    "rd_kafka_mock_cluster_new": (_MOCK, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [_MOCK]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [_MOCK]),
    "rd_kafka_mock_topic_create": (c_int, [_MOCK, c_char_p, c_int, c_int]),
    "rd_kafka_mock_topic_delete": (c_int, [_MOCK, c_char_p]),
    "rd_kafka_mock_topic_set_error": (None, [_MOCK, c_char_p, c_int]),
    "rd_kafka_mock_partition_set_leader": (c_int, [_MOCK, c_char_p, c_int32, c_int32]),
    "rd_kafka_mock_partition_delete_records": (c_int, [_MOCK, c_char_p, c_int32, c_int64]),
    "rd_kafka_mock_broker_set_down": (c_int, [_MOCK, c_int32]),
    "rd_kafka_mock_broker_set_up": (c_int, [_MOCK, c_int32]),
    "rd_kafka_mock_broker_set_rtt": (c_int, [_MOCK, c_int32, c_int]),
    "rd_kafka_mock_coordinator_set": (c_int, [_MOCK, c_char_p, c_char_p, c_int32]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [_MOCK, c_int16, c_size_t, ctypes.POINTER(c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [_MOCK, c_int16]),
}
_PRODUCER: Final = 0
_MESSAGE_BYTES: Final = 512


class MockCluster:
    """librdkafka's mock cluster in this process; its methods are the commands."""

    def __init__(self, *, brokers: int) -> None:
        self._library = ctypes.CDLL(find_librdkafka())
        self._brokers = range(1, brokers + 1)
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        conf = self._function("rd_kafka_conf_new")()
        self._function("rd_kafka_conf_set")(conf, b"log_level", b"0", message, _MESSAGE_BYTES)
        self._client = self._function("rd_kafka_new")(_PRODUCER, conf, message, _MESSAGE_BYTES)
        if not self._client:
            raise PermanentError(f"librdkafka does not start: {message.value.decode()}")
        self._cluster = self._function("rd_kafka_mock_cluster_new")(self._client, brokers)
        if not self._cluster:
            raise PermanentError(f"librdkafka makes no mock cluster of {brokers} brokers")

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all brokers, comma-separated."""
        text: bytes = self._function("rd_kafka_mock_cluster_bootstraps")(self._cluster)
        return text.decode()

    def topic(self, name: str, partitions: str) -> None:
        """`topic NAME PARTITIONS`: create a topic."""
        self._order("topic_create", name.encode(), int(partitions), 1)

    def delete_topic(self, name: str) -> None:
        """`delete_topic NAME`."""
        self._order("topic_delete", name.encode())

    def delete_records(self, topic: str, partition: str, before_offset: str) -> None:
        """`delete_records TOPIC PARTITION BEFORE_OFFSET`."""
        offset = int(before_offset)
        self._order("partition_delete_records", topic.encode(), int(partition), offset)

    def leader(self, topic: str, partition: str, broker_id: str) -> None:
        """`leader TOPIC PARTITION BROKER_ID`; -1 leaves the partition without one."""
        self._order("partition_set_leader", topic.encode(), int(partition), int(broker_id))

    def down(self, *broker_ids: str) -> None:
        """`down [BROKER_ID ...]`: these brokers, or all."""
        for broker_id in broker_ids or self._brokers:
            self._order("broker_set_down", int(broker_id))

    def up(self, *broker_ids: str) -> None:
        """`up [BROKER_ID ...]`: these brokers, or all."""
        for broker_id in broker_ids or self._brokers:
            self._order("broker_set_up", int(broker_id))

    def rtt(self, milliseconds: str) -> None:
        """`rtt MS`: answer every request this much later."""
        for broker_id in self._brokers:
            self._order("broker_set_rtt", broker_id, int(milliseconds))

    def coordinator(self, group: str, broker_id: str) -> None:
        """`coordinator GROUP BROKER_ID`."""
        self._order("coordinator_set", b"group", group.encode(), int(broker_id))

    def error(self, api_key: str, code: str, count: str) -> None:
        """`error API_KEY CODE COUNT`: fail the next COUNT requests of a kind; 0 forgets them."""
        if int(count) == 0:
            self._order("clear_request_errors", int(api_key))
            return
        codes = (c_int * int(count))(*[int(code)] * int(count))
        self._order("push_request_errors_array", int(api_key), int(count), codes)

    def topic_error(self, topic: str, code: str) -> None:
        """`topic_error TOPIC CODE`: fail whatever touches the topic, until CODE is 0."""
        self._order("topic_set_error", topic.encode(), int(code))

    def close(self) -> None:
        """Stop the brokers."""
        self._function("rd_kafka_mock_cluster_destroy")(self._cluster)
        self._function("rd_kafka_destroy")(self._client)

    def _order(self, call: str, *arguments: Any) -> None:
        code = self._function(f"rd_kafka_mock_{call}")(self._cluster, *arguments)
        if code:
            text: bytes = self._function("rd_kafka_err2str")(code)
            raise PermanentError(text.decode())

    def _function(self, name: str) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise PermanentError(f"no {name} in librdkafka: upgrade confluent-kafka") from None
        function.restype, function.argtypes = _CALLS[name]
        return function


_COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "topic": MockCluster.topic,
    "delete_topic": MockCluster.delete_topic,
    "delete_records": MockCluster.delete_records,
    "leader": MockCluster.leader,
    "down": MockCluster.down,
    "up": MockCluster.up,
    "rtt": MockCluster.rtt,
    "coordinator": MockCluster.coordinator,
    "error": MockCluster.error,
    "topic_error": MockCluster.topic_error,
}


def main() -> None:
    """Run the side process: start, tell where, obey until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m governor.demo.broker")
    parser.add_argument("--topic", action="append", default=[], metavar="NAME:PARTITIONS")
    parser.add_argument("--brokers", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; stdin tells us
    cluster = MockCluster(brokers=options.brokers)
    for topic in options.topic:
        cluster.topic(*topic.rsplit(":", 1))
    _say({"bootstrap_servers": cluster.bootstrap_servers}, sys.stdout)
    _obey(cluster, sys.stdin, sys.stdout)
    cluster.close()


def _obey(cluster: MockCluster, lines: Iterable[str], answers: IO[str]) -> None:
    for line in lines:
        try:
            name, *words = shlex.split(line)
            _COMMANDS[name](cluster, *words)
        except KeyError as error:
            known = ", ".join(_COMMANDS)
            _say({"error": f"unknown command {error}; known are {known}"}, answers)
        except (PermanentError, TypeError, ValueError) as error:
            _say({"error": str(error)}, answers)
        else:
            _say({"ok": True}, answers)


def _say(answer: dict[str, Any], answers: IO[str]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
