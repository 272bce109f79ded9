"""Mail by SMTP: one when something begins, gets worse, is repeated, and when all of it is over."""

import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

import structlog

from governor.actions import words
from governor.core.bulletins import Bulletin
from governor.core.errors import GovernorError, PermanentError, TransientError

MAX_SUBJECT: Final = 200
PERMANENT: Final = 500
"""SMTP codes from here on say that trying again is of no use."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach the mail server; `security` is `starttls`, `tls` or `none`."""

    host: str
    port: int
    security: str
    username: str | None
    password: str | None
    sender: str
    timeout_s: float

    def __repr__(self) -> str:
        return f"Server({self.host}:{self.port}, {self.security})"


class Mail:
    """Sends mails of a thread so that readers of mail show them as one."""

    def __init__(
        self,
        *,
        name: str,
        server: Server,
        to: tuple[str, ...],
        page: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.name: Final = name
        self.apart: Final = False
        self._server = server
        self._to = to
        self._page = page

    def __repr__(self) -> str:
        return f"Mail({self._server!r})"

    def tell(self, bulletin: Bulletin) -> str:
        """Send a mail where there is something that people should notice."""
        first = f"<{bulletin.thread}.1@governor>"
        noticed = bulletin.is_first or bulletin.rose or bulletin.repeats or not bulletin.open
        if noticed:
            self.send(self._mail(bulletin, first))
        return first

    def send(self, mail: EmailMessage) -> None:
        """Send one mail to all addresses; raise as `tell` of a receiver does."""
        try:
            with _session(self._server) as session:
                refused = session.send_message(mail)
        except smtplib.SMTPException as error:
            failure = _failure(self._server, error)
        except OSError as error:
            said = error.strerror or type(error).__name__
            failure = TransientError(f"the mail server {self._server.host}: {said}")
        else:
            if refused:  # the others have it; telling them again and again would be worse
                _log.error("mail.refused", receiver=self.name, addresses=len(refused))
            return
        raise failure

    def _mail(self, bulletin: Bulletin, first: str) -> EmailMessage:
        mail = EmailMessage()
        subject = f"{'Re: ' if not bulletin.is_first else ''}[governor] {words.heading(bulletin)}"
        mail["Subject"] = subject[:MAX_SUBJECT]
        mail["From"] = self._server.sender
        mail["To"] = ", ".join(self._to)
        mail["Message-ID"] = f"<{bulletin.thread}.{bulletin.serial}@governor>"
        if not bulletin.is_first:
            mail["In-Reply-To"] = mail["References"] = first
        mail.set_content(_body(bulletin))
        notice = bulletin.notices[0]
        page = self._page(notice.message) if notice.kind == "report" else None
        if page is not None:
            name = f"{notice.rule}-{notice.period}.html"
            mail.add_attachment(page, subtype="html", filename=name)
        return mail


def _body(bulletin: Bulletin) -> str:
    worst = bulletin.notices[0]
    if worst.kind == "report":
        return "\n".join([worst.summary, "", worst.why or "", ""])
    lines = [words.heading(bulletin), ""]
    if changed := words.changes(bulletin):
        lines += ["What changed:", *changed, ""]
    lines += words.standing(bulletin)
    if worst.why:
        lines += ["", f"{words.group(worst)}: {worst.why}"]
    if worst.runbook:
        lines += ["", f"Runbook: {worst.runbook}"]
    lines += ["", f"governor alerts show {worst.alert}"]
    return "\n".join(lines) + "\n"


@contextmanager
def _session(server: Server) -> Iterator[smtplib.SMTP]:
    if server.security == "tls":
        context = ssl.create_default_context()
        session: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=server.timeout_s, context=context
        )
    else:
        session = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
    with session:
        if server.security == "starttls":
            session.starttls(context=ssl.create_default_context())
        if server.username is not None and server.password is not None:
            session.login(server.username, server.password)
        yield session


def _failure(server: Server, error: smtplib.SMTPException) -> GovernorError:
    """Say what went wrong in our words: what the server says may hold what we said to it."""
    place = f"the mail server {server.host}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return PermanentError(f"{place} refuses the login; check smtp.username and smtp.password")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        if all(code >= PERMANENT for code in codes):
            return PermanentError(f"{place} refuses all addresses; check the receiver's `to`")
        return TransientError(f"{place} does not take the addresses now")
    if isinstance(error, smtplib.SMTPResponseException):
        code = error.smtp_code
        kind = PermanentError if code >= PERMANENT else TransientError
        return kind(f"{place} answers {code}")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return PermanentError(f"{place} has no {server.security}; see smtp.security")
    return TransientError(f"{place}: {type(error).__name__}")
