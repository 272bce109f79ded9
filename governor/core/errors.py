"""The four errors, named for what the caller does next; every adapter translates into them.

GovernorError
├── ConfigError      edit a file, a variable or a command line, then start again
├── DecodeError      set this record aside and go on
├── TransientError   try again later; nothing was changed
└── PermanentError   stop and tell a human; trying again will not help
"""


class GovernorError(Exception):
    """Base of every error that governor raises on purpose; its text is written for a person."""


class ConfigError(GovernorError):
    """What a person wrote cannot be used; the message names the thing, the value and the place."""


class DecodeError(GovernorError):
    """One record cannot be read as a usage event; `reason` is one of `core.usage.Reason`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(GovernorError):
    """The world is not ready (broker away, disk full); the same call may succeed later.

    `retry_after_s` is how long the other side asked us to wait, where it did.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(GovernorError):
    """The world will not get ready by itself; the message says what a person must do."""
