"""Alerts in Slack, over HTTP against the local stand-in: every fault, every limit, no secret."""

import io
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback
from slack_sdk import WebClient

from governor.actions.log import Log
from governor.actions.slack import bot as bot_module
from governor.actions.slack.bot import REPLACES, SlackBot
from governor.actions.slack.connection import PASSING, Client, granted, unreachable
from governor.actions.slack.message import compose, shown
from governor.actions.slack.webhook import SlackWebhook
from governor.core.errors import GovernorError, PermanentError, TransientError
from governor.core.notifications import Notice, rejection_notice
from governor.core.rules.shared import Level, Mode
from governor.demo.slack import CHANNEL, TOKEN, WEBHOOK, Fault, SlackStandIn
from governor.demo.slack_limits import texts
from tests.unit.told import one

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOTICE = Notice(
    message="a1b2c3d4e5f6:1",
    alert="a1b2c3d4e5f6",
    revision=1,
    rule="free-tier-daily-cap",
    owner="growth",
    mode=Mode.ENFORCE,
    level=Level.WARNING,
    resolved=None,
    title="free-tier-daily-cap",
    summary="Free tier chat: 320.00 USD of 400.00 USD today",
    value="320.00 USD",
    limit="400.00 USD",
    percent=Decimal(80),
    group=(("feature", "chat"),),
    period="2026-11-24 (day)",
    period_end=NOW + timedelta(hours=12),
    at=NOW,
    fired_at=NOW - timedelta(minutes=1),
    history=("50% at 10:00: info", "80% at 12:00: warning"),
    throttles=("each customer of chat: 2/min until 2026-11-25 00:00 UTC",),
    runbook="https://wiki.example.com/free-tier?a=1&b=2",
)
WORSE = replace(NOTICE, revision=2, level=Level.CRITICAL, percent=Decimal(101))
OVER = replace(NOTICE, revision=3, resolved="the period ended", throttles=())

OrderFault = Callable[..., None]


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with SlackStandIn(clock=NOW.timestamp) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def busy_slack() -> Iterator[SlackStandIn]:
    with SlackStandIn(clock=NOW.timestamp) as stand_in:
        yield stand_in


@pytest.fixture
def bot(slack: SlackStandIn) -> SlackBot:
    return bot_at(slack)


@pytest.fixture
def hook(slack: SlackStandIn) -> SlackWebhook:
    return SlackWebhook(url=slack.webhook_url, timeout_s=5)


def bot_at(slack: SlackStandIn, **other: Any) -> SlackBot:
    given = {"token": TOKEN, "channel": CHANNEL, "base_url": slack.base_url, "timeout_s": 5}
    return SlackBot(**(given | other))


def said(blocks: Any) -> str:
    return "\n".join(text["text"] for text in texts(blocks))


# ------------------------------------------------------------------------------ the bot


def test_an_alert_is_one_message_from_first_to_last(slack: SlackStandIn, bot: SlackBot) -> None:
    """Worse and over are edits of the message that was posted first."""
    reference = None
    for notice in (NOTICE, WORSE, OVER):
        reference = bot.tell(one(notice, reference=reference))
    (message,) = slack.messages[CHANNEL]
    assert reference == f"{CHANNEL}:{message.ts}"
    headers = [version.blocks[0]["text"]["text"] for version in message.versions]
    assert headers == [
        "⚠️ Warning: free-tier-daily-cap",
        "🚨 Critical: free-tier-daily-cap",
        "✅ Resolved: free-tier-daily-cap",
    ]
    assert message.now.metadata == {
        "event_type": "governor_alert",
        "event_payload": {"thread": NOTICE.message, "serial": 3},
    }
    assert "the period ended" in said(message.now.blocks)
    assert "Enforcement" not in said(message.now.blocks)


