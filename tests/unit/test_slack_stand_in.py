"""The local stand-in of Slack, by slack_sdk itself: as strict as what it stands for."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from governor.demo.slack import CHANNEL, TOKEN, Fault, SlackStandIn


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with SlackStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def client(slack: SlackStandIn) -> WebClient:
    return WebClient(TOKEN, slack.base_url, retry_handlers=[])


def refusal(method: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(SlackApiError) as raised:
        method(**arguments)
    return str(raised.value.response["error"])


def test_the_stand_in_knows_its_token(slack: SlackStandIn) -> None:
    """A wrong token is invalid_auth, none is not_authed."""
    assert refusal(WebClient("xoxb-wrong", slack.base_url).auth_test) == "invalid_auth"
    assert refusal(WebClient(None, slack.base_url).auth_test) == "not_authed"
    assert WebClient(TOKEN, slack.base_url).auth_test()["user"] == "governor"


def test_the_stand_in_knows_its_methods_and_channels(client: WebClient) -> None:
    """What it does not know it refuses, as Slack does."""
    assert refusal(client.chat_delete, channel=CHANNEL, ts="1.0") == "unknown_method"
    assert refusal(client.chat_postMessage, channel="C404", text="a") == "channel_not_found"
    update = {"channel": CHANNEL, "ts": "1.000001", "text": "a"}
    assert refusal(client.chat_update, **update) == "message_not_found"


def plain(text: str, kind: str = "plain_text") -> dict[str, str]:
    return {"type": kind, "text": text}


def section(*fields: dict[str, str]) -> dict[str, Any]:
    return {"type": "section", "fields": list(fields)}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"text": " "}, "no_text"),
        ({"text": "a" * 4_001}, "msg_too_long"),
        ({"text": "a", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"text": "a", "blocks": [{"type": "header", "text": plain("a" * 151)}]}, "invalid_blocks"),
        (
            {"text": "a", "blocks": [{"type": "header", "text": plain("a", "mrkdwn")}]},
            "invalid_blocks",
        ),
        (
            {"text": "a", "blocks": [{"type": "section", "text": plain("a" * 3_001)}]},
            "invalid_blocks",
        ),
        ({"text": "a", "blocks": [{"type": "section", "text": plain("")}]}, "invalid_blocks"),
        ({"text": "a", "blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section(*[plain("a")] * 11)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section(plain("a" * 2_001))]}, "invalid_blocks"),
        (
            {"text": "a", "blocks": [{"type": "context", "elements": [plain("a")] * 11}]},
            "invalid_blocks",
        ),
        ({"text": "a", "blocks": [{"type": "divider", "color": "red"}]}, "invalid_blocks"),
        ({"text": "a", "blocks": [{"type": "video"}]}, "invalid_blocks"),
        ({"text": "a", "blocks": "not json"}, "invalid_blocks_format"),
        (
            {"text": "a", "blocks": [{"type": "section", "text": plain("a" * 3_000)}] * 5},
            "msg_blocks_too_long",
        ),
        ({"text": "a", "metadata": {"event_type": "a"}}, "invalid_metadata_format"),
        (
            {"text": "a", "metadata": {"event_type": "", "event_payload": {}}},
            "invalid_metadata_format",
        ),
    ],
)  # fmt: skip
def test_the_stand_in_is_as_strict_as_slack(
    slack: SlackStandIn, client: WebClient, arguments: dict[str, Any], error: str
) -> None:
    """What is too long or of the wrong shape is refused in Slack's words, and not kept."""
    with warned_of_text(arguments["text"]):
        assert refusal(client.chat_postMessage, channel=CHANNEL, **arguments) == error
    if "metadata" not in arguments:
        hook = WebhookClient(slack.webhook_url, retry_handlers=[])
        answer = hook.send(**arguments)
        assert (answer.status_code, answer.body) == (400, error)
    assert slack.messages[CHANNEL] == ()


def warned_of_text(text: str) -> Any:
    """Expect slack_sdk's own warning where there is no text."""
    if text.strip():
        return contextlib.nullcontext()
    return pytest.warns(UserWarning, match="text")


def test_the_stand_in_says_what_is_too_long(client: WebClient) -> None:
    """The answer points to the block, as Slack's does."""
    blocks = [{"type": "divider"}, {"type": "header", "text": plain("a" * 151)}]
    with pytest.raises(SlackApiError) as raised:
        client.chat_postMessage(channel=CHANNEL, text="a", blocks=blocks)
    (detail,) = raised.value.response["response_metadata"]["messages"]
    assert detail == ("[ERROR] must be less than 151 characters [json-pointer:/blocks/1/text/text]")


