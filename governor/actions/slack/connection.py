"""How to reach Slack: slack_sdk without its retries, proxies and redirects; errors in our words.

slack_sdk retries a lost connection by itself, which posts twice, and takes proxies from the
environment without regard to NO_PROXY; urllib follows a redirect with the token in hand. None of
that happens here: one call is one request, to the address that was given.

An error of slack_sdk carries the request, and the request carries the token. So each is replaced
by one of ours outside of its `except`: neither cause nor context leads back to it.
"""

import json
import logging
import math
import re
import ssl
from collections.abc import Callable, Mapping
from http.client import HTTPException, InvalidURL
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse
from slack_sdk.webhook import WebhookClient, WebhookResponse

from governor.actions.http import (
    SERVER_ERRORS,
    TIMED_OUT,
    TOO_MANY,
    exchange,
    host_of,
    opener,
    seconds,
)
from governor.core.errors import GovernorError, PermanentError, TransientError

OK: Final = 200
UNREADABLE: Final = "unreadable_reply"

RATE_LIMITS: Final = frozenset({"rate_limited", "ratelimited"})
PASSING: Final = frozenset(
    {
        "accesslimited",
        "fatal_error",
        "internal_error",
        "message_limit_exceeded",
        "request_timeout",
        "rollup_error",
        "service_unavailable",
        "team_added_to_org",
        UNREADABLE,
    }
)
"""Errors of Slack that pass by themselves."""

TOO_MUCH: Final = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"}
)
"""Refusals of blocks; the plain text is sent at once."""

_LOGIN: Final = "set slack.bot_token to the bot token (xoxb-...) of an app that is installed"
_INVITE: Final = "invite the bot: /invite it in the channel"
_REMEDIES: Final = {
    "account_inactive": _LOGIN,
    "action_prohibited": "an admin of the workspace has forbidden the webhook",
    "channel_is_archived": "unarchive the channel, or make a webhook for another",
    "channel_not_found": f"check slack.channel, an id such as C0123ABCD; if private, {_INVITE}",
    "invalid_auth": _LOGIN,
    "invalid_token": "the webhook is not valid any more: make another, set slack.webhook_url",
    "is_archived": "unarchive the channel, or name another in slack.channel",
    "no_active_hooks": "the webhook is switched off: make another, set slack.webhook_url",
    "no_service": "the webhook is gone: make another, set slack.webhook_url",
    "not_authed": _LOGIN,
    "not_in_channel": _INVITE,
    "token_expired": _LOGIN,
    "token_revoked": _LOGIN,
    "unknown_method": "check slack.base_url",
}

_CODE: Final = re.compile(r"[a-z_]{1,64}")
_SCOPES: Final = re.compile(r"[a-z:._,]{1,200}")
_LIBRARY: Final = logging.getLogger("slack_sdk")
_LIBRARY.setLevel(logging.CRITICAL + 1)  # we tell its errors; its debug lines show whole requests


