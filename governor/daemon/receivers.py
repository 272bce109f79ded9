"""From settings and `routing.yaml` to receivers, secrets unwrapped for each alone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from governor.actions import email
from governor.actions.log import Log
from governor.actions.pagerduty import PagerDuty
from governor.actions.slack.bot import SlackBot
from governor.actions.slack.webhook import SlackWebhook
from governor.actions.webhook import Webhook
from governor.core.errors import ConfigError
from governor.core.routing import Addressee, Hook, Mail, Pager, SlackChannel
from governor.loops.deliver import Receiver
from governor.settings import Settings


@dataclass(frozen=True, slots=True)
class Files:
    """What can be shared with a message.

    `draw` returns the picture of an alert by its id, or of a report by its message; `page` the page
    of a report; None where there is none. `later` does what nobody is to wait for.
    """

    draw: Callable[[str], bytes | None] = lambda _: None
    page: Callable[[str], str | None] = lambda _: None
    later: Callable[[Callable[[], None]], None] = lambda job: job()


NO_FILES: Final = Files()


def fixed(settings: Settings, files: Files = NO_FILES) -> list[Receiver]:
    """Return those that are there without a routing: the log, and Slack where it is set up."""
    slack = settings.slack
    receivers: list[Receiver] = [Log()]
    if slack.bot_token and slack.channel:
        channel = SlackChannel(name="slack", channel=slack.channel)
        receivers.append(_bot(settings, channel, files))
    elif slack.webhook_url:
        url = slack.webhook_url.get_secret_value()
        timeout_s = slack.timeout.total_seconds()
        receivers.append(SlackWebhook(url=url, timeout_s=timeout_s))
    return receivers


def named(
    settings: Settings, each: Addressee, now: Callable[[], datetime], files: Files = NO_FILES
) -> Receiver:
    """Return a receiver of `routing.yaml`; raise ConfigError where the settings lack something."""
    match each:
        case SlackChannel():
            _needs(each, "slack.bot_token", settings.slack.bot_token)
            return _bot(settings, each, files)
        case Hook():
            return _webhook(settings, each, now)
        case Pager():
            pager = settings.pagerduty
            return PagerDuty(
                name=each.name,
                routing_key=_needs(each, "pagerduty.routing_key", pager.routing_key),
                url=pager.url,
                timeout_s=pager.timeout.total_seconds(),
            )
        case Mail():
            return _mail(settings, each, files)
        case _:
            raise TypeError(each)


def _bot(settings: Settings, each: SlackChannel, files: Files = NO_FILES) -> SlackBot:
    slack = settings.slack
    return SlackBot(
        name=each.name,
        token=slack.bot_token.get_secret_value() if slack.bot_token else "",
        channel=each.channel,
        base_url=slack.base_url,
        timeout_s=slack.timeout.total_seconds(),
        mention=each.mention,
        buttons=bool(slack.app_token or slack.signing_secret),
        draw=files.draw,
        page=files.page,
        later=files.later,
    )


def answering(settings: Settings) -> SlackBot | None:
    """Return what answers presses of buttons; None where there are none."""
    slack = settings.slack
    if not (slack.bot_token and (slack.app_token or slack.signing_secret)):
        return None
    return _bot(settings, SlackChannel(name="slack", channel=slack.channel or ""))


def _webhook(settings: Settings, each: Hook, now: Callable[[], datetime]) -> Webhook:
    hook = settings.webhook
    return Webhook(
        name=each.name,
        url=each.url or _needs(each, "webhook.url", hook.url),
        secret=hook.secret.get_secret_value() if hook.secret else None,
        timeout_s=hook.timeout.total_seconds(),
        now=now,
    )


def _mail(settings: Settings, each: Mail, files: Files) -> email.Mail:
    smtp = settings.smtp
    server = email.Server(
        host=_needs(each, "smtp.host", smtp.host),
        port=smtp.port,
        security=smtp.security,
        username=smtp.username,
        password=smtp.password.get_secret_value() if smtp.password else None,
        sender=smtp.sender,
        timeout_s=smtp.timeout.total_seconds(),
    )
    return email.Mail(name=each.name, server=server, to=each.to, page=files.page)


def _needs(each: Addressee, setting: str, value: SecretStr | str | None) -> str:
    if not value:
        raise ConfigError(f"routing.yaml: receiver {each.name!r} needs {setting} in settings")
    return value.get_secret_value() if isinstance(value, SecretStr) else value
