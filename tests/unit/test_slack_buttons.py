"""Buttons in Slack: pressed at a stand-in, by websocket and by HTTP; who may, and what comes."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from governor.actions.slack.bot import SlackBot
from governor.actions.slack.buttons import SNOOZES, Press, block, press_of
from governor.actions.slack.listening import MAX_WAITING, Door, SocketMode, Waiting
from governor.adapters.duckdb.outbox import Outbox
from governor.cli import app
from governor.core.decisions import AuditRow
from governor.core.errors import PermanentError
from governor.core.routing import APART, People, Routing
from governor.core.rules.shared import Mode
from governor.daemon.drawing import Behind
from governor.daemon.pressing import OVER, UNKNOWN, Pressing
from governor.daemon.raising import Raising
from governor.demo.slack import (
    APP_TOKEN,
    CHANNEL,
    SIGNING_SECRET,
    TOKEN,
    Fault,
    SlackStandIn,
)
from governor.demo.slack_presses import post_signed, pressed
from governor.demo.slack_workspace import Message
from governor.loops.deliver import Deliver
from tests.unit.site import NOON, SLOW, Clock, Site, budget, opened
from tests.unit.test_slack import NOTICE, WORSE, bot_at
from tests.unit.test_slack import OVER as DONE
from tests.unit.told import of, one

RULES = [budget(100, at=(50, 100), mode=Mode.ENFORCE)]
PRESS = Press("U0ANN", "ann", "ack", "t1", "", CHANNEL, "1.2")


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with SlackStandIn() as stand_in:
        yield stand_in


def ids(message: Message) -> list[str]:
    return [
        element["action_id"]
        for each in message.now.blocks
        if each["type"] == "actions"
        for element in each["elements"]
    ]


# ---------------------------------------------------------------------------------- the blocks


def test_a_message_has_the_buttons_that_make_sense(slack: SlackStandIn) -> None:
    """What is throttled can be released; what is seen needs no button for that; green has none."""
    bot = bot_at(slack, buttons=True)
    reference = bot.tell(one(NOTICE))
    (message,) = slack.messages[CHANNEL]
    snoozes = [f"governor.snooze.{span}" for span in SNOOZES]
    assert ids(message) == ["governor.ack", *snoozes, "governor.release"]
    seen = replace(WORSE, acked="acknowledged by ann", throttles=())
    bot.tell(one(seen, reference=reference))
    (message,) = slack.messages[CHANNEL]
    assert ids(message) == snoozes
    bot.tell(one(DONE, reference=reference))
    (message,) = slack.messages[CHANNEL]
    assert ids(message) == []


def test_a_spike_can_be_marked_planned(slack: SlackStandIn) -> None:
    bot_at(slack, buttons=True).tell(one(replace(NOTICE, kind="spike")))
    assert "governor.plan" in ids(slack.messages[CHANNEL][0])


def test_without_a_way_to_hear_there_are_no_buttons(slack: SlackStandIn) -> None:
    """A button that does nothing would be a lie."""
    bot_at(slack).tell(one(NOTICE))
    assert ids(slack.messages[CHANNEL][0]) == []


def test_a_press_is_read() -> None:
    message = Message("1.2", "bot", ())
    found = block(of([NOTICE], thread="t1"))
    assert found is not None
    element = found["elements"][1]
    payload = {
        "type": "block_actions",
        "user": {"id": "U0ANN", "username": "ann"},
        "channel": {"id": CHANNEL},
        "message": {"ts": message.ts},
        "actions": [element],
    }
    assert press_of(payload) == replace(PRESS, action="snooze", span="1h")


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "view_submission"},
        {"type": "block_actions", "actions": []},
        {"type": "block_actions", "actions": ["x"]},
        {"type": "block_actions", "actions": [{"action_id": "other.ack", "value": "{}"}]},
        {"type": "block_actions", "actions": [{"action_id": "governor.ack", "value": "{"}]},
        {"type": "block_actions", "actions": [{"action_id": "governor.ack", "value": "[]"}]},
        {"type": "block_actions", "actions": [{"action_id": "governor.ack", "value": "{}"}]},
        {
            "type": "block_actions",
            "user": {"id": 7},
            "actions": [{"action_id": "governor.ack", "value": "{}"}],
        },
    ],
)
def test_what_is_no_press_of_ours_is_left_alone(payload: dict[str, Any]) -> None:
    assert press_of(payload) is None


# ---------------------------------------------------------------------------------- listening


class Heard:
    """Keeps what was pressed."""

    def __init__(self) -> None:
        self.presses: list[Press] = []
        self.some = threading.Event()

    def __call__(self, press: Press) -> None:
        self.presses.append(press)
        self.some.set()


@contextmanager
def listening(slack: SlackStandIn, heard: Heard, **other: Any) -> Iterator[SocketMode]:
    stop = threading.Event()
    waiting = Waiting(heard)
    clock = {"app_token": APP_TOKEN, "base_url": slack.base_url, "timeout_s": 2.0}
    mode = SocketMode(**clock | {"now_s": lambda: 0.0} | other, waiting=waiting)
    threads = [threading.Thread(target=run, args=(stop,)) for run in (mode.run, waiting.run)]
    for thread in threads:
        thread.start()
    try:
        yield mode
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def eventually(reached: Any, tries: int = 200) -> bool:
    pause = threading.Event()
    return any(reached() or pause.wait(0.05) for _ in range(tries))


def posted(slack: SlackStandIn) -> Message:
    bot_at(slack, buttons=True).tell(one(NOTICE))
    return slack.messages[CHANNEL][0]


def test_a_press_comes_by_websocket(slack: SlackStandIn) -> None:
    """It is acknowledged within Slack's time, also while another is being done."""
    message, heard = posted(slack), Heard()
    with listening(slack, heard):
        assert eventually(lambda: slack.listeners == 1)
        assert slack.press(message, "governor.ack", user="U0ANN")
        assert slack.press(message, "governor.snooze.4h", user="U0BOB")
        assert eventually(lambda: len(heard.presses) == 2)
    assert [(press.user, press.action, press.span) for press in heard.presses] == [
        ("U0ANN", "ack", ""),
        ("U0BOB", "snooze", "4h"),
    ]
    assert heard.presses[0].thread == NOTICE.message


