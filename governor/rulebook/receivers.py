"""`receivers` of `routing.yaml`: who can be told, beside Slack and the log of the settings."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from governor.core.routing import LOG, Addressee, Hook, Mail, Pager, SlackChannel
from governor.core.rules.shared import Level
from governor.documents import Node
from governor.documents.sections import Section, listed, suggestion
from governor.documents.texts import identifier, url

BUILT_IN: Final = (LOG, "slack", "webhook")
KINDS: Final = ("slack", "webhook", "pagerduty", "email")
MAX_ADDRESSES: Final = 50

_CHANNEL: Final = re.compile(r"[CGD][A-Z0-9]{4,20}")
_MENTION: Final = re.compile(r"<(!here|!channel|@[UW][A-Z0-9]{4,20}|!subteam\^S[A-Z0-9]{4,20})>")
_ADDRESS: Final = re.compile(r"[^@\s<>,;]{1,64}@[A-Za-z0-9.-]{1,190}")
_LEVELS: Final = {str(level): level for level in Level}


def read_receivers(top: Section) -> tuple[Addressee, ...]:
    """Return the receivers of a routing file."""
    entry = top.entries.get("receivers")
    if entry is None:
        return ()
    report, named = top.report, entry.node.value
    if not isinstance(named, dict) or not named:
        report.add(
            entry, "receivers must be a mapping, such as {growth: {slack: {channel: C0123}}}"
        )
        return ()
    found = []
    for name, each in named.items():
        report.read("receiver", Node(name, each.line, each.column), _name, "")
        section = Section(f"receiver {name!r}", each.node, (*KINDS, "fallback"), report)
        fallback = section.take("fallback", _fallback(name, list(named)), None)
        kinds = [kind for kind in KINDS if kind in section.entries]
        if not kinds:
            section.needs("slack", "{channel: C0123ABCD}")
            continue
        if len(kinds) > 1:
            report.add(each, f"receiver {name!r} is {listed(kinds)}; make a receiver of each")
        inner = Section(kinds[0], section.entries[kinds[0]].node, _KEYS[kinds[0]], report)
        found.append(_READ[kinds[0]](name, fallback, inner))
    return tuple(found)


def _slack(name: str, fallback: str | None, section: Section) -> Addressee:
    entry = section.entries.get("mention")
    mention: Mapping[Level, str] = {}
    if entry is not None:
        levels = Section("mention", entry.node, tuple(_LEVELS), section.report)
        said = {level: levels.take(word, _mention, "") for word, level in _LEVELS.items()}
        mention = {level: text for level, text in said.items() if text}
    channel = section.take("channel", _channel, "", "C0123ABCD")
    return SlackChannel(
        name=name, fallback=fallback, channel=channel, mention=MappingProxyType(mention)
    )


def _webhook(name: str, fallback: str | None, section: Section) -> Addressee:
    return Hook(name=name, fallback=fallback, url=section.take("url", url, None))


def _pagerduty(name: str, fallback: str | None, section: Section) -> Addressee:  # noqa: ARG001
    return Pager(name=name, fallback=fallback)


def _email(name: str, fallback: str | None, section: Section) -> Addressee:
    entry = section.entries.get("to")
    if entry is None:
        section.needs("to", "[finance@example.com]")
    items = section.report.items("to", entry.node) if entry else []
    if entry and len(items) > MAX_ADDRESSES:
        section.report.add(
            entry, f"to has more than {MAX_ADDRESSES} addresses; use a list of yours"
        )
    to = tuple(section.report.read("to", item, _address, "") for item in items[:MAX_ADDRESSES])
    return Mail(name=name, fallback=fallback, to=to)


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "slack": ("channel", "mention"),
    "webhook": ("url",),
    "pagerduty": (),
    "email": ("to",),
}
_READ: Final[Mapping[str, Callable[[str, str | None, Section], Addressee]]] = {
    "slack": _slack,
    "webhook": _webhook,
    "pagerduty": _pagerduty,
    "email": _email,
}


def _name(text: str) -> str:
    if text in BUILT_IN:
        raise ValueError(f"is always there; {listed(BUILT_IN)} need no entry")
    return identifier(text)


def _fallback(name: str, others: list[str]) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        known = [*BUILT_IN, *others]
        if text == name:
            raise ValueError("is the receiver itself; name another")
        if text not in known:
            raise ValueError(f"unknown receiver{suggestion(text, known)}")
        return text

    return read


def _channel(text: str) -> str:
    if not _CHANNEL.fullmatch(text):
        raise ValueError("must be the id of a channel, such as C0123ABCD, and not its name")
    return text


def _mention(text: str) -> str:
    if not _MENTION.fullmatch(text):
        raise ValueError("must be <!here>, <!channel>, <@U0123ABCD> or <!subteam^S0123ABCD>")
    return text


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("must be a mail address, such as finance@example.com")
    return text