def test_a_message_says_what_people_need(slack: SlackStandIn, bot: SlackBot) -> None:
    """Amounts, bar, group, period, history, throttles, owner, runbook, and where to ask on."""
    bot.tell(one(NOTICE))
    (message,) = slack.messages[CHANNEL]
    blocks = said(message.now.blocks)
    for text in (
        NOTICE.summary,
        "`████████████████░░░░`  *80%*\n*320.00 USD* of 400.00 USD",
        "`feature = chat`",
        f"<!date^{int(NOTICE.period_end.timestamp())}^",
        "2026-11-25 00:00 UTC",
        "• 50% at 10:00: info\n• 80% at 12:00: warning",
        "Enforcement:\n• each customer of chat: 2/min",
        "*Owner*\ngrowth",
        "<https://wiki.example.com/free-tier?a=1&amp;b=2|Runbook>",
        "`a1b2c3d4e5f6`",
        "`governor alerts list`",
    ):
        assert text in blocks, text
    for text in (NOTICE.summary, "320.00 USD of 400.00 USD (80%)", "feature = chat", "2/min"):
        assert text in message.now.text, text


def test_check_says_who_we_are(slack: SlackStandIn, bot: SlackBot) -> None:
    """The start asks Slack for the bot's name, and a wrong token is told apart there."""
    client = Client(token=TOKEN, base_url=slack.base_url, timeout_s=5)
    assert granted(client) == ("governor in Stand-in", slack.scopes)
    with pytest.raises(PermanentError, match=r"invalid_auth; set slack\.bot_token"):
        granted(Client(token="xoxb-other", base_url=slack.base_url, timeout_s=5))


@pytest.mark.parametrize(
    ("fault", "options", "expected", "retry_after_s"),
    [
        (Fault.RATE_LIMITED, {"retry_after_s": 30}, TransientError, 30),
        (Fault.SERVER_ERROR, {"status": 500}, TransientError, None),
        (Fault.SERVER_ERROR, {"status": 502}, TransientError, None),
        (Fault.SERVER_ERROR, {"status": 503}, TransientError, None),
        (Fault.SERVER_ERROR, {"status": 408}, TransientError, None),
        (Fault.SERVER_ERROR, {"status": 302}, PermanentError, None),
        (Fault.SERVER_ERROR, {"status": 404}, PermanentError, None),
        (Fault.DROPPED, {}, TransientError, None),
        (Fault.REPLY_LOST, {}, TransientError, None),
        (Fault.GARBLED, {}, TransientError, None),
        (Fault.SLOW, {"delay_s": 5}, TransientError, None),
        (Fault.REFUSED, {"error": "ratelimited"}, TransientError, 1),
        (Fault.REFUSED, {"error": "rate_limited"}, TransientError, None),
        *((Fault.REFUSED, {"error": error}, TransientError, None) for error in sorted(PASSING)),
        *(
            (Fault.REFUSED, {"error": error}, PermanentError, None)
            for error in ("invalid_auth", "token_revoked", "account_inactive", "no_such_word")
        ),
    ],
)
def test_every_fault_is_later_or_a_task_for_people(
    slack: SlackStandIn,
    fault: Fault,
    options: dict[str, Any],
    expected: type[GovernorError],
    retry_after_s: int | None,
) -> None:
    """What passes by itself is transient and waits as long as Slack says; the rest is not."""
    for method in ("chat.postMessage", "webhook"):
        slack.fail_next(fault, method=method, **options)
    hook = SlackWebhook(url=slack.webhook_url, timeout_s=0.5)
    for receiver in (bot_at(slack, timeout_s=0.5), hook):
        with pytest.raises(GovernorError) as raised:
            receiver.tell(one(NOTICE))
        assert isinstance(raised.value, expected)
        assert getattr(raised.value, "retry_after_s", None) == retry_after_s
    outcomes = [call.outcome for call in slack.calls if call.method == "chat.postMessage"]
    assert outcomes == [fault]  # one call is one request: nothing is retried underneath


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("not_in_channel", "invite the bot"),
        ("channel_not_found", "check slack.channel"),
        ("is_archived", "unarchive the channel"),
        ("not_authed", "set slack.bot_token"),
    ],
)
def test_a_refusal_says_what_to_do(
    slack: SlackStandIn, bot: SlackBot, error: str, remedy: str
) -> None:
    """The message of a permanent error names Slack's word and the remedy."""
    slack.fail_next(Fault.REFUSED, error=error)
    with pytest.raises(PermanentError, match=f"{error}; .*{remedy}"):
        bot.tell(one(NOTICE))


