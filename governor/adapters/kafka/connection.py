"""How to reach the brokers: security options for every client, and errors in our words."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kafka import errors
from kafka.net.sasl.oauth import AbstractTokenProvider

from governor.core.errors import ConfigError, PermanentError, TransientError

_REFUSALS: Final = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.SecurityDisabledError,
    errors.InvalidTopicError,
    errors.PolicyViolationError,
)


class _LastWords(logging.Handler):
    """Keeps what kafka-python said last: a failed login reaches us as a time-out otherwise."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, without the connection it begins with."""
        said = record.getMessage()
        if not said.startswith("Bootstrap failed"):  # which the error says too
            self.text = said.rpartition(">: ")[2]


_LAST_WORDS: Final = _LastWords(logging.ERROR)
_LIBRARY: Final = logging.getLogger("kafka")
_LIBRARY.setLevel(logging.ERROR)  # at DEBUG it would log whole frames
_LIBRARY.addHandler(_LAST_WORDS)
_LIBRARY.propagate = False  # it tells every try to reconnect twice; we tell it once


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and how to prove who we are; secrets never print."""

    bootstrap_servers: Sequence[str]
    client_id: str = "governor"
    security_protocol: str = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_oauth_token: str | None = field(default=None, repr=False)
    sasl_oauth_token_file: Path | None = None
    api_version: tuple[int, ...] | None = None
    request_timeout_ms: int = 30_000

    def options(self) -> dict[str, Any]:
        """Return the options that every kafka-python client takes."""
        options = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "api_version": self.api_version,
            "request_timeout_ms": self.request_timeout_ms,
            "reconnect_backoff_max_ms": 5_000,
            "bootstrap_timeout_ms": 10_000,
            "metadata_max_age_ms": 30_000,
        }
        if self.security_protocol.endswith("SSL"):
            options |= {
                "ssl_check_hostname": True,
                "ssl_cafile": _text(self.ssl_cafile),
                "ssl_certfile": _text(self.ssl_certfile),
                "ssl_keyfile": _text(self.ssl_keyfile),
                "ssl_password": self.ssl_key_password,
            }
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            if self.sasl_mechanism == "OAUTHBEARER":
                options["sasl_oauth_token_provider"] = _BearerToken(self)
            else:
                options["sasl_plain_username"] = self.sasl_username
                options["sasl_plain_password"] = self.sasl_password
        return options


class _BearerToken(AbstractTokenProvider):  # type: ignore[misc]  # the library is untyped
    """The OAuth bearer token, read again for every connection where it comes from a file."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def token(self) -> str:
        """Return the token; raise ConfigError where its file cannot be read."""
        path = self._connection.sasl_oauth_token_file
        if path is None:
            return self._connection.sasl_oauth_token or ""
        try:
            return path.read_text("utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"kafka.sasl_oauth_token_file: {path} cannot be read: {error.strerror}"
            ) from error


@contextmanager
def translated(connection: Connection) -> Iterator[None]:
    """Turn kafka-python's errors into TransientError or PermanentError, naming the brokers."""
    try:
        yield
    except errors.KafkaError as error:
        brokers = ", ".join(connection.bootstrap_servers)
        said = str(error) or type(error).__name__
        if isinstance(error, _REFUSALS):
            raise PermanentError(
                f"Kafka at {brokers} refuses us: {said}; check kafka.sasl_* and the ACLs"
            ) from error
        raise TransientError(
            f"Kafka at {brokers}: {_explained(connection, error, said)}"
        ) from error
    except OSError as error:
        brokers = ", ".join(connection.bootstrap_servers)
        if connection.security_protocol.endswith("SSL") and error.filename:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error
        raise TransientError(f"Kafka at {brokers}: {error}") from error


def _explained(connection: Connection, error: Exception, said: str) -> str:
    """Add to a time-out what the library said before it, and where to look."""
    if not isinstance(error, errors.KafkaTimeoutError) or not _LAST_WORDS.text:
        return said
    dropped = "disconnected" in _LAST_WORDS.text and connection.sasl_mechanism is not None
    hint = "; a broker hangs up like this on a login that it refuses: check kafka.sasl_*"
    return f"{said}: {_LAST_WORDS.text}{hint if dropped else ''}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