def test_the_stand_in_takes_forms(slack: SlackStandIn, client: WebClient) -> None:
    """A form with blocks as JSON text and the token among the fields is as good as JSON."""
    blocks = '[{"type": "header", "text": {"type": "plain_text", "text": "a"}}]'
    client.api_call("chat.postMessage", params={"channel": CHANNEL, "text": "a", "blocks": blocks})
    WebClient(None, slack.base_url).api_call(
        "chat.postMessage", params={"channel": CHANNEL, "text": "b", "token": TOKEN}
    )
    first, second = slack.messages[CHANNEL]
    assert first.now.blocks[0]["type"] == "header"
    assert second.now.text == "b"
    assert TOKEN not in repr(slack.calls)


def test_history_is_newest_first_in_pages(client: WebClient) -> None:
    """With cursor and oldest, and metadata only if asked for; an edit keeps the ts."""
    metadata = {"event_type": "a", "event_payload": {"b": 1}}
    stamps = [
        client.chat_postMessage(channel=CHANNEL, text=str(number), metadata=metadata)["ts"]
        for number in range(5)
    ]
    assert stamps == sorted(set(stamps))
    edited = client.chat_update(channel=CHANNEL, ts=stamps[3], text="edited")
    assert edited["ts"] == stamps[3]
    page = client.conversations_history(channel=CHANNEL, limit=3, oldest=stamps[0])
    assert [message["text"] for message in page["messages"]] == ["4", "edited", "2"]
    assert "metadata" not in page["messages"][0]
    cursor = page["response_metadata"]["next_cursor"]
    rest = client.conversations_history(
        channel=CHANNEL, limit=3, oldest=stamps[0], cursor=cursor, include_all_metadata=True
    )
    assert [(message["text"], message["metadata"]) for message in rest["messages"]] == [
        ("1", metadata)
    ]
    assert not rest["has_more"]
    assert refusal(client.conversations_history, channel=CHANNEL, limit=0) == "invalid_limit"


def test_edits_without_blocks_keep_them(slack: SlackStandIn, client: WebClient) -> None:
    """Only an empty list takes blocks away; what was said before is remembered."""
    blocks = [{"type": "divider"}]
    ts = client.chat_postMessage(channel=CHANNEL, text="a", blocks=blocks)["ts"]
    client.chat_update(channel=CHANNEL, ts=ts, text="b")
    client.chat_update(channel=CHANNEL, ts=ts, text="c", blocks=[])
    (message,) = slack.messages[CHANNEL]
    assert [(version.text, len(version.blocks)) for version in message.versions] == [
        ("a", 1),
        ("b", 1),
        ("c", 0),
    ]


def test_a_webhooks_message_is_not_the_bots(slack: SlackStandIn, client: WebClient) -> None:
    """The bot may edit what it posted itself, and no more."""
    WebhookClient(slack.webhook_url).send(text="a")
    (message,) = slack.messages[CHANNEL]
    update = {"channel": CHANNEL, "ts": message.ts, "text": "b"}
    assert refusal(client.chat_update, **update) == "cant_update_message"


def test_a_channel_takes_one_message_a_second() -> None:
    """Beyond a burst it answers 429 with Retry-After; other channels do not suffer."""
    with SlackStandIn(burst=2, channels=("C1", "C2")) as slack:
        client = WebClient(TOKEN, slack.base_url)
        for _ in range(2):
            client.chat_postMessage(channel="C1", text="a")
        with pytest.raises(SlackApiError) as raised:
            client.chat_postMessage(channel="C1", text="a")
        assert raised.value.response.status_code == 429
        assert raised.value.response.headers["Retry-After"] == "1"
        client.chat_postMessage(channel="C2", text="a")


def test_faults_come_in_the_order_of_their_orders(slack: SlackStandIn, client: WebClient) -> None:
    """Each as often as ordered, for the method it was ordered for."""
    slack.fail_next(Fault.REFUSED, times=2, error="first")
    slack.fail_next(Fault.REFUSED, error="second", method="chat.postMessage")
    found = [refusal(client.auth_test) for _ in range(2)]
    client.auth_test()
    found.append(refusal(client.chat_postMessage, channel=CHANNEL, text="a"))
    assert found == ["first", "first", "second"]
    assert [call.outcome for call in slack.calls] == ["refused", "refused", "ok", "refused"]


def test_many_may_call_at_once(slack: SlackStandIn) -> None:
    """Every message has a ts of its own."""

    def post(name: int) -> None:
        for number in range(10):
            WebClient(TOKEN, slack.base_url).chat_postMessage(
                channel=CHANNEL, text=f"{name} {number}"
            )

    threads = [threading.Thread(target=post, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = slack.messages[CHANNEL]
    assert len({message.now.text for message in messages}) == 40
    assert [message.ts for message in messages] == sorted({message.ts for message in messages})
