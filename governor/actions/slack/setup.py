"""Setting up the app in Slack: its manifest, and whether token, scopes and channels are right.

https://docs.slack.dev/reference/app-manifest
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from governor.actions.slack.connection import Client, call, granted
from governor.core.errors import GovernorError

SCOPES: Final[Mapping[str, str]] = {
    "chat:write": "post, and edit what was posted",
    "channels:history": "look whether a message is there before it is posted again",
    "groups:history": "look for messages in private channels",
    "channels:read": "check channels in `governor slack setup`",
    "groups:read": "check private channels in `governor slack setup`",
    "files:write": "put charts and reports below messages",
}
NEEDED: Final = ("chat:write",)
"""Without the others it works, and worse: the check says how."""
TEST_TEXT: Final = "governor can post here. Nothing is wrong: somebody tried it out."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `advice` is what to do where it is not right.

    Without what is not `needed` it works, and worse.
    """

    what: str
    right: bool
    found: str
    advice: str = ""
    needed: bool = True


def manifest(request_url: str | None) -> dict[str, Any]:
    """Return the manifest of the app: buttons by Socket Mode, or by HTTP to a `request_url`."""
    interactivity: dict[str, Any] = {"is_enabled": True}
    if request_url is not None:
        interactivity["request_url"] = request_url
    return {
        "display_information": {
            "name": "governor",
            "description": "Keeps AI inference spend inside its budgets",
        },
        "features": {"bot_user": {"display_name": "governor", "always_online": True}},
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": request_url is None,
            "token_rotation_enabled": False,
        },
    }


def checks(
    client: Client, channels: Sequence[str], app_client: Client | None, *, send: bool
) -> Iterator[Check]:
    """Look at token, scopes, channels and Socket Mode; with `send` post a test to each channel."""
    try:
        who, scopes = granted(client)
    except GovernorError as error:
        yield Check("bot token", right=False, found=str(error))
        return
    yield Check("bot token", right=True, found=who)
    for scope, use in SCOPES.items():
        there = scope in scopes
        advice = "" if there else f"to {use}, give it to the app and install that again"
        found = "granted" if there else "missing"
        yield Check(f"scope {scope}", there, found, advice, needed=scope in NEEDED)
    for channel in channels:
        yield _channel(client, channel, readable="channels:read" in scopes)
        if send:
            yield _sent(client, channel)
    if app_client is not None:
        yield _socket(app_client)


def _channel(client: Client, channel: str, *, readable: bool) -> Check:
    what = f"channel {channel}"
    if not readable:
        return Check(what, right=True, found="not looked at, for want of channels:read")
    try:
        found = call(client.conversations_info, client.host, channel=channel)["channel"]
    except GovernorError as error:
        return Check(what, right=False, found=str(error))
    if found.get("is_archived") or not found.get("is_member"):
        state = "archived" if found.get("is_archived") else "the bot is not in it"
        return Check(what, right=False, found=state, advice="/invite @governor in the channel")
    return Check(what, right=True, found=f"#{found.get('name', '?')}, the bot is in it")


def _sent(client: Client, channel: str) -> Check:
    try:
        call(client.chat_postMessage, client.host, channel=channel, text=TEST_TEXT, parse="none")
    except GovernorError as error:
        return Check(f"test to {channel}", right=False, found=str(error))
    return Check(f"test to {channel}", right=True, found="posted")


def _socket(client: Client) -> Check:
    try:
        call(client.apps_connections_open, client.host, app_token=client.token)
    except GovernorError as error:
        advice = "make an app-level token with connections:write, and switch Socket Mode on"
        return Check("Socket Mode", right=False, found=str(error), advice=advice)
    return Check("Socket Mode", right=True, found="a connection is given")