@pytest.mark.slow
def test_a_connection_that_is_cut_is_made_anew(slack: SlackStandIn) -> None:
    """Slack closes each from time to time; presses are heard again within seconds."""
    message, heard = posted(slack), Heard()
    with listening(slack, heard):
        assert eventually(lambda: slack.listeners == 1)
        slack.drop_listeners()
        assert eventually(lambda: slack.listeners == 0)
        assert eventually(lambda: slack.listeners == 1)
        assert slack.press(message, "governor.ack", user="U0ANN")


@pytest.mark.slow
def test_a_connection_without_a_pong_is_not_believed(slack: SlackStandIn) -> None:
    """A clock that runs ahead makes each look find no pong: it is closed and made anew."""
    ticks = iter(range(2 * 10**9, 10**10, 30))
    with listening(slack, Heard(), now_s=lambda: float(next(ticks))):
        opened_ = "apps.connections.open"
        assert eventually(lambda: [c.method for c in slack.calls].count(opened_) >= 2)


def test_a_token_that_is_refused_is_a_trouble(slack: SlackStandIn) -> None:
    with listening(slack, Heard(), app_token="xapp-wrong") as mode:
        assert eventually(lambda: mode.trouble is not None)
        assert "xapp" not in str(mode.trouble)


@contextmanager
def door(heard: Heard) -> Iterator[str]:
    stop, waiting = threading.Event(), Waiting(heard)
    opened_ = Door(host="127.0.0.1", port=0, signing_secret=SIGNING_SECRET, waiting=waiting)
    thread = threading.Thread(target=waiting.run, args=(stop,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened_.port}/slack"
    finally:
        stop.set()
        opened_.close()
        thread.join(10)


def test_a_press_comes_by_http_if_slack_signed_it(slack: SlackStandIn) -> None:
    """Whatever is not signed, or was signed long ago, is a 401 and nothing is done."""
    message, heard = posted(slack), Heard()
    payload = pressed(message, "governor.ack", "U0ANN", CHANNEL)
    with door(heard) as url:
        assert slack.press(message, "governor.ack", user="U0ANN", door=url)
        assert heard.some.wait(5)
        assert post_signed(url, payload, "wrong") == 401
        assert post_signed(url, payload, SIGNING_SECRET, stamp=1_600_000_000) == 401
        assert post_signed(url, ["no", "payload"], SIGNING_SECRET) == 401
    assert len(heard.presses) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Slack-Request-Timestamp": "soon", "X-Slack-Signature": "v0=00"},
        {"X-Slack-Request-Timestamp": "1", "X-Slack-Signature": "v0=\xff"},
        {},
    ],
)
def test_nothing_that_is_posted_is_an_error_of_the_server(headers: dict[str, str]) -> None:
    """slack_sdk's verifier raises at some of these; here they are a 401 like all others."""
    with door(Heard()) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        for body in (b"", b"\xff\xfe", b"payload=", b"payload=" + json.dumps([]).encode()):
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("POST", "/", body, headers)
            assert connection.getresponse().status == 401
            connection.close()


