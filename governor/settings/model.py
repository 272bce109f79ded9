"""Every setting: its name, type, limits, default, and one sentence with its unit."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from governor.core.positions import ResetPolicy
from governor.formats import FORMATS
from governor.settings.gate import Gate
from governor.settings.group import CONFLICT, FilePath, Group, Line, Secret, Switch
from governor.settings.receivers import PagerDuty, Slack, Smtp, Webhook
from governor.settings.values import (
    ApiVersion,
    Duration,
    Servers,
    Size,
    TopicName,
    Whole,
    is_loopback,
)

ENV_PREFIX: Final = "GOVERNOR_"
ENV_DELIMITER: Final = "__"
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]


class Kafka(Group):
    """How to reach the brokers, and where to begin reading."""

    bootstrap_servers: Annotated[tuple[str, ...], Servers(), NoDecode] = Field(
        ("127.0.0.1:9092",), description="Brokers to ask first, `host:port`, with commas between."
    )
    security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="How to talk to the brokers: encrypted (SSL), logged in (SASL)."
    )
    allow_insecure: Switch = Field(
        default=False,
        description="Allow PLAINTEXT and SASL_PLAINTEXT to brokers on other machines.",
    )
    ssl_cafile: FilePath | None = Field(
        None, description="File of certificates to trust (PEM); unset: those of the system."
    )
    ssl_certfile: FilePath | None = Field(
        None, description="File of the client certificate (PEM), for mutual TLS."
    )
    ssl_keyfile: FilePath | None = Field(
        None, description="File of the client's private key (PEM), for mutual TLS."
    )
    ssl_key_password: Secret | None = Field(
        None, description="Password of the client's private key."
    )
    sasl_mechanism: SaslMechanism | None = Field(
        None, description="How to log in; needs a SASL security protocol."
    )
    sasl_username: Line | None = Field(None, description="User name for PLAIN and SCRAM.")
    sasl_password: Secret | None = Field(None, description="Password for PLAIN and SCRAM.")
    sasl_oauth_token: Secret | None = Field(None, description="Token for OAUTHBEARER.")
    sasl_oauth_token_file: FilePath | None = Field(
        None, description="File of the OAUTHBEARER token, read again at each use, instead of it."
    )
    group_id: Line = Field(
        "governor", description="Consumer group that offsets are shown under, for lag tools."
    )
    client_id: Line = Field("governor", description="Name of this client in the brokers' logs.")
    auto_offset_reset: ResetPolicy = Field(
        ResetPolicy.EARLIEST,
        description="Where to begin a topic with no stored position; `none` stops instead.",
    )
    api_version: Annotated[str, ApiVersion()] | None = Field(
        None, description="Broker version to assume, such as 2.3; unset: the brokers are asked."
    )
    request_timeout: Annotated[timedelta, Duration("1s", "10m", "30s")] = Field(
        timedelta(seconds=30), description="How long to wait for a broker's answer."
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        conflicts = [*self._login_conflicts(), *self._transport_conflicts()]
        if conflicts:
            text = "; ".join(f"kafka.{name} {message}" for name, message in conflicts)
            raise PydanticCustomError(CONFLICT, "{text}", {"text": text, "conflicts": conflicts})
        return self

    def _login_conflicts(self) -> list[tuple[str, str]]:
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        with_login = protocol.startswith("SASL_")
        if mechanism is None:
            message = "needs kafka.sasl_mechanism, such as SCRAM-SHA-512"
            return [("security_protocol", message)] if with_login else []
        if not with_login:
            return [("sasl_mechanism", f"needs kafka.security_protocol SASL_SSL, not {protocol}")]
        if mechanism == "OAUTHBEARER":
            unset = [self.sasl_oauth_token, self.sasl_oauth_token_file].count(None)
            verb = ("takes only one of", None, "needs one of")[unset]
            message = f"{verb} kafka.sasl_oauth_token and kafka.sasl_oauth_token_file"
            return [("sasl_mechanism", message)] if verb else []
        needed = {"sasl_username": self.sasl_username, "sasl_password": self.sasl_password}
        return [
            ("sasl_mechanism", f"needs kafka.{name}")
            for name, value in needed.items()
            if value is None
        ]

    def _transport_conflicts(self) -> list[tuple[str, str]]:
        conflicts = []
        if self.ssl_certfile and not self.ssl_keyfile:
            conflicts.append(("ssl_certfile", "needs kafka.ssl_keyfile"))
        if self.ssl_keyfile and not self.ssl_certfile:
            conflicts.append(("ssl_keyfile", "needs kafka.ssl_certfile"))
        far = [server for server in self.bootstrap_servers if not is_loopback(server)]
        if far and not self.allow_insecure and self.security_protocol.endswith("PLAINTEXT"):
            message = (
                f"{far[0]} is another machine, and {self.security_protocol} is not encrypted;"
                " set kafka.security_protocol to SASL_SSL or SSL,"
                " or kafka.allow_insecure to true"
            )
            conflicts.append(("bootstrap_servers", message))
        return conflicts


class Topic(Group):
    """One topic of events, of usage or of business."""

    format: Line = Field(description="Format of its records.")
    fields: Mapping[str, Line] = Field(
        default_factory=dict,
        description="Where fields of the event are in a record: `team: $.data.owner`.",
    )

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"unknown format; known: {', '.join(sorted(FORMATS))}")
        return name

    @field_validator("fields")
    @classmethod
    def _found(cls, fields: Mapping[str, str], info: ValidationInfo) -> Mapping[str, str]:
        if (name := info.data.get("format")) is not None:
            FORMATS[name](fields)
        return fields


class Store(Group):
    """The DuckDB file and what it may use."""

    path: FilePath = Field(Path("data/governor.duckdb"), description="The DuckDB file.")
    memory_limit: Annotated[int, Size("64MB", "1TB", "400MB")] = Field(
        400_000_000, description="Memory that DuckDB may use."
    )
    threads: Annotated[int, Whole(1, 256, 2)] = Field(
        1, description="Threads of DuckDB; a batch is small, more than one slows it down."
    )
    checkpoint_threshold: Annotated[int, Size("1MB", "16GB", "64MB")] = Field(
        64_000_000, description="Size of the write-ahead log that starts a checkpoint."
    )
    min_free: Annotated[int, Size("0B", "1TB", "256MB")] = Field(
        256_000_000, description="Ingest pauses while the disk has less free space than this."
    )


class Ingest(Group):
    """Batches, their limits, and which event times are taken."""

    batch_records: Annotated[int, Whole(1, 50_000, 5000)] = Field(
        5000, description="Most records in a batch, one transaction each."
    )
    batch_wait: Annotated[timedelta, Duration("1ms", "1m", "200ms")] = Field(
        timedelta(milliseconds=200), description="Longest wait for a batch to fill."
    )
    queue_batches: Annotated[int, Whole(1, 16, 2)] = Field(
        2, description="Batches read ahead of the store."
    )
    max_record_bytes: Annotated[int, Size("1KB", "100MB", "1MB")] = Field(
        1_000_000, description="Largest record that is read; a larger one is set aside."
    )
    accept_back: Annotated[timedelta, Duration("1m", "3650d", "45d")] = Field(
        timedelta(days=45), description="Events older than this are set aside as `too_old`."
    )
    accept_ahead: Annotated[timedelta, Duration("0s", "365d", "1h")] = Field(
        timedelta(hours=1), description="Events further ahead than this are set aside as `too_new`."
    )
    late_after: Annotated[timedelta, Duration("0s", "3650d", "1h")] = Field(
        timedelta(hours=1), description="Events that arrive later than this are counted as late."
    )
    stall_after: Annotated[timedelta, Duration("1s", "1d", "60s")] = Field(
        timedelta(seconds=60), description="Without progress for this long, ingest reads unhealthy."
    )


class Http(Group):
    """Where metrics and health are served."""

    host: Line = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Whole(0, 65_535, 9464)] = Field(
        9464, description="Port to listen on; 0 takes any free port."
    )


class Rules(Group):
    """Where the rules are, and how soon a change is seen."""

    path: FilePath = Field(
        Path("rules"), description="Folder of rule files (`*.yaml`), or one file."
    )
    reload_every: Annotated[timedelta, Duration("100ms", "1h", "2s")] = Field(
        timedelta(seconds=2), description="How often the rule files are looked at for changes."
    )


class Prices(Group):
    """The company's own prices, and how far reported costs may be from ours."""

    path: FilePath = Field(
        Path("prices.yaml"), description="File of the company's own prices; it may be absent."
    )
    reload_every: Annotated[timedelta, Duration("100ms", "1h", "2s")] = Field(
        timedelta(seconds=2), description="How often the price file is looked at for changes."
    )
    disagreement_percent: Annotated[int, Whole(1, 1000, 10)] = Field(
        10, description="Alert where costs that senders report differ by more from ours, percent."
    )