def test_a_missing_scope_is_named() -> None:
    """Who forgot a scope is told which."""
    with SlackStandIn(scopes=()) as slack, pytest.raises(PermanentError, match="scope chat:write"):
        bot_at(slack).tell(one(NOTICE))


@pytest.mark.parametrize("closed", [True, False])
def test_a_slack_that_is_down_is_later(slack: SlackStandIn, bot: SlackBot, *, closed: bool) -> None:
    """Nothing is lost while Slack is away: the same call works when it is back."""
    slack.down(closed=closed)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1"):
        bot.tell(one(NOTICE))
    slack.up()
    bot.tell(one(NOTICE, unsure=True))
    assert len(slack.messages[CHANNEL]) == 1


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.GARBLED, Fault.SLOW, Fault.DROPPED])
def test_a_lost_reply_does_not_post_twice(slack: SlackStandIn, fault: Fault) -> None:
    """After an attempt with unknown end the message is looked for, found and edited."""
    bot = bot_at(slack, timeout_s=0.5)
    bot.tell(one(replace(NOTICE, message="another:1")))
    slack.fail_next(fault, method="chat.postMessage", delay_s=5)
    with pytest.raises(TransientError):
        bot.tell(one(NOTICE))
    reference = bot.tell(one(WORSE, unsure=True))
    _, message = slack.messages[CHANNEL]
    assert reference == f"{CHANNEL}:{message.ts}"
    assert len(message.versions) == (1 if fault is Fault.DROPPED else 2)
    assert "Critical" in message.now.text


def test_a_message_is_found_below_others(slack: SlackStandIn, bot: SlackBot) -> None:
    """The search goes on to further pages of the channel's history."""
    first = bot.tell(one(NOTICE))
    client = WebClient(TOKEN, slack.base_url)
    for number in range(bot_module.PAGE_MESSAGES + 5):
        client.chat_postMessage(channel=CHANNEL, text=str(number))
    assert bot.tell(one(WORSE, unsure=True)) == first
    assert [call.method for call in slack.calls].count("conversations.history") == 2


