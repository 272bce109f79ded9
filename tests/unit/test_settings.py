import json
import os
import shlex
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

import governor.settings
from governor.cli.config import app
from governor.core.errors import ConfigError
from governor.core.positions import ResetPolicy
from governor.settings import Kafka, Settings, listing, load, reference
from governor.settings.values import duration_text, is_loopback, size_text

ROOT = Path(__file__).parents[2]
CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def bare_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, file or secret of the machine reaches a test."""
    for name in list(os.environ):
        if name.upper().startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(governor.settings, "DEFAULT_SECRETS", tmp_path / "no-such")


def write(text: str, name: str = "governor.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def secrets(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    Path("secrets").mkdir(exist_ok=True)
    for name, text in files.items():
        Path("secrets", name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("GOVERNOR_SECRETS_DIR", "secrets")


def errors(**options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**options)
    return str(caught.value).splitlines()


def said(error: BaseException) -> str:
    """All that a log could hold of an error: text, causes, and what those carry."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        lines += [str(seen), repr(seen), repr(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join([*lines, *traceback.format_exception(error)])


# ------------------------------------------------------------------------- sources and origins


def test_defaults() -> None:
    """Without any source every setting has its documented default, and says so."""
    loaded = load()
    settings = loaded.settings
    assert settings == Settings()
    assert settings.kafka.bootstrap_servers == ("127.0.0.1:9092",)
    assert settings.kafka.auto_offset_reset is ResetPolicy.EARLIEST
    assert settings.kafka.request_timeout == timedelta(seconds=30)
    assert {name: topic.format for name, topic in settings.topics.items()} == {"usage": "native"}
    assert settings.store.path == Path("data/governor.duckdb")
    assert settings.store.memory_limit == 400_000_000
    assert settings.ingest.batch_wait == timedelta(milliseconds=200)
    assert settings.ingest.accept_back == timedelta(days=45)
    assert settings.ingest.max_record_bytes == 1_000_000
    assert settings.http.port == 9464
    assert set(loaded.origins.values()) == {"default"}


def test_precedence_and_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command line over variables over secret files over the file over defaults."""
    write(
        "kafka:\n  group_id: yaml\n  client_id: yaml\n  sasl_username: yaml\nlog: {level: debug}\n"
    )
    secrets(monkeypatch, governor_kafka__client_id="secret\n", governor_kafka__group_id="secret")
    monkeypatch.setenv("GOVERNOR_KAFKA__GROUP_ID", "variable")
    monkeypatch.setenv("GOVERNOR_HTTP__PORT", "1")
    loaded = load(overrides={"http.port": 0, "log.format": None})
    kafka = loaded.settings.kafka
    assert (kafka.group_id, kafka.client_id, kafka.sasl_username) == ("variable", "secret", "yaml")
    assert loaded.settings.http.port == 0
    assert loaded.origins["kafka.group_id"] == "environment GOVERNOR_KAFKA__GROUP_ID"
    assert loaded.origins["kafka.client_id"] == "secrets directory"
    assert loaded.origins["kafka.sasl_username"] == "governor.yaml:4"
    assert loaded.origins["log.level"] == "governor.yaml:5"
    assert loaded.origins["http.port"] == "command line"
    assert loaded.origins["log.format"] == "default"


def test_file_by_option_over_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--config` names the file, else GOVERNOR_CONFIG, else governor.yaml."""
    write("log: {level: debug}")
    write("log: {level: error}", "other.yaml")
    assert load().origins["log.level"] == "governor.yaml:1"
    monkeypatch.setenv("GOVERNOR_CONFIG", "other.yaml")
    assert load().settings.log.level == "error"
    assert load(Path("governor.yaml")).settings.log.level == "debug"


