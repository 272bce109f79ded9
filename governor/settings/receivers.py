"""Settings of those who are told: Slack, a webhook, PagerDuty, mail."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from governor.settings.group import CONFLICT, Group, Line, Secret
from governor.settings.values import Duration, Whole, is_loopback

SmtpSecurity = Literal["starttls", "tls", "none"]


class Slack(Group):
    """Who hears of alerts in Slack: a bot that edits its messages, or a plain webhook."""

    bot_token: Secret | None = Field(
        None, description="Token of the bot (`xoxb-...`); with it messages are edited in place."
    )
    channel: Line | None = Field(None, description="Id of the channel to post to, `C0123ABCD`.")
    webhook_url: Secret | None = Field(
        None, description="Incoming webhook, instead of a bot; each change is a message of its own."
    )
    app_token: Secret | None = Field(
        None, description="App-level token (`xapp-...`); with it buttons work by Socket Mode."
    )
    signing_secret: Secret | None = Field(
        None,
        description="Signing secret of the app; with it buttons work by HTTP instead.",
    )
    interactions_host: Line = Field(
        "127.0.0.1", description="Address to listen on for what Slack posts, by way of a proxy."
    )
    interactions_port: Annotated[int, Whole(0, 65_535, 9468)] = Field(
        9468, description="Port to listen on for it; 0 takes any free port."
    )
    base_url: Line = Field(
        "https://slack.com/api/", description="Where Slack's Web API is; another for tests."
    )
    timeout: Annotated[timedelta, Duration("1s", "2m", "10s")] = Field(
        timedelta(seconds=10), description="How long to wait for Slack's answer."
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        conflicts = []
        if self.bot_token and self.webhook_url:
            conflicts.append(("webhook_url", "and slack.bot_token exclude each other; keep one"))
        if self.bot_token and not self.channel:
            conflicts.append(("bot_token", "needs slack.channel, such as C0123ABCD"))
        conflicts += [
            (name, "needs slack.bot_token: a webhook has no buttons")
            for name in ("app_token", "signing_secret")
            if getattr(self, name) and not self.bot_token
        ]
        if self.app_token and self.signing_secret:
            conflicts.append(("signing_secret", "and slack.app_token exclude each other; keep one"))
        if self.channel and not self.bot_token:
            conflicts.append(("channel", "needs slack.bot_token; a webhook has its own"))
        if conflicts:
            text = "; ".join(f"slack.{name} {message}" for name, message in conflicts)
            raise PydanticCustomError(CONFLICT, "{text}", {"text": text, "conflicts": conflicts})
        return self


class Webhook(Group):
    """Where receivers of kind `webhook` post to, and how what they post is signed."""

    url: Secret | None = Field(
        None, description="Address to post to; a receiver may name another of its own."
    )
    secret: Secret | None = Field(
        None, description="Key of the signature (Standard Webhooks): `whsec_` and base64."
    )
    timeout: Annotated[timedelta, Duration("1s", "2m", "10s")] = Field(
        timedelta(seconds=10), description="How long to wait for an answer."
    )


class PagerDuty(Group):
    """The service that receivers of kind `pagerduty` raise incidents in."""

    routing_key: Secret | None = Field(
        None, description="Integration key of the service, of an Events API v2 integration."
    )
    url: Line = Field(
        "https://events.pagerduty.com/v2/enqueue", description="Where the Events API v2 is."
    )
    timeout: Annotated[timedelta, Duration("1s", "2m", "10s")] = Field(
        timedelta(seconds=10), description="How long to wait for an answer."
    )


class Smtp(Group):
    """The mail server that receivers of kind `email` send by."""

    host: Line | None = Field(None, description="Name of the mail server.")
    port: Annotated[int, Whole(1, 65_535, 587)] = Field(587, description="Its port.")
    security: SmtpSecurity = Field(
        "starttls", description="How the connection is encrypted; `none` for a local relay only."
    )
    username: Line | None = Field(None, description="User name, where it asks for one.")
    password: Secret | None = Field(None, description="Password, likewise.")
    sender: Line = Field("governor@localhost", description="Address that mails are from.")
    timeout: Annotated[timedelta, Duration("1s", "2m", "20s")] = Field(
        timedelta(seconds=20), description="How long to wait for an answer."
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.host and self.security == "none" and not is_loopback(f"{self.host}:{self.port}"):
            message = f"is not encrypted, and {self.host} is another machine; use starttls or tls"
            conflicts = [("security", message)]
            text = f"smtp.security {message}"
            raise PydanticCustomError(CONFLICT, "{text}", {"text": text, "conflicts": conflicts})
        return self