def test_a_flood_is_dropped() -> None:
    """Presses wait in a queue with an end."""
    heard = Heard()
    waiting = Waiting(heard)
    payload = {
        "type": "block_actions",
        "user": {"id": "U0ANN"},
        "actions": [{"action_id": "governor.ack", "value": json.dumps({"thread": "t"})}],
    }
    for _ in range(3 * MAX_WAITING):
        waiting.put(payload)
    stop = threading.Event()
    thread = threading.Thread(target=waiting.run, args=(stop,))
    thread.start()
    assert eventually(lambda: len(heard.presses) == MAX_WAITING)
    stop.set()
    thread.join(10)
    assert len(heard.presses) == MAX_WAITING


# ---------------------------------------------------------------------------------- done


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", RULES, Clock(NOON)) as made:
        made.spend(60)
        made.spend(50)
        yield made


def pressing(site: Site) -> Pressing:
    def audit(caller: Any, action: str, target: str, outcome: str, detail: str | None) -> AuditRow:
        who, via = caller.who, caller.via
        return AuditRow(site.clock.now, who, via, action, target, outcome, detail)

    return Pressing(
        lambda: site.evaluate,
        Outbox(site.store),
        ask=lambda call: call(),
        now=lambda: site.clock.now,
        audit=audit,
        raising=Raising(lambda: site.evaluate, lambda: site.clock.now, audit),
    )


def told(site: Site, slack: SlackStandIn) -> str:
    """Tell Slack what is owed; return the thread."""
    bot = SlackBot(token=TOKEN, channel=CHANNEL, base_url=slack.base_url, timeout_s=5, buttons=True)
    deliver = Deliver(
        bot,
        Outbox(site.store),
        ask=lambda call: call(),
        now=lambda: site.clock.now,
        grouping=lambda: replace(APART, by=("rule",)),
    )
    deliver._tell_due(threading.Event())  # noqa: SLF001
    ((thread,),) = site.ask("SELECT DISTINCT thread FROM threads")
    return str(thread)


def test_pressed_is_done_said_and_audited(site: Site, slack: SlackStandIn) -> None:
    """The same as by the command, with who it was; and the message shows it."""
    thread = told(site, slack)
    said = pressing(site)(replace(PRESS, thread=thread))
    assert said == "Acknowledged until 2026-11-25 12:00 UTC: 1 of free-tier."
    told(site, slack)
    message = slack.messages[CHANNEL][0]
    assert "acknowledged by ann (U0ANN)" in message.now.text
    assert "governor.ack" not in ids(message)
    assert site.ask("SELECT who, via, action FROM audit") == [
        ("ann (U0ANN)", "slack", "alerts.ack")
    ]


def test_snoozed_for_as_long_as_the_button_says(site: Site, slack: SlackStandIn) -> None:
    said = pressing(site)(replace(PRESS, thread=told(site, slack), action="snooze", span="4h"))
    assert said.startswith("Snoozed until 2026-11-24 16:00 UTC")