def test_scalars_are_the_text_that_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML reads no number, no truth and no time out of a text: 0123, 2.10, no, 12:30:45."""
    write(
        "kafka:\n  sasl_password: 0123\n  api_version: 2.10\n"
        "  group_id: no\n  client_id: 12:30:45\n"
    )
    kafka = load().settings.kafka
    assert kafka.sasl_password is not None
    assert kafka.sasl_password.get_secret_value() == "0123"
    assert (kafka.api_version, kafka.group_id, kafka.client_id) == ("2.10", "no", "12:30:45")


def test_topics_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that names topics replaces those of the sources below it."""
    write("topics:\n  a.b:\n    format: native\n")
    loaded = load()
    assert list(loaded.settings.topics) == ["a.b"]
    assert loaded.origins["topics.a.b.format"] == "governor.yaml:3"
    monkeypatch.setenv("GOVERNOR_TOPICS", "c=native, D=native")
    loaded = load()
    assert list(loaded.settings.topics) == ["c", "D"]
    assert loaded.origins["topics.D.format"] == "environment GOVERNOR_TOPICS"
    loaded = load(overrides={"topics": {"e": {"format": "native"}}})
    assert list(loaded.settings.topics) == ["e"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "kafka:\n", "---\nkafka: {}\n...\n", "\ufeff"])
def test_empty_files_and_groups(text: str) -> None:
    """An empty file or group leaves the defaults."""
    write(text)
    assert load().settings == Settings()


def test_servers() -> None:
    """Servers are a list, or one text with commas; IPv6 stands in brackets."""
    write("kafka:\n  bootstrap_servers: ['localhost:1', '[::1]:2']\n")
    assert load().settings.kafka.bootstrap_servers == ("localhost:1", "[::1]:2")
    write("kafka:\n  bootstrap_servers: localhost:1, 127.1.2.3:2\n")
    assert load().settings.kafka.bootstrap_servers == ("localhost:1", "127.1.2.3:2")


def test_kubernetes_service_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod beside a service named governor still starts; a typing error still does not."""
    for name in ("GOVERNOR", "GOVERNOR_DESK"):
        monkeypatch.setenv(f"{name}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{name}_SERVICE_PORT", "9464")
        monkeypatch.setenv(f"{name}_SERVICE_PORT_METRICS", "9464")
        monkeypatch.setenv(f"{name}_PORT", "tcp://10.0.0.1:9464")
        monkeypatch.setenv(f"{name}_PORT_9464_TCP_ADDR", "10.0.0.1")
    assert load().settings == Settings()
    monkeypatch.setenv("GOVERNOR_PORT", "9464")
    assert errors() == [
        "GOVERNOR_PORT: unknown variable (did you mean 'GOVERNOR_SMTP__PORT'?)",
    ]


def test_the_constructor_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load` sees the environment."""
    monkeypatch.setenv("GOVERNOR_KAFKA__GROUP_ID", "variable")
    assert Settings().kafka.group_id == "governor"
    assert Settings(kafka=Kafka(group_id="here")).kafka.group_id == "here"
    with pytest.raises(ValidationError, match="frozen"):
        Settings().kafka.group_id = "other"  # type: ignore[misc]


def test_example_for_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """`deploy/governor.yaml` loads with nothing but the password."""
    monkeypatch.setenv("GOVERNOR_KAFKA__SASL_PASSWORD", CANARY)
    kafka = load(ROOT / "deploy" / "governor.yaml").settings.kafka
    assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")


def test_reference_page() -> None:
    """The committed page is the generated one: `governor config reference > docs/...`."""
    page = ROOT / "docs" / "reference" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference()


# --------------------------------------------------------------------------------- bad inputs

