"""Which format a record is in, told from its headers and its first keys; for topics with many."""

from collections.abc import Mapping
from typing import Final

import msgspec

from governor.core.usage import Record

_ABSENT: Final = msgspec.Raw()
_CAMEL: Final = frozenset({"resource_spans", "resource_logs", "resource_metrics", "start_time"})


def _renamed(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest) if name in _CAMEL else name


class _Keys(msgspec.Struct, rename=_renamed):
    """The keys that tell the formats apart; msgspec skips what they hold."""

    resource_spans: msgspec.Raw = _ABSENT
    resource_logs: msgspec.Raw = _ABSENT
    resource_metrics: msgspec.Raw = _ABSENT
    specversion: msgspec.Raw = _ABSENT
    event_id: msgspec.Raw = _ABSENT
    event_time: msgspec.Raw = _ABSENT
    response: msgspec.Raw = _ABSENT
    usage: msgspec.Raw = _ABSENT
    litellm_call_id: msgspec.Raw = _ABSENT
    call_type: msgspec.Raw = _ABSENT
    custom_llm_provider: msgspec.Raw = _ABSENT
    start_time: msgspec.Raw = _ABSENT
    subject: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT


_keys: Final = msgspec.json.Decoder(_Keys)
_CLOUDEVENTS: Final = b"application/cloudevents"


def format_of(record: Record) -> str:
    """Return the format of a record; `native` where nothing tells, so that its reject says why."""
    value = record.value
    if value is None:
        return "native"
    headers = {name.lower(): text for name, text in record.headers or ()}
    if "ce_specversion" in headers or headers.get("content-type", b"").startswith(_CLOUDEVENTS):
        return "cloudevents"
    start = value.lstrip()[:1]
    if start == b"[":
        return "litellm"
    if start != b"{":
        return "otlp_proto" if value[:1] == b"\n" else "native"
    try:
        line = value.partition(b"\n{")[0] if b"\n{" in value else value
        keys = _keys.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "native"
    return next((name for name, told in _TOLD.items() if _holds(keys, told)), "native")


_TOLD: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "otlp_json": (("resource_spans",), ("resource_logs",), ("resource_metrics",)),
    "cloudevents": (("specversion",),),
    "litellm": (("litellm_call_id",), ("call_type",), ("custom_llm_provider", "start_time")),
    "native": (("event_id", "event_time"),),
    "openmeter": (("subject", "data"),),
    "provider": (("response",), ("usage",)),
}
"""Keys that a format has, in the order of asking: any of the groups, all keys of it."""


def _holds(keys: _Keys, told: tuple[tuple[str, ...], ...]) -> bool:
    return any(all(getattr(keys, name) is not _ABSENT for name in group) for group in told)