class Directives(Group):
    """The compacted topic that tells gates what to do."""

    topic: Annotated[str, TopicName()] = Field(
        "governor.directives", description="The compacted topic of directives."
    )
    lease: Annotated[timedelta, Duration("1s", "1h", "30s")] = Field(
        timedelta(seconds=30),
        description="How long gates obey an `open` directive without a sign of the daemon.",
    )
    stale_after: Annotated[timedelta, Duration("10s", "1d", "5m")] = Field(
        timedelta(minutes=5),
        description="Nothing new is enforced while usage is stored later than this.",
    )


class Control(Group):
    """Where the daemon takes orders: a Unix socket, and TCP only with a token."""

    socket: FilePath = Field(
        Path("data/control.sock"), description="Unix socket of the control API, mode 0600."
    )
    host: Line = Field("127.0.0.1", description="Address of the control API on TCP.")
    port: Annotated[int, Whole(0, 65_535, 9467)] | None = Field(
        None, description="Port of the control API on TCP; unset: the Unix socket alone."
    )
    token: Secret | None = Field(None, description="Token that TCP callers must show.")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.port is not None and self.token is None:
            conflicts = [("port", "needs control.token: the socket alone is safe without one")]
            text = f"control.{conflicts[0][0]} {conflicts[0][1]}"
            raise PydanticCustomError(CONFLICT, "{text}", {"text": text, "conflicts": conflicts})
        return self