FILES = {
    "kafka:\n  sasl_mechanizm: PLAIN": (
        "2:3: kafka.sasl_mechanizm: unknown setting (did you mean 'sasl_mechanism'?)"
    ),
    "kafak: {}": "1:1: kafak: unknown setting (did you mean 'kafka'?)",
    "kafka: text": "1:1: kafka: must hold settings, each on a line of its own below it",
    "kafka:\n  group_id:": "2:3: kafka.group_id: must be a text",
    "kafka:\n  group_id: ''": (
        "2:3: kafka.group_id='': must not be empty; leave the setting out instead"
    ),
    "kafka:\n  bootstrap_servers: [a, 'b:1']": (
        "2:3: kafka.bootstrap_servers='a,b:1': 'a' is not host:port, such as broker1:9092"
    ),
    "kafka:\n  bootstrap_servers: h:65536": (
        "2:3: kafka.bootstrap_servers='h:65536': 'h:65536' is not host:port, such as broker1:9092"
    ),
    "kafka:\n  bootstrap_servers: me:pw@h:1": (
        "2:3: kafka.bootstrap_servers: must be host:port without a user or password"
    ),
    "kafka:\n  bootstrap_servers: 127.0.0.1.example.com:9092": (
        "2:3: kafka.bootstrap_servers='127.0.0.1.example.com:9092': 127.0.0.1.example.com:9092 is"
        " another machine, and PLAINTEXT is not encrypted; set kafka.security_protocol to SASL_SSL"
        " or SSL, or kafka.allow_insecure to true"
    ),
    "kafka:\n  security_protocol: sasl_ssl": (
        "2:3: kafka.security_protocol='sasl_ssl':"
        " must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    ),
    "kafka:\n  security_protocol: SASL_SSL": (
        "2:3: kafka.security_protocol='SASL_SSL': needs kafka.sasl_mechanism, such as SCRAM-SHA-512"
    ),
    "kafka:\n  sasl_mechanism: PLAIN": (
        "2:3: kafka.sasl_mechanism='PLAIN': needs kafka.security_protocol SASL_SSL, not PLAINTEXT"
    ),
    "kafka: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN, sasl_username: me}": (
        "1:38: kafka.sasl_mechanism='PLAIN': needs kafka.sasl_password"
    ),
    "kafka: {security_protocol: SASL_SSL, sasl_mechanism: OAUTHBEARER}": (
        "1:38: kafka.sasl_mechanism='OAUTHBEARER':"
        " needs one of kafka.sasl_oauth_token and kafka.sasl_oauth_token_file"
    ),
    "kafka:\n  security_protocol: SASL_SSL\n  sasl_mechanism: OAUTHBEARER\n"
    "  sasl_oauth_token: a\n  sasl_oauth_token_file: b": (
        "3:3: kafka.sasl_mechanism='OAUTHBEARER':"
        " takes only one of kafka.sasl_oauth_token and kafka.sasl_oauth_token_file"
    ),
    "kafka:\n  ssl_certfile: a.pem": "2:3: kafka.ssl_certfile='a.pem': needs kafka.ssl_keyfile",
    "kafka:\n  ssl_keyfile: a.pem": "2:3: kafka.ssl_keyfile='a.pem': needs kafka.ssl_certfile",
    "kafka:\n  allow_insecure: yes": "2:3: kafka.allow_insecure='yes': must be true or false",
    "kafka:\n  auto_offset_reset: begin": (
        "2:3: kafka.auto_offset_reset='begin': must be earliest, latest or none"
    ),
    "kafka:\n  api_version: newest": (
        "2:3: kafka.api_version='newest': must be a broker version, such as 2.3"
    ),
    "kafka:\n  request_timeout: 30": (
        "2:3: kafka.request_timeout='30': has no unit; write 30s (units: ms, s, m, h or d)"
    ),
    "ingest:\n  accept_back: 45 days": (
        "2:3: ingest.accept_back='45 days': must be a duration: a whole number and a unit,"
        " such as 45d (units: ms, s, m, h or d)"
    ),
    "ingest:\n  stall_after: 0s": "2:3: ingest.stall_after='0s': must be from 1s to 1d",
    "ingest:\n  max_record_bytes: 1048576": (
        "2:3: ingest.max_record_bytes='1048576': has no unit; write 1MB"
        " (units: B, KB, MB, GB, TB, KiB, MiB, GiB or TiB)"
    ),
    "ingest:\n  batch_records: 50001": (
        "2:3: ingest.batch_records='50001': must be from 1 to 50000"
    ),
    "store:\n  threads: true": "2:3: store.threads='true': must be a whole number, such as 2",
    "topics: {}": "1:1: topics: must name at least one topic",
    "topics: usage": "1:1: topics: must hold settings, each on a line of its own below it",
    "topics:\n  usage:": "2:3: topics.usage: must be a mapping, such as {format: native}",
    "topics:\n  usage: {}": "2:3: topics.usage: needs a format, such as native",
    "topics:\n  usage: {format: focus}": (
        "2:11: topics.usage.format='focus': unknown format; known: auto, business, cloudevents,"
        " litellm, native, openmeter, otlp_json, otlp_proto, provider"
    ),
    "topics:\n  us/age: {format: native}": (
        "2:3: topics.us/age: a topic name is 1 to 249 of the characters a-z A-Z 0-9 . _ -"
    ),
    "kafka:\n  group_id: a\n  group_id: b": "3:3: has group_id twice; remove one",
    "kafka: &k {}": "1:8: has an anchor (&); write the value out",
    "kafka: *k": "1:8: has an alias (*); write the value out, or in quotes",
    "kafka: !k {}": "1:8: has a tag (!); put the value in quotes",
    "kafka: {}\n---\nlog: {}": "2:1: has a second document; one is the limit",
    "%YAML 1.1\n---\nlog: {}": "2:1: has a directive; remove it",
    "? [a]\n: b": "1:3: has a collection as a key; a key is one word",
    "~: b": "1:1: has an empty key; a key is one word",
    "- kafka": "1:1: must be a mapping of settings, such as 'kafka:'",
    "a: [1\nb: 2": (
        "2:2: is not YAML: expected ',' or ']', but got ':'; the bracket of line 1 is still open"
    ),
    "kafka:\n\tgroup_id: a": ("2:1: is not YAML: has a tab; indent with spaces"),
    "a: \x07": "1:4: holds a control character",
    "[" * 20_000: "1:33: has nesting deeper than 32 levels",
    "a: " + "x" * 1_000_000: "1:1: is larger than 1 MB, the most a settings file may be",
}


@pytest.mark.parametrize(("text", "message"), FILES.items(), ids=range(len(FILES)))
def test_bad_file(text: str, message: str) -> None:
    """A file that cannot be used is refused with the place, the name and what to write."""
    write(text)
    assert errors() == [f"governor.yaml:{message}"]


VARIABLES = {
    "GOVERNOR_INGEST__BATCH_RECORDS=abc": "='abc': must be a whole number, such as 5000",
    "GOVERNOR_INGEST__BATCH_WAIT=": (
        "='': must be a duration: a whole number and a unit, such as 200ms"
        " (units: ms, s, m, h or d)"
    ),
    "GOVERNOR_KAFKA_GROUP_ID=a": (": unknown variable (did you mean 'GOVERNOR_KAFKA__GROUP_ID'?)"),
    "GOVERNOR_KAFKA__SASL_PASWORD=hidden": (
        ": unknown variable (did you mean 'GOVERNOR_KAFKA__SASL_PASSWORD'?)"
    ),
    "GOVERNOR_KAFKA__SASL_PASSWORD=": ": must not be empty; leave the setting out instead",
    "GOVERNOR_KAFKA__SASL_PASSWORD='a\n'": ": must be one line without control characters",
    "GOVERNOR_TOPICS=usage": (
        "='usage': must be topic=format, each topic once, such as usage=native"
    ),
    "GOVERNOR_STORE__MEMORY_LIMIT=1MB": "='1MB': must be from 64MB to 1TB",
    "GOVERNOR_CONFIG=nowhere.yaml": "='nowhere.yaml': no such file",
    "GOVERNOR_SECRETS_DIR=nowhere": "='nowhere': no such directory",
}


@pytest.mark.parametrize("assignment", VARIABLES)
def test_bad_variable(monkeypatch: pytest.MonkeyPatch, assignment: str) -> None:
    """A variable that cannot be used is refused by its name, with its value if that is open."""
    name, _, value = shlex.split(assignment)[0].partition("=")
    monkeypatch.setenv(name, value)
    assert errors() == [name + VARIABLES[assignment]]


def test_bad_secret_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret file is never quoted, also where it sets something open; its name is."""
    secrets(monkeypatch, governor_http__port="x", governor_kafka__sasl_pasword="y", other="z")
    assert errors() == [
        (
            "secrets/governor_kafka__sasl_pasword: unknown setting"
            " (did you mean 'governor_kafka__sasl_password'?)"
        ),
        "secrets/governor_http__port: must be a whole number, such as 9464",
    ]
    Path("secrets/governor_kafka__sasl_password").write_bytes(b"\xff\xfe")
    assert errors() == [
        "secrets/governor_kafka__sasl_password: is not UTF-8 text of at most 64 KiB"
    ]


def test_bad_command_line() -> None:
    """The command line is a source like the others; a file that it names must be there."""
    assert errors(config_file=Path("nowhere.yaml")) == ["--config nowhere.yaml: no such file"]
    assert errors(overrides={"store.pth": "x", "http.port": 70_000}) == [
        "command line: store.pth: unknown setting (did you mean 'store.path'?)",
        "command line: http.port='70000': must be from 0 to 65535",
    ]


def test_all_errors_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, whatever the source; what only follows from them is left out."""
    write("kafka:\n  security_protocol: SASL_SSL\n  sasl_mechanizm: PLAIN\nlog:\n  level: loud\n")
    monkeypatch.setenv("GOVERNOR_HTTP__PORT", "http")
    assert errors() == [
        "governor.yaml:3:3: kafka.sasl_mechanizm: unknown setting (did you mean 'sasl_mechanism'?)",
        "GOVERNOR_HTTP__PORT='http': must be a whole number, such as 9464",
        "governor.yaml:5:3: log.level='loud': must be debug, info, warning or error",
    ]


def test_bytes_that_are_no_text() -> None:
    """Where the bytes stop being UTF-8 is named."""
    Path("governor.yaml").write_bytes(b"kafka:\n  a: \xff")
    assert errors() == ["governor.yaml:2:6: is not UTF-8 text"]


# ------------------------------------------------------------------------------------- secrets

LEAKS = [
    f"kafka:\n  sasl_password: {CANARY}\n  group_id: ''\n",
    f"kafka:\n  sasl_password: [{CANARY}]\n",
    f"kafka:\n  sasl_password: {{{CANARY}: {CANARY}}}\n",
    f"kafka:\n  sasl_password: {{{CANARY}-x y: 1, {CANARY}-x y: 2}}\n",
    f'kafka:\n  sasl_password: "{CANARY}\\n"\n',
    f"kafka:\n  sasl_password: *{CANARY}\n",
    f"kafka:\n  sasl_password: &{CANARY} x\n",
    f"kafka:\n  sasl_password: !{CANARY} x\n",
    f"kafka:\n  sasl_password: !{CANARY}!x x\n",
    f"kafka:\n  sasl_password: @{CANARY}\n",
    f"kafka:\n  sasl_password: '{CANARY}\n",
    f'kafka:\n  sasl_password: "\\{CANARY}"\n',
    f"kafka:\n  sasl_password {CANARY}\n  group_id: a\n",
    f"kafka:\n  sasl_password={CANARY}: a\n",
    f"kafka:\n  sasl_password:{CANARY}\n",
    f"kafka:\n  sasl_pasword: {CANARY}\n",
    f"sasl_password: {CANARY}\n",
    f"kafka:\n  sasl_password: {CANARY}\n  sasl_mechanism: PLAIN\n",
    f"kafka:\n  bootstrap_servers: me:{CANARY}@broker:9092\n",
    f"kafka: {{sasl_oauth_token: {CANARY}, ssl_key_password: {CANARY}, security_protocol: X}}",
    f"kafka:\n  sasl_password: {CANARY}\x07\n",
]


@pytest.mark.parametrize("text", LEAKS, ids=range(len(LEAKS)))
def test_no_secret_of_the_file_in_an_error(text: str) -> None:
    """However a secret is misplaced or miswritten, no error or traceback quotes it."""
    write(text)
    with pytest.raises(ConfigError) as caught:
        load()
    assert CANARY not in said(caught.value)


@pytest.mark.parametrize("name", ["SSL_KEY_PASSWORD", "SASL_PASSWORD", "SASL_OAUTH_TOKEN"])
def test_no_secret_of_a_variable_or_file_in_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither a bad secret, nor a good one beside an error, nor one in a misspelled variable."""
    monkeypatch.setenv(f"GOVERNOR_KAFKA__{name}", f"{CANARY}\n")
    monkeypatch.setenv(f"GOVERNOR_KAFKA_{name}", CANARY)
    secrets(monkeypatch, **{f"governor_kafka__{name.lower()}x": CANARY})
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).count("\n") == 2
    assert CANARY not in said(caught.value)


@pytest.mark.parametrize("source", ["variable", "file", "secret file"])
def test_no_secret_in_any_output(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A secret stays a SecretStr; no repr, dump or `config show` says more than that it is set."""
    if source == "variable":
        monkeypatch.setenv("GOVERNOR_KAFKA__SASL_PASSWORD", CANARY)
    elif source == "file":
        write(f"kafka:\n  sasl_password: {CANARY}\n")
    else:
        secrets(monkeypatch, governor_kafka__sasl_password=f"{CANARY}\n")
    loaded = load()
    assert loaded.settings.kafka.sasl_password == SecretStr(CANARY)
    rows = listing(loaded.settings, loaded.origins)
    shown = CliRunner().invoke(app, ["show"], catch_exceptions=False).output
    as_json = CliRunner().invoke(app, ["show", "--json"], catch_exceptions=False).output
    outputs = [repr(loaded), str(loaded.settings), loaded.settings.model_dump_json(), repr(rows)]
    for output in [*outputs, shown, as_json, repr(loaded.settings.model_dump())]:
        assert CANARY not in output
    assert (
        next(line for line in shown.splitlines() if "sasl_password" in line).split()[1] == "*" * 10
    )
    assert json.loads(as_json)["kafka.sasl_password"]["value"] == "*" * 10
    assert json.loads(as_json)["kafka.sasl_oauth_token"]["value"] is None


# --------------------------------------------------------------------------------- the command


def test_show_is_three_aligned_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, value and origin stand below each other, also in a pipe and however long they are."""
    write("kafka:\n  bootstrap_servers: 'localhost:1,localhost:2'\n")
    lines = CliRunner().invoke(app, ["show"], catch_exceptions=False).output.splitlines()
    value_at, origin_at = lines[0].index("VALUE"), lines[0].index("ORIGIN")
    assert len(lines) == 1 + len(load().origins)
    for line in lines:
        assert line[value_at - 1] == line[origin_at - 1] == " "
        assert " " not in (line[value_at], line[origin_at])
    assert lines[1].split()[1:] == ["localhost:1,localhost:2", "governor.yaml:2"]
    assert any(line.split() == ["kafka.ssl_cafile", "-", "default"] for line in lines)


def test_show_passes_the_error_on() -> None:
    """A ConfigError leaves the command as it is, for the entry point to print."""
    result = CliRunner().invoke(app, ["show", "--config", "nowhere.yaml"])
    assert isinstance(result.exception, ConfigError)


def test_what_is_written_can_be_read_back() -> None:
    """The JSON values are as one would write them: loading them again gives the same settings."""
    document = CliRunner().invoke(app, ["show", "--json"], catch_exceptions=False).output
    values = {name: row["value"] for name, row in json.loads(document).items()}
    values.pop("topics.usage.format")
    assert load(overrides=values).settings == Settings()


# ------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("200ms", timedelta(milliseconds=200)),
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("45d", timedelta(days=45)),
        ("0ms", timedelta()),
    ],
)
def test_durations(text: str, span: timedelta) -> None:
    """A duration is written in the greatest unit that divides it."""
    assert duration_text(span) == text
    assert load(overrides={"ingest.accept_ahead": text}).settings.ingest.accept_ahead == span


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64_000_000), ("1MiB", 2**20), ("3GiB", 3 * 2**30), ("1000001B", 1_000_001)],
)
def test_sizes(text: str, size: int) -> None:
    """A size is written in the unit that leaves the smallest whole number."""
    assert size_text(size) == text
    for written in (text, text.lower(), size):
        assert load(overrides={"store.min_free": written}).settings.store.min_free == size


@pytest.mark.parametrize(
    ("server", "here"),
    [
        ("localhost:1", True),
        ("LOCALHOST:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("127.0.0.1.example.com:1", False),
        ("localhost.example.com:1", False),
        ("[::]:1", False),
    ],
)
def test_loopback(server: str, *, here: bool) -> None:
    """Only localhost, 127.0.0.0/8 and ::1 are this machine."""
    assert is_loopback(server) is here


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_insecure_brokers_have_to_be_asked_for(protocol: str) -> None:
    """Without encryption another machine is refused, unless `allow_insecure` is true."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password": "x"}
    values = {
        "security_protocol": protocol,
        "bootstrap_servers": "localhost:1,far:2",
        **(login if "SASL" in protocol else {}),
    }
    overrides = {f"kafka.{name}": value for name, value in values.items()}
    assert "far:2 is another machine" in errors(overrides=overrides)[0]
    allowed = load(overrides={**overrides, "kafka.allow_insecure": True})
    assert allowed.settings.kafka.security_protocol == protocol
