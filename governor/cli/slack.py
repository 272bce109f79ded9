"""`governor slack`: the app in Slack, made and checked."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer

from governor import rulebook
from governor.actions.slack import setup as looking
from governor.actions.slack.connection import Client
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import PermanentError
from governor.core.routing import SlackChannel
from governor.settings import Settings, load

app: Final = typer.Typer(no_args_is_help=True, help="Set up the app in Slack.")

_NEXT: Final = """
1. On https://api.slack.com/apps choose "Create New App", "From a manifest", and paste the above.
2. Install it to the workspace, and put its bot token (xoxb-...) into the file
   governor_slack__bot_token of the secrets directory, or into GOVERNOR_SLACK__BOT_TOKEN.
3. For buttons: make an app-level token with connections:write (xapp-...), and put it into
   governor_slack__app_token or GOVERNOR_SLACK__APP_TOKEN.
4. /invite @governor in the channel, and set slack.channel to its id.
5. governor slack setup --send
"""


@app.callback()
def _slack() -> None:
    """Set up the app in Slack."""


@app.command()
def setup(
    config: ConfigFile = None,
    as_json: AsJson = False,
    send: Annotated[bool, typer.Option("--send", help="Post a test to each channel.")] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Print the manifest alone, to paste.")
    ] = False,
    request_url: Annotated[
        str | None,
        typer.Option(help="Where Slack posts presses of buttons; without it: Socket Mode."),
    ] = None,
) -> None:
    """Print the manifest of the app, or where there is a token check it, its scopes and channels.

    For example:

      governor slack setup

      governor slack setup --send

      governor slack setup --manifest | pbcopy
    """
    settings = load(config).settings
    made = looking.manifest(request_url)
    token = settings.slack.bot_token
    if manifest or token is None:
        typer.echo(json.dumps(made, indent=2))
        if not manifest and not as_json:
            typer.echo(_NEXT)
        return
    found = list(
        looking.checks(
            _client(settings, token.get_secret_value()),
            _channels(settings),
            _app_client(settings),
            send=send,
        )
    )
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in found]))
    else:
        for check in found:
            advice = f"; {check.advice}" if check.advice else ""
            mark = "ok   " if check.right else "wrong" if check.needed else "note "
            typer.echo(f"{mark}  {check.what}: {check.found}{advice}")
    wrong = [check for check in found if check.needed and not check.right]
    if wrong:
        raise PermanentError(f"{len(wrong)} of {len(found)} checks of Slack failed")


def _channels(settings: Settings) -> list[str]:
    path = settings.rules.path
    receivers = rulebook.load(path).routing.receivers if path.exists() else ()
    named = [each.channel for each in receivers if isinstance(each, SlackChannel)]
    return list(dict.fromkeys([*filter(None, [settings.slack.channel]), *named]))


def _app_client(settings: Settings) -> Client | None:
    token = settings.slack.app_token
    return _client(settings, token.get_secret_value()) if token else None


def _client(settings: Settings, token: str) -> Client:
    slack = settings.slack
    return Client(token=token, base_url=slack.base_url, timeout_s=slack.timeout.total_seconds())