def test_only_those_who_may_release(site: Site, slack: SlackStandIn) -> None:
    """Nobody by default; then those that are named, and the throttle is over."""
    thread = told(site, slack)
    release = replace(PRESS, thread=thread, action="release")
    assert "people.approve: nobody yet" in pressing(site)(release)
    assert len(site.standing()) == 1
    people = People(act=frozenset({"U0BOB"}), approve=frozenset({"U0ANN"}))
    site.evaluate.reload(RULES, routing=Routing(people=people))
    assert pressing(site)(release) == "Released 1 for the rest of their period."
    assert site.standing() == []
    assert "may do that" in pressing(site)(replace(PRESS, user="U0EVE", thread=thread))
    outcomes = site.ask("SELECT action, outcome FROM audit WHERE via = 'slack'")
    assert outcomes == [
        ("slack.release", "not allowed"),
        ("throttles.release", "released"),
        ("slack.ack", "not allowed"),
    ]


def test_what_waits_is_approved_by_those_who_may(tmp_path: Path, slack: SlackStandIn) -> None:
    """A message of what waits has a button for it; one press lets all of the message begin."""
    asks = replace(budget(), actions={"slow": replace(SLOW, manual=True)})
    with opened(tmp_path / "w.duckdb", [asks], Clock(NOON)) as site:
        site.spend(120)
        thread = told(site, slack)
        assert "governor.approve" in ids(slack.messages[CHANNEL][0])
        press = replace(PRESS, thread=thread, action="approve")
        assert "people.approve" in pressing(site)(press)
        assert site.published == []
        people = People(approve=frozenset({PRESS.user}))
        site.evaluate.reload([asks], routing=Routing(people=people))
        assert pressing(site)(press) == "Approved: 1 begin."
        (begun,) = site.published
        assert (begun.waits, begun.approved_by) == (None, "ann (U0ANN)")
        told(site, slack)
        message = slack.messages[CHANNEL][0]
        assert "approved by ann (U0ANN)" in message.now.text
        assert "governor.approve" not in ids(message)
        assert pressing(site)(press) == OVER


def test_a_late_press_changes_nothing(site: Site, slack: SlackStandIn) -> None:
    """It says so; an alert of the next day is not the one that the button is of."""
    thread = told(site, slack)
    site.turn(NOON + timedelta(days=1))
    site.spend(60)
    for press in (replace(PRESS, thread=thread), replace(PRESS, thread="none")):
        assert pressing(site)(press) == OVER
    assert site.ask("SELECT count(*) FROM acks") == [(0,)]


@pytest.mark.parametrize(
    ("action", "span", "said"),
    [("snooze", "9w", UNKNOWN), ("nuke", "", UNKNOWN), ("plan", "", OVER)],
)
def test_what_cannot_be_done_is_said(
    site: Site, slack: SlackStandIn, action: str, span: str, said: str
) -> None:
    """A button of another version, and a plan for what is no spike."""
    press = replace(PRESS, thread=told(site, slack), action=action, span=span)
    assert pressing(site)(press) == said
    assert site.ask("SELECT count(*) FROM acks") == [(0,)]


def test_whoever_pressed_is_answered_alone(slack: SlackStandIn) -> None:
    bot_at(slack).answer(PRESS, "Done <!channel>")
    assert slack.whispers == ((CHANNEL, "U0ANN", "Done &lt;!channel&gt;"),)


# ---------------------------------------------------------------------------------- charts


def test_a_chart_is_shared_below_the_message(slack: SlackStandIn) -> None:
    """Of the first of a thread, and of no edit."""
    drawn: list[str] = []

    def draw(alert: str) -> bytes:
        drawn.append(alert)
        return b"\x89PNG picture"

    bot = bot_at(slack, draw=draw)
    reference = bot.tell(one(NOTICE))
    bot.tell(one(WORSE, reference=reference))
    (shared,) = slack.files
    (message,) = slack.messages[CHANNEL]
    assert (shared.content, shared.thread) == (b"\x89PNG picture", message.ts)
    assert shared.name == f"{NOTICE.rule}.png"
    assert drawn == [NOTICE.alert]