class Log(Group):
    """What is logged, and how."""

    level: LogLevel = Field("info", description="Least level that is logged.")
    format: LogFormat = Field("auto", description="`auto` is console on a terminal, else json.")


class Settings(BaseSettings):
    """All settings, frozen. Built by `governor.settings.load`; the constructor reads nothing."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    kafka: Kafka = Field(default_factory=Kafka)
    topics: Annotated[Mapping[Annotated[str, TopicName()], Topic], NoDecode] = Field(
        default_factory=lambda: {"usage": Topic(format="native")},
        description="Topics to read and the format of each; in a variable `name=format,...`.",
    )
    store: Store = Field(default_factory=Store)
    ingest: Ingest = Field(default_factory=Ingest)
    rules: Rules = Field(default_factory=Rules)
    prices: Prices = Field(default_factory=Prices)
    slack: Slack = Field(default_factory=Slack)
    webhook: Webhook = Field(default_factory=Webhook)
    pagerduty: PagerDuty = Field(default_factory=PagerDuty)
    smtp: Smtp = Field(default_factory=Smtp)
    directives: Directives = Field(default_factory=Directives)
    control: Control = Field(default_factory=Control)
    gate: Gate = Field(default_factory=Gate)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)

    @field_validator("topics", mode="before")
    @classmethod
    def _one_text(cls, topics: object) -> object:
        if not isinstance(topics, str):
            return topics
        pairs = [pair.partition("=") for pair in topics.split(",")]
        named = {name.strip(): {"format": form.strip()} for name, _, form in pairs}
        if len(named) < len(pairs) or not all(equals for _, equals, _ in pairs):
            raise ValueError("must be topic=format, each topic once, such as usage=native")
        return named

    @field_validator("topics")
    @classmethod
    def _some(cls, topics: Mapping[str, Topic]) -> Mapping[str, Topic]:
        if not topics:
            raise ValueError("must name at least one topic")
        return topics

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 the library names the parameters
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor is given only; `sources` reads the rest and keeps origins."""
        return (init_settings,)
