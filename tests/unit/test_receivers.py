"""Webhooks, PagerDuty and mail: what real servers on loopback get, and what their answers mean."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from governor.actions import email, http
from governor.actions.email import Mail, Server
from governor.actions.pagerduty import MAX_SUMMARY, PagerDuty
from governor.actions.webhook import Webhook, signature
from governor.core.errors import ConfigError, PermanentError, TransientError
from governor.core.routing import Hook, Pager, SlackChannel
from governor.core.routing import Mail as MailTo
from governor.core.rules.shared import Level
from governor.daemon.receivers import named
from governor.rulebook import check, load
from governor.settings import Settings
from tests.unit.test_slack import NOTICE, NOW, OVER, WORSE
from tests.unit.told import of, one

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


class Site(ThreadingHTTPServer):
    """Keeps what is posted, and answers as ordered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status = 202
        self.headers: dict[str, str] = {}
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.posts]


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posts.append((headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.shutdown()
    made.server_close()


def hook(site: Site, secret: str | None = SECRET) -> Webhook:
    return Webhook(name="hook", url=site.url, secret=secret, timeout_s=2, now=lambda: NOW)


# ---------------------------------------------------------------------------------- webhooks


def test_a_webhook_is_signed(site: Site) -> None:
    """Anybody with the key can prove who posted it, by id, time and body."""
    hook(site).tell(one(WORSE))
    ((headers, body),) = site.posts
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the reference libraries of Standard Webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_webhook_says_all_of_an_alert(site: Site) -> None:
    """In JSON with names that stay; a try again has the same id, a change another."""
    for notice in (NOTICE, NOTICE, WORSE, OVER):
        hook(site).tell(one(notice))
    first, _, _, last = site.bodies
    assert first["type"] == "governor.alert.firing"
    assert first["data"]["rule"] == NOTICE.rule
    assert first["data"]["group"] == {"feature": "chat"}
    assert (last["type"], last["data"]["resolved"]) == (
        "governor.alert.resolved",
        "the period ended",
    )
    ids = [headers["webhook-id"] for headers, _ in site.posts]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_webhook_without_a_key_is_not_signed(site: Site) -> None:
    hook(site, secret=None).tell(one(NOTICE))
    assert "webhook-signature" not in site.posts[0][0]


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        Webhook(name="hook", url="http://x", secret="whsec_secret!", timeout_s=1, now=lambda: NOW)
    assert "secret!" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait_s"),
    [
        (429, {"Retry-After": "7"}, TransientError, 7.0),
        (429, {}, TransientError, None),
        (503, {}, TransientError, None),
        (408, {}, TransientError, None),
        (400, {}, PermanentError, None),
        (301, {"Location": "http://127.0.0.1:1/"}, PermanentError, None),
    ],
)
def test_answers_are_understood(
    site: Site, status: int, headers: dict[str, str], kind: type, wait_s: float | None
) -> None:
    """What may work later is tried again, and no redirect is followed with the secret in hand."""
    site.status, site.headers = status, headers
    with pytest.raises(kind, match=f"at 127.0.0.1.*HTTP {status}") as raised:
        hook(site).tell(one(NOTICE))
    assert getattr(raised.value, "retry_after_s", None) == wait_s
    assert len(site.posts) == 1


def test_an_address_that_does_not_answer_is_tried_again() -> None:
    """No error shows the path of the address, which may be a secret."""
    nobody = Webhook(
        name="hook", url="http://127.0.0.1:9/s3cret", secret=None, timeout_s=1, now=lambda: NOW
    )
    with pytest.raises(TransientError) as raised:
        nobody.tell(one(NOTICE))
    assert "s3cret" not in str(raised.value) + repr(nobody)


def test_a_bad_address_is_for_a_person() -> None:
    with pytest.raises(PermanentError, match="characters"):
        http.post("it", "http://exa mple/", b"", {}, 1)


# ---------------------------------------------------------------------------------- PagerDuty


def test_an_incident_goes_with_its_alert(site: Site) -> None:
    """Triggered, acknowledged and resolved under one key, with what PagerDuty asks for."""
    pager = PagerDuty(name="p", routing_key="k3y", url=site.url, timeout_s=2)
    seen = replace(WORSE, acked="acknowledged by ann")
    for notice in (NOTICE, WORSE, seen, OVER):
        pager.tell(one(notice))
    bodies = site.bodies
    actions = ["trigger", "trigger", "acknowledge", "resolve"]
    assert [body["event_action"] for body in bodies] == actions
    assert len({body["dedup_key"] for body in bodies}) == 1
    assert {body["routing_key"] for body in bodies} == {"k3y"}
    payload = bodies[1]["payload"]
    assert (payload["severity"], payload["source"]) == ("critical", "governor")
    assert payload["custom_details"]["feature"] == "chat"
    assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    assert "payload" not in bodies[3]
    assert "k3y" not in repr(pager)


def test_an_incident_fits(site: Site) -> None:
    """PagerDuty refuses a longer summary; and an event of more than 512 kB."""
    long = replace(NOTICE, summary="x" * 5_000, why="y" * 100_000, history=("z" * 100,) * 1_000)
    PagerDuty(name="p", routing_key="k", url=site.url, timeout_s=2).tell(one(long))
    assert len(site.bodies[0]["payload"]["summary"]) == MAX_SUMMARY
    assert len(site.posts[0][1]) < 512_000


# ---------------------------------------------------------------------------------- mail


class Post:
    """A mail server's handler that keeps mails, or refuses addresses as ordered."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refusal: str | None = None

    async def handle_RCPT(  # noqa: N802
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    handler = Post()
    controller = Controller(
        handler,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=lambda *_: AuthResult(success=False, handled=False),
        auth_require_tls=False,
    )
    controller.start()
    yield handler, controller.port
    controller.stop()


def mail(port: int, **other: Any) -> Mail:
    given = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "username": None,
        "password": None,
        "sender": "governor@example.com",
        "timeout_s": 5.0,
    }
    return Mail(name="mail", server=Server(**(given | other)), to=("fin@example.com", "b@c.de"))


def text_of(sent: Any) -> str:
    return str(sent.get_payload(decode=True).decode())


def test_mails_of_a_thread_are_one_conversation(post: tuple[Post, int]) -> None:
    """The beginning, a rise and the end; a change in between is no mail."""
    handler, port = post
    sender = mail(port)
    sender.tell(of([NOTICE]))
    sender.tell(of([NOTICE], serial=2))
    sender.tell(of([WORSE], serial=3, rose=True))
    sender.tell(of([OVER], serial=4))
    assert [sent["Subject"] for sent in handler.mails] == [
        "[governor] Warning: free-tier-daily-cap",
        "Re: [governor] Critical: free-tier-daily-cap",
        "Re: [governor] Resolved: free-tier-daily-cap",
    ]
    first, *others = handler.mails
    assert first["To"] == "fin@example.com, b@c.de"
    assert {sent["In-Reply-To"] for sent in others} == {first["Message-ID"]}
    assert len({sent["Message-ID"] for sent in handler.mails}) == 3
    assert "320.00 USD of 400.00 USD (80%)" in text_of(first)
    assert "over: the period ended" in text_of(handler.mails[2])


def test_a_report_has_its_page_with_it(post: tuple[Post, int]) -> None:
    """By mail as an attachment, under the name of its period."""
    handler, port = post
    report = replace(NOTICE, kind="report", title="Daily report", resolved="", rule="report-daily")
    sender = Mail(
        name="mail",
        server=mail(port)._server,  # noqa: SLF001
        to=("fin@example.com",),
        page=lambda message: f"<p>{message}</p>",
    )
    sender.tell(of([report]))
    text, page = handler.mails[0].get_payload()
    assert handler.mails[0]["Subject"] == "[governor] Daily report"
    assert NOTICE.summary in text.get_payload(decode=True).decode()
    assert page.get_filename() == "report-daily-2026-11-24 (day).html"
    assert page.get_payload(decode=True).decode().strip() == f"<p>{NOTICE.message}</p>"


def test_a_line_in_a_name_makes_no_header(post: tuple[Post, int]) -> None:
    """Nobody writes headers or a second mail by the name of a customer or a rule."""
    handler, port = post
    name = "x\r\nBcc: evil@example.com\r\n\r\nhello"
    mail(port).tell(of([replace(NOTICE, title=name, group=(("customer", name),))]))
    (sent,) = handler.mails
    assert sent["Bcc"] is None
    assert sent["To"] == "fin@example.com, b@c.de"


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [("550 no such user", PermanentError), ("450 try later", TransientError)],
)
def test_what_a_mail_server_refuses(post: tuple[Post, int], refusal: str, kind: type) -> None:
    handler, port = post
    handler.refusal = refusal
    with pytest.raises(kind, match=r"mail server 127\.0\.0\.1"):
        mail(port).tell(of([NOTICE]))


def test_a_login_that_is_refused_is_not_shown(post: tuple[Post, int]) -> None:
    _, port = post
    with pytest.raises(PermanentError, match="refuses the login") as raised:
        mail(port, username="ann", password="s3cret").tell(of([NOTICE]))
    assert "s3cret" not in repr(raised.value)
    assert "s3cret" not in repr(mail(port, username="ann", password="s3cret"))
    assert raised.value.__context__ is None


def test_a_mail_server_that_is_away_or_plain() -> None:
    """Away is for later; one that cannot encrypt where that is asked for is for a person."""
    with pytest.raises(TransientError):
        mail(9).tell(of([NOTICE]))


def test_encryption_that_is_not_there_is_not_done_without(post: tuple[Post, int]) -> None:
    _, port = post
    with pytest.raises(PermanentError, match=r"smtp\.security"):
        mail(port, security="starttls").tell(of([NOTICE]))
    assert post[0].mails == []


# ---------------------------------------------------------------------------------- routing.yaml

RULES = """
version: 1
rules:
  - {id: cap, kind: budget, owner: growth, summary: "{{ value }}", where: all, limit: 10 USD,
     period: day, thresholds: [{at: 100%, level: critical}]}
"""
ROUTING = """\
version: 1
receivers:
  chat: {slack: {channel: C0123ABCD, mention: {critical: "<!here>"}}, fallback: mail}
  hook: {webhook: {url: "https://example.com/hook"}}
  night: {pagerduty: {}}
  mail: {email: {to: [fin@example.com]}}
routes:
  - to: [chat, hook]
    escalate: [{after: 30m, to: [night]}]
fallback: mail
heartbeat: {to: [hook], every: 5m}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Callable[[str], Path]:
    def written(routing: str) -> Path:
        (tmp_path / "a.yaml").write_text(RULES)
        (tmp_path / "routing.yaml").write_text(routing)
        return tmp_path

    return written


def test_receivers_are_read(rules: Callable[[str], Path]) -> None:
    routing = load(rules(ROUTING)).routing
    assert routing.receivers == (
        SlackChannel(
            name="chat", fallback="mail", channel="C0123ABCD", mention={Level.CRITICAL: "<!here>"}
        ),
        Hook(name="hook", url="https://example.com/hook"),
        Pager(name="night"),
        MailTo(name="mail", to=("fin@example.com",)),
    )
    assert routing.later_for({}, Level.CRITICAL) == (("night", 1_800),)
    assert routing.later_for({}, Level.WARNING) == ()
    assert [routing.fallback_of(name) for name in ("chat", "slack", "mail")] == [
        "mail",
        "mail",
        None,
    ]
    assert routing.heartbeat is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"<!here>"', "here", "must be <!here>, <!chan"),
        ("fallback: mail}", "fallback: chat}", "fallback='chat': is the receiver itself; name"),
        ("fallback: mail}", "fallback: mial}", "unknown receiver (did you mean 'mail'?)"),
        ("night: {pagerduty: {}}", "night: {pagerduty: {key: x}}", "unknown key 'key'"),
        ("night: {pagerduty: {}}", "night: {pager: {}}", "unknown key 'pager' (did you mean"),
        ("to: [fin@example.com]", "to: [fin]", "must be a mail address, such as"),
        ("{email: {to: [fin@example.com]}}", "{email: {}}", "email needs to, such as"),
        ("{after: 30m,", "{", "an escalation needs after, such as 30m"),
        ("to: [night]", "to: [nigt]", "to='nigt': unknown receiver (did you mean 'night'?)"),
        ("to: [hook], every", "to: [hok], every", "to='hok': unknown receiver"),
        ("fallback: mail\n", "fallback: male\n", "fallback='male': unknown receiver"),
        ("{pagerduty: {}}", "{pagerduty: {}, webhook: {}}", "is webhook or pagerduty; make a"),
    ],
)
def test_what_is_wrong_with_receivers(
    rules: Callable[[str], Path], old: str, new: str, message: str
) -> None:
    assert ROUTING.count(old) == 1
    problems = check([rules(ROUTING.replace(old, new))]).problems
    assert any(message in str(problem) for problem in problems), problems


@pytest.mark.parametrize(
    ("each", "setting"),
    [
        (SlackChannel(name="x", channel="C0123"), "slack.bot_token"),
        (Hook(name="x"), "webhook.url"),
        (Pager(name="x"), "pagerduty.routing_key"),
        (MailTo(name="x", to=("a@b.c",)), "smtp.host"),
    ],
)
def test_what_the_settings_lack_is_named(each: Any, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"receiver 'x' needs {setting}"):
        named(Settings(), each, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def test_receivers_are_made_of_settings() -> None:
    """With secrets unwrapped for them alone."""
    settings = Settings(
        webhook={"url": "https://example.com/x", "secret": SECRET},
        pagerduty={"routing_key": "k"},
        smtp={"host": "mail.example.com"},
        slack={"bot_token": "xoxb-1", "channel": "C0123"},
    )
    wanted = (Hook(name="a"), Pager(name="b"), MailTo(name="c", to=("a@b.c",)))
    made = [named(settings, each, lambda: NOW) for each in wanted]
    assert [receiver.name for receiver in made] == ["a", "b", "c"]
    assert isinstance(made[2], email.Mail)
    assert "xoxb" not in repr(made)