class RefusalError(PermanentError):
    """Slack understood and says no; `code` is its word for why."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Client(WebClient):
    """The Web API by slack_sdk."""

    def __init__(self, *, token: str, base_url: str, timeout_s: float) -> None:
        whole_s = math.ceil(timeout_s)
        super().__init__(token, base_url, whole_s, logger=_LIBRARY, retry_handlers=[])
        self.host = host_of(base_url)
        self._opener = opener()
        self._timeout_s = timeout_s

    def share(self, content: bytes, name: str, title: str, *, channel: str, thread_ts: str) -> None:
        """Upload a file and share it below a message; raise as `call` does.

        slack_sdk's own way uploads by a client of its own, with proxies; so these are its three
        calls. What is shared is shown some time later.
        """
        place = call(self.files_getUploadURLExternal, self.host, filename=name, length=len(content))
        url = str(place.get("upload_url", ""))
        try:
            request = Request(url, content, method="POST")  # noqa: S310  # see `opener`
            status, _, _ = exchange(self._opener, request, self._timeout_s)
            failure: GovernorError = TransientError(f"Slack's upload: HTTP {status}")
        except (OSError, HTTPException, ValueError) as error:
            status, failure = 0, unreachable(host_of(url), error)
        if status != OK:
            raise failure
        call(
            self.files_completeUploadExternal,
            self.host,
            files=[{"id": str(place.get("file_id", "")), "title": title}],
            channel_id=channel,
            thread_ts=thread_ts,
        )

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:  # noqa: ARG002
        status, headers, body = exchange(self._opener, req, self._timeout_s)
        if not _is_object(body):
            body = json.dumps({"ok": False, "error": UNREADABLE if status == OK else ""})
        return {"status": status, "headers": headers, "body": body}


class Hook(WebhookClient):
    """An incoming webhook by slack_sdk."""

    def __init__(self, *, url: str, timeout_s: float) -> None:
        super().__init__(url, math.ceil(timeout_s), logger=_LIBRARY, retry_handlers=[])
        self.host = host_of(url)
        self._opener = opener()
        self._timeout_s = timeout_s

    def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
        status, headers, body = exchange(self._opener, req, self._timeout_s)
        return WebhookResponse(url=url, status_code=status, body=body, headers=headers)


def call(method: Callable[..., SlackResponse], host: str, **arguments: Any) -> Mapping[str, Any]:
    """Call a method of a `Client`; return what Slack answers.

    Raise RefusalError where Slack says no, PermanentError where the address or its certificate is
    wrong, TransientError where it is not known whether the call was done or it can be later.
    """
    try:
        reply = method(**arguments)
    except SlackApiError as error:
        failure = _refusal(host, error.response)
    except (OSError, HTTPException, ValueError) as error:
        failure = unreachable(host, error)
    else:
        return dict(reply.data) if isinstance(reply.data, dict) else {}
    raise failure


def granted(client: Client) -> tuple[str, frozenset[str]]:
    """Return who a bot token is, `bot in team`, and its scopes; raise as `call` does."""
    kept: list[SlackResponse] = []

    def asked() -> SlackResponse:
        kept.append(client.auth_test())
        return kept[0]

    who = call(asked, client.host)
    scopes = str(kept[0].headers.get("x-oauth-scopes", ""))
    named = frozenset(scope.strip() for scope in scopes.split(","))
    return f"{who.get('user', '?')} in {who.get('team', '?')}", named


def send(hook: Hook, **arguments: Any) -> None:
    """Post to a webhook; raise as `call` does."""
    try:
        failure = _no(hook.host, hook.send(**arguments))
    except (OSError, HTTPException, ValueError) as error:
        failure = unreachable(hook.host, error)
    if failure:
        raise failure


def _no(host: str, reply: WebhookResponse) -> GovernorError | None:
    """Return the error for an answer of a webhook; None where it is `ok`, its only yes."""
    said = reply.body.strip()
    if reply.status_code == OK and said == "ok":
        return None
    code = UNREADABLE if reply.status_code == OK else said
    return refused(host, reply.status_code, reply.headers, code)


def _refusal(host: str, response: SlackResponse) -> GovernorError:
    data = response.data if isinstance(response.data, dict) else {}
    needed = str(data.get("needed", ""))
    code = str(data.get("error", ""))
    return refused(host, response.status_code, response.headers, code, needed=needed)


def refused(
    host: str, status: int, headers: Mapping[str, str], code: str, *, needed: str = ""
) -> GovernorError:
    """Return the error for an answer that is a no; words that are not Slack's are not repeated.

    Only of a rate limit, and so only with `retry_after_s`, is it certain that nothing was done.
    """
    if not _CODE.fullmatch(code):
        code = f"HTTP {status}"
    if status == TOO_MANY or code in RATE_LIMITS:
        retry_after_s = seconds(headers.get("retry-after", ""))
        return TransientError(f"Slack at {host}: {code}", retry_after_s=retry_after_s)
    if status == TIMED_OUT or status >= SERVER_ERRORS or code in PASSING:
        return TransientError(f"Slack at {host}: {code}")  # it may have been done all the same
    remedy = _REMEDIES.get(code, "see https://docs.slack.dev/reference/methods")
    if code == "missing_scope":
        scope = needed if _SCOPES.fullmatch(needed) else "chat:write"
        remedy = f"give the app the scope {scope}, then install it again"
    if status >= 300 and code.startswith("HTTP"):  # noqa: PLR2004  # a redirect or not Slack at all
        remedy = "check the address of Slack"
    return RefusalError(f"Slack at {host} refuses: {code}; {remedy}", code=code)


def unreachable(host: str, error: Exception) -> GovernorError:
    """Return the error for a call without an answer; it may have been done all the same."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return PermanentError(
            f"Slack at {host}: its certificate is not trusted: {reason.verify_message}"
        )
    if isinstance(error, ValueError | InvalidURL) and not isinstance(error, OSError):
        return PermanentError(
            f"Slack at {host}: the token or the address has characters that cannot be sent;"
            " check slack.bot_token, slack.base_url and slack.webhook_url"
        )
    said = type(reason).__name__
    if isinstance(reason, TimeoutError):
        said = "no answer in time"
    elif isinstance(reason, OSError) and reason.strerror:
        said = reason.strerror
    return TransientError(f"Slack at {host}: {said}")


def _is_object(body: str) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