@pytest.mark.parametrize(
    "method",
    ["files.getUploadURLExternal", "files.completeUploadExternal", "/upload/F00000000"],
)
def test_an_alert_is_told_without_its_chart(slack: SlackStandIn, method: str) -> None:
    """Whatever of the three calls fails: the message is there, and it is told."""
    slack.fail_next(Fault.SERVER_ERROR, 9, method=method)
    reference = bot_at(slack, draw=lambda _: b"png").tell(one(NOTICE))
    assert reference.startswith(CHANNEL)
    assert len(slack.messages[CHANNEL]) == 1
    assert slack.files == ()


# ---------------------------------------------------------------------------------- set up


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    return tmp_path


def set_up(*words: str) -> Any:
    return CliRunner().invoke(app, ["slack", "setup", *words])


def test_without_a_token_the_manifest_is_printed(folder: Path) -> None:
    """With what to do next; alone it is JSON to paste."""
    assert "governor slack setup --send" in set_up().output
    made = json.loads(set_up("--manifest").output)
    assert made["settings"]["socket_mode_enabled"]
    assert "chat:write" in made["oauth_config"]["scopes"]["bot"]
    by_http = json.loads(set_up("--manifest", "--request-url", "https://x.example/slack").output)
    assert not by_http["settings"]["socket_mode_enabled"]
    assert by_http["settings"]["interactivity"]["request_url"] == "https://x.example/slack"


def tokens(monkeypatch: pytest.MonkeyPatch, slack: SlackStandIn, **other: str) -> None:
    given = {
        "BOT_TOKEN": TOKEN,
        "APP_TOKEN": APP_TOKEN,
        "CHANNEL": CHANNEL,
        "BASE_URL": slack.base_url,
    }
    for name, value in (given | other).items():
        monkeypatch.setenv(f"GOVERNOR_SLACK__{name}", value)


def test_all_is_checked_and_tried(
    folder: Path, slack: SlackStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scope that would be nice is said and is no failure; a test is posted where asked for."""
    tokens(monkeypatch, slack)
    done = set_up("--send")
    assert done.exit_code == 0, done.output
    assert "ok     bot token: governor in Stand-in" in done.output
    assert "note   scope groups:history: missing; to look for messages in private" in done.output
    assert "ok     channel C0GOVERNOR: #c0governor, the bot is in it" in done.output
    assert "ok     Socket Mode: a connection is given" in done.output
    assert len(slack.messages[CHANNEL]) == 1


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"BOT_TOKEN": "xoxb-wrong"}, "bot token: Slack at 127.0.0.1 refuses: invalid_auth"),
        ({"CHANNEL": "C0NOWHERE"}, "channel C0NOWHERE: Slack at 127.0.0.1 refuses: channel_not"),
        ({"APP_TOKEN": "xapp-wrong"}, "make an app-level token with connections:write"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    folder: Path,
    slack: SlackStandIn,
    monkeypatch: pytest.MonkeyPatch,
    other: dict[str, str],
    said: str,
) -> None:
    tokens(monkeypatch, slack, **other)
    done = set_up()
    assert isinstance(done.exception, PermanentError)
    assert said in done.output
    assert "wrong" not in str(done.exception)
    assert not any(value in done.output for value in other.values() if value.startswith("x"))


def test_nobody_waits_for_a_chart(slack: SlackStandIn) -> None:
    """It is drawn behind the message, which is told meanwhile; one that fails ends nothing."""
    release, behind = threading.Event(), Behind()

    def draw(alert: str) -> bytes:
        assert release.wait(10)
        if alert == "broken":
            raise KeyError(alert)
        return b"png"

    bot = bot_at(slack, draw=draw, later=behind)
    bot.tell(one(replace(NOTICE, message="m1", alert="broken")))
    reference = bot.tell(one(NOTICE))
    bot.tell(one(WORSE, reference=reference))
    assert len(slack.messages[CHANNEL]) == 2
    assert slack.files == ()
    release.set()
    assert eventually(lambda: len(slack.files) == 1)