def test_a_search_has_an_end(
    slack: SlackStandIn, bot: SlackBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below so many messages it is not looked on, and posted again; the log says so."""
    monkeypatch.setattr(bot_module, "PAGE_MESSAGES", 1)
    monkeypatch.setattr(bot_module, "MAX_PAGES", 2)
    for number in range(4):
        bot.tell(one(replace(NOTICE, message=str(number))))
    with structlog.testing.capture_logs() as lines:
        bot.tell(one(replace(NOTICE, message="0"), unsure=True))
    assert len(slack.messages[CHANNEL]) == 5
    assert [line["event"] for line in lines] == ["slack.search_ended"]


def test_old_history_is_not_searched(slack: SlackStandIn, bot: SlackBot) -> None:
    """The search asks for messages since shortly before the alert fired."""
    bot.tell(one(NOTICE, unsure=True))
    (search,) = (call for call in slack.calls if call.method == "conversations.history")
    assert float(search.arguments["oldest"]) == (NOTICE.fired_at - bot_module.LOOK_BACK).timestamp()


def test_without_the_scope_to_look_it_is_told_at_least_once() -> None:
    """Twice is better than never: it is posted again, and the log says once why."""
    with SlackStandIn(scopes=("chat:write",), clock=NOW.timestamp) as slack:
        bot = bot_at(slack)
        slack.fail_next(Fault.REPLY_LOST)
        with pytest.raises(TransientError):
            bot.tell(one(NOTICE))
        with structlog.testing.capture_logs() as lines:
            bot.tell(one(NOTICE, unsure=True))
            bot.tell(one(replace(NOTICE, message="another:1"), unsure=True))
        assert len(slack.messages[CHANNEL]) == 3
    assert [line["event"] for line in lines] == ["slack.history_refused"]
    assert "channels:history" in lines[0]["detail"]


def test_a_search_that_fails_posts_nothing(slack: SlackStandIn, bot: SlackBot) -> None:
    """Where looking fails for now, posting waits: it could be there."""
    slack.fail_next(Fault.RATE_LIMITED, method="conversations.history", retry_after_s=7)
    with pytest.raises(TransientError) as raised:
        bot.tell(one(NOTICE, unsure=True))
    assert raised.value.retry_after_s == 7
    assert slack.messages[CHANNEL] == ()


@pytest.mark.parametrize(
    "error", ["message_not_found", "cant_update_message", "edit_window_closed"]
)
def test_what_cannot_be_edited_is_replaced(slack: SlackStandIn, bot: SlackBot, error: str) -> None:
    """A new message takes its place, says so, and is the one that is edited from then on."""
    first = bot.tell(one(NOTICE))
    slack.fail_next(Fault.REFUSED, method="chat.update", error=error)
    second = bot.tell(one(WORSE, reference=first))
    assert second != first
    _, message = slack.messages[CHANNEL]
    assert REPLACES in said(message.now.blocks)
    assert REPLACES in message.now.text
    assert bot.tell(one(OVER, reference=second)) == second
    assert len(slack.messages[CHANNEL]) == 2


def test_a_deleted_message_is_replaced_once(slack: SlackStandIn, bot: SlackBot) -> None:
    """Also when the reply to the replacement is lost: it is found beside the dead reference."""
    first = bot.tell(one(NOTICE))
    slack.delete(*first.split(":"))
    slack.fail_next(Fault.REPLY_LOST, method="chat.postMessage")
    with pytest.raises(TransientError):
        bot.tell(one(WORSE, reference=first))
    bot.tell(one(WORSE, reference=first, unsure=True))
    assert len(slack.messages[CHANNEL]) == 1


def test_an_alert_moves_with_the_channel() -> None:
    """After slack.channel changed, a message out of reach is posted anew in the new channel."""
    with SlackStandIn(channels=("C1", "C2"), clock=NOW.timestamp) as slack:
        first = bot_at(slack, channel="C1").tell(one(NOTICE))
        assert bot_at(slack, channel="C2").tell(one(WORSE, reference=first)) == first
        slack.fail_next(Fault.REFUSED, method="chat.update", error="is_archived")
        moved = bot_at(slack, channel="C2").tell(one(OVER, reference=first))
    assert moved.startswith("C2:")


@pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long", "msg_too_long"])
def test_refused_blocks_become_plain_text(slack: SlackStandIn, bot: SlackBot, error: str) -> None:
    """A short message beats none, in a post, in an edit and by webhook; blocks go away."""
    slack.fail_next(Fault.REFUSED, method="chat.postMessage", error=error)
    with structlog.testing.capture_logs() as lines:
        reference = bot.tell(one(NOTICE))
        bot.tell(one(WORSE, reference=reference))
        slack.fail_next(Fault.REFUSED, method="chat.update", error=error)
        bot.tell(one(OVER, reference=reference))
    (message,) = slack.messages[CHANNEL]
    assert [bool(version.blocks) for version in message.versions] == [False, True, False]
    assert NOTICE.summary in message.now.text
    assert [line["event"] for line in lines] == ["slack.simplified"] * 2


def test_refused_plain_text_is_a_task_for_people(slack: SlackStandIn, bot: SlackBot) -> None:
    """It does not go round in circles."""
    slack.fail_next(Fault.REFUSED, times=2, error="msg_too_long")
    with pytest.raises(PermanentError, match="msg_too_long"):
        bot.tell(one(NOTICE))
    assert len(slack.calls) == 2


def test_the_environment_names_no_proxy(
    slack: SlackStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call goes to the address that was set, whatever HTTP_PROXY says."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    bot_at(slack).tell(one(NOTICE))
    SlackWebhook(url=slack.webhook_url, timeout_s=5).tell(one(NOTICE))
    assert len(slack.messages[CHANNEL]) == 2


# --------------------------------------------------------------------- limits and injection

_TEXT = st.text(st.characters(codec=None), max_size=300) | st.builds(
    lambda text, times: text * times,
    st.sampled_from(["&", "<!channel>", "*_~`", "\n", "\x00", "\ud800", "🚨", "a" * 997, "\u202e"]),
    st.integers(0, 5_000),
)
_TIMES = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001  # the strategy asks for naive bounds
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
_NOTICES = st.builds(
    Notice,
    message=st.text("0123456789abcdef:", min_size=1, max_size=40),
    alert=st.text("0123456789abcdef", min_size=12, max_size=12),
    revision=st.integers(1, 10**6),
    rule=_TEXT,
    owner=_TEXT,
    mode=st.sampled_from(Mode),
    level=st.sampled_from(Level),
    resolved=st.none() | _TEXT,
    title=_TEXT,
    summary=_TEXT,
    value=_TEXT,
    limit=_TEXT,
    percent=st.none() | st.decimals(allow_nan=False),
    group=st.lists(st.tuples(_TEXT, _TEXT), max_size=14).map(tuple),
    period=_TEXT,
    period_end=_TIMES,
    at=_TIMES,
    fired_at=_TIMES,
    history=st.lists(_TEXT, max_size=40).map(tuple),
    throttles=st.lists(_TEXT, max_size=40).map(tuple),
    runbook=st.none() | _TEXT | _TEXT.map(lambda text: f"https://a.example/{text}"),
)


@pytest.mark.slow
@given(notice=_NOTICES)
@settings(max_examples=50, deadline=None)
def test_every_notice_fits(busy_slack: SlackStandIn, notice: Notice) -> None:
    """Slack takes the blocks of any notice at the first attempt, as a post, an edit and a hook."""
    bot = bot_at(busy_slack)
    with structlog.testing.capture_logs() as lines:
        reference = bot.tell(one(notice))
        assert bot.tell(one(notice, reference=reference)) == reference
        SlackWebhook(url=busy_slack.webhook_url, timeout_s=5).tell(one(notice))
    assert lines == []


@pytest.mark.slow
@given(notice=_NOTICES, remark=st.none() | _TEXT)
@settings(max_examples=100, deadline=None)
def test_no_text_of_others_is_markup(notice: Notice, remark: str | None) -> None:
    """Of what Slack acts on, there are only our dates and the runbook, whatever the texts are."""
    message = compose(notice, remark)
    assert "<" not in message.text
    for text in texts(message.blocks):
        controls = re.findall(r"<[^>]*>?", text["text"])
        if text["type"] == "plain_text":
            assert controls == []
        for control in controls:
            assert re.fullmatch(r"<!date\^-?\d+\^[^<>]*>|<https?://[^<>|\s]*\|Runbook>", control)
        assert not re.search(r"&(?!amp;|lt;|gt;)", text["text"])


def test_a_customer_cannot_call_the_channel(slack: SlackStandIn, bot: SlackBot) -> None:
    """Names that look like markup are shown letter by letter."""
    name = "<!channel> <https://evil.example|pay here> `*`"
    hostile = replace(
        NOTICE, group=(("customer", name),), summary=name, title=name, throttles=(name,)
    )
    bot.tell(one(hostile))
    (message,) = slack.messages[CHANNEL]
    quote = "\N{MODIFIER LETTER GRAVE ACCENT}"
    escaped = "&lt;!channel&gt; &lt;https://evil.example|pay here&gt;"
    assert said(message.now.blocks).count(escaped) == 4
    assert "<!channel>" not in said(message.now.blocks) + message.now.text
    assert f"`customer = {escaped} {quote}*{quote}`" in said(message.now.blocks)
    assert all(call.arguments["parse"] == "none" for call in slack.calls)


@pytest.mark.parametrize(
    "runbook",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://",
        "https://a.example/|<!channel>",
        "https://a.example/ b",
        "http://[half",
        "https://a.example/" + "a" * 1_000,
        "",
    ],
)
def test_only_web_addresses_are_links(runbook: str) -> None:
    """A runbook that is no plain web address is not shown."""
    assert "Runbook" not in said(compose(replace(NOTICE, runbook=runbook)).blocks)


def test_a_cut_leaves_no_half_an_entity() -> None:
    """The length counts what is sent, and the cut falls between letters."""
    assert shown("a&b", 7) == "a&amp;b"
    assert shown("a&b", 6) == "a…"
    assert shown("\ud83d\x00 \t", 10) == "\ufffd\ufffd"
    assert shown(" \n ", 10) == "-"


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        ("0", "`░░░░░░░░░░░░░░░░░░░░`  *0%*"),
        ("99.99", "`███████████████████░`  *99.9%*"),
        ("130.04", "`████████████████████`  *130%*"),
        ("-1", "`░░░░░░░░░░░░░░░░░░░░`  *0%*"),
        ("1E+999999", "`████████████████████`  *over 999,999%*"),
    ],
)
def test_a_share_is_rounded_down(percent: str, expected: str) -> None:
    """A bar is full at the limit and not before."""
    assert expected in said(compose(replace(NOTICE, percent=Decimal(percent))).blocks)


def test_a_share_that_is_not_known_has_no_bar() -> None:
    """Unknown is not zero."""
    assert "░" not in said(compose(replace(NOTICE, percent=None)).blocks)


def test_what_is_not_about_a_budget_has_no_amounts() -> None:
    """Of refused rule files people hear what happened, without empty places for money."""
    refused = rejection_notice(
        "rules-rejected", "Rule files refused", "rules/a.yaml:3:5: unknown key 'limt'", NOW
    )
    message = compose(refused)
    for text in (said(message.blocks), message.text):
        assert "rules/a.yaml:3:5: unknown key 'limt'" in text
        assert "Period" not in text
        assert "everything" not in text
        assert " of " not in text


# ---------------------------------------------------------------------------- the webhook


def test_a_webhook_posts_each_change(slack: SlackStandIn, hook: SlackWebhook) -> None:
    """It cannot edit and has no reference to give."""
    for notice in (NOTICE, OVER):
        assert hook.tell(one(notice)) is None
    assert [message.now.text[0] for message in slack.messages[CHANNEL]] == ["⚠", "✅"]


def test_a_webhook_falls_back_to_text(slack: SlackStandIn, hook: SlackWebhook) -> None:
    """Refused blocks are not the end."""
    slack.fail_next(Fault.REFUSED, method="webhook", error="invalid_blocks")
    hook.tell(one(NOTICE))
    (message,) = slack.messages[CHANNEL]
    assert message.now.blocks == ()


def test_a_webhook_that_is_gone_is_a_task_for_people(slack: SlackStandIn) -> None:
    """The message says so, without the address."""
    hook = SlackWebhook(url=slack.webhook_url + "-old", timeout_s=5)
    with pytest.raises(PermanentError, match=r"no_service; .* set slack\.webhook_url") as raised:
        hook.tell(one(NOTICE))
    assert WEBHOOK not in str(raised.value)


def test_the_log_always_hears() -> None:
    """One line with keys, the level of the alert beside the level of the line."""
    with structlog.testing.capture_logs() as lines:
        Log().tell(one(OVER, unsure=True))
    (line,) = lines
    assert line["event"] == "alert.told"
    assert line["alert_level"] == "warning"
    assert line["resolved"] == "the period ended"
    assert line["percent"] == "80"
    assert line["group"] == {"feature": "chat"}


# --------------------------------------------------------------------------------- secrets

SECRET = "xoxb-1111-2222-planted"


def outcomes_of(slack: SlackStandIn) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield every receiver with a planted secret that fails, each in another way."""
    webhook = slack.webhook_url.replace("stand-in", SECRET)
    for token, base_url in (
        (SECRET, slack.base_url),
        (SECRET, "http://127.0.0.1:1/api/"),
        (SECRET, f"http://{SECRET}@127.0.0.1:1/api/"),
        (SECRET, "ftp://127.0.0.1/"),
        (SECRET, "nowhere"),
        (SECRET, "http://[half"),
        (f"{SECRET}\nX: y", slack.base_url),
        (f"{SECRET}🚨", slack.base_url),
    ):
        yield SlackBot(token=token, channel="C", base_url=base_url, timeout_s=1), lambda: None
    for url in (webhook, webhook.replace("http:", "ftp:"), f"no {SECRET}", f"http://[{SECRET}"):
        yield SlackWebhook(url=url, timeout_s=1), lambda: None
    for fault in Fault:
        for method in ("chat.postMessage", "webhook"):
            error = SECRET if fault is Fault.REFUSED else "internal_error"
            options = {"method": method, "delay_s": 3, "error": error}
            receiver: Any = SlackWebhook(url=webhook, timeout_s=0.3)
            if method != "webhook":
                receiver = SlackBot(
                    token=SECRET, channel="C", base_url=slack.base_url, timeout_s=0.3
                )
            yield receiver, lambda fault=fault, options=options: slack.fail_next(fault, **options)


def shown_error(error: BaseException | None) -> Iterator[str]:
    """Yield all that a careless handler could print: chain, frames, locals."""
    while error is not None:
        yield repr(error)
        yield repr(vars(error))
        screen = io.StringIO()
        trace = Traceback.from_exception(
            type(error), error, error.__traceback__, show_locals=True, locals_max_string=None
        )
        Console(file=screen, width=500).print(trace)
        yield screen.getvalue()
        error = error.__cause__ or error.__context__


@pytest.mark.slow
def test_a_secret_is_in_no_error_and_no_log(
    slack: SlackStandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in messages, causes, contexts, locals of frames, reprs, or what libraries log."""
    caplog.set_level(logging.DEBUG)
    failed = 0
    with structlog.testing.capture_logs() as lines:
        for receiver, order in outcomes_of(slack):
            order()
            with pytest.raises(GovernorError) as raised:
                receiver.tell(one(NOTICE))
            failed += 1
            assert not isinstance(receiver, SlackBot) or raised.value.__context__ is None
            frames = raised.value.__traceback__.tb_next  # the first is this test's own
            for text in (*shown_error(raised.value.with_traceback(frames)), repr(receiver)):
                assert SECRET not in text
            slack.forget_faults()
    assert failed == 12 + 2 * len(Fault)
    assert SECRET not in caplog.text + repr(lines) + repr(slack.calls)


def test_a_certificate_that_is_not_trusted_is_a_task_for_people() -> None:
    """Waiting does not mend a certificate; the text of other errors is a fixed one."""
    untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    untrusted.verify_message = "self-signed certificate"
    failure = unreachable("slack.com", untrusted)
    assert isinstance(failure, PermanentError)
    assert "self-signed certificate" in str(failure)
    assert "Name or service" in str(unreachable("a", socket.gaierror(-2, "Name or service")))
