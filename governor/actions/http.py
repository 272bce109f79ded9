"""HTTP as receivers need it: one request to the address that was given, and whatever it answers.

Nothing is retried, redirected or sent by a proxy of the environment: the outbox owns retries, and a
redirect would be followed with a secret in hand.
"""

import re
from collections.abc import Mapping
from http.client import HTTPException, InvalidURL
from typing import Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request, UnknownHandler

from governor import __version__
from governor.core.errors import GovernorError, PermanentError, TransientError

MAX_REPLY_BYTES: Final = 16_000_000
TIMED_OUT: Final = 408
TOO_MANY: Final = 429
SERVER_ERRORS: Final = 500


def opener() -> OpenerDirector:
    """Return an opener of plain requests: any status is an answer, and nothing is followed."""
    made = OpenerDirector()
    for handler in (HTTPHandler(), HTTPSHandler(), UnknownHandler()):
        made.add_handler(handler)
    return made


def exchange(
    through: OpenerDirector, request: Request, timeout_s: float
) -> tuple[int, dict[str, str], str]:
    """Return status, headers by lower-case name, and body of the answer."""
    with through.open(request, timeout=timeout_s) as reply:
        body = reply.read(MAX_REPLY_BYTES)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return reply.status, headers, body.decode("utf-8", "replace")


def post(who: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    """Post JSON to an address and be content with any answer of 2xx.

    Raise TransientError where it can work later, PermanentError where a person must act; both name
    `who` and the host, and nothing that may be secret.
    """
    place = f"{who} at {host_of(url)}"
    given = {"Content-Type": "application/json", "User-Agent": f"governor/{__version__}", **headers}
    try:
        status, answered, _ = exchange(
            opener(),
            Request(url, body, given, method="POST"),  # noqa: S310  # see the handlers of `opener`
            timeout_s,
        )
    except (OSError, HTTPException, ValueError) as error:
        failure = _unreachable(place, error)
    else:
        if status // 100 == 2:  # noqa: PLR2004
            return
        failure = _refused(place, status, answered)
    raise failure


def host_of(url: str) -> str:
    """Return the part of an address that is no secret."""
    try:
        return urlsplit(url).hostname or "an address without a host"
    except ValueError:
        return "an address that cannot be read"


def seconds(text: str) -> float | None:
    """Return what a header Retry-After asks for; None where it says none that we take."""
    return float(text) if re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", text.strip()) else None


def _refused(place: str, status: int, headers: Mapping[str, str]) -> GovernorError:
    if status == TOO_MANY:
        return TransientError(
            f"{place}: HTTP {status}", retry_after_s=seconds(headers.get("retry-after", ""))
        )
    if status == TIMED_OUT or status >= SERVER_ERRORS:
        return TransientError(f"{place}: HTTP {status}")
    return PermanentError(f"{place} refuses: HTTP {status}; check its address and its secret")


def _unreachable(place: str, error: Exception) -> GovernorError:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(error, ValueError | InvalidURL) and not isinstance(error, OSError):
        return PermanentError(f"{place}: the address has characters that cannot be sent")
    if isinstance(reason, TimeoutError):
        said = "no answer in time"
    elif isinstance(reason, OSError) and reason.strerror:
        said = reason.strerror
    else:
        said = type(reason).__name__
    return TransientError(f"{place}: {said}")
