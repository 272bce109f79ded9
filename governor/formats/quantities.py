"""Usage objects of providers, as their APIs return them, to the quantities of an event.

Sources: the types of the Python packages openai 2.54 and anthropic 2.12; Google's and Amazon's
references of `usageMetadata` and of `TokenUsage` (Converse). Ours are inclusive totals, so:

- OpenAI: inclusive already.
- Anthropic: `input_tokens` is without what was read from and written to a cache; added up here.
  `iterations` of the kind `compaction` are in no total; added up here.
- Google: `candidatesTokenCount` is without thoughts; added up here.
- Amazon: as Anthropic.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from governor.core.errors import DecodeError
from governor.core.usage import Reason

MAX_DIGITS: Final = 11
"""Of a count that is written in quotes, or as a fraction that is none."""
_LIMIT: Final = 10**MAX_DIGITS
_ANTHROPIC: Final = frozenset(
    {"cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use"}
)


def quantities(usage: Any) -> dict[str, Any]:
    """Return the quantities of a usage object, and `service_tier` where it says so.

    Raise DecodeError where it is none, or a count is no whole number.
    """
    if isinstance(usage, list):
        usage = _last(usage)
    if not isinstance(usage, dict):
        raise DecodeError(Reason.INVALID, f"usage is {_kind(usage)}, not an object")
    if "promptTokenCount" in usage:
        return _google(usage)
    if "inputTokens" in usage:
        return _amazon(usage)
    if "prompt_tokens" not in usage and not _ANTHROPIC.isdisjoint(usage):
        return _anthropic(usage)
    return _openai(usage)


def _openai(usage: Mapping[str, Any]) -> dict[str, Any]:
    inputs = _object(usage, "prompt_tokens_details", "input_tokens_details")
    outputs = _object(usage, "completion_tokens_details", "output_tokens_details")
    writes = _object(usage, "cache_creation") or _object(inputs, "cache_creation_token_details")
    written = _first(usage, inputs, "cache_creation_input_tokens", "cache_write_tokens")
    if written is None:
        written = whole(inputs, "cache_creation_tokens")
    hour = whole(writes, "ephemeral_1h_input_tokens")
    return {
        "input_tokens": _first(usage, usage, "prompt_tokens", "input_tokens"),
        "cache_read_tokens": _first(inputs, usage, "cached_tokens", "cache_read_input_tokens"),
        "cache_write_5m_tokens": written if written is None else max(0, written - (hour or 0)),
        "cache_write_1h_tokens": hour,
        "input_audio_tokens": whole(inputs, "audio_tokens"),
        "input_image_tokens": whole(inputs, "image_tokens"),
        "output_tokens": _first(usage, usage, "completion_tokens", "output_tokens"),
        "reasoning_tokens": _first(outputs, outputs, "reasoning_tokens", "thinking_tokens"),
        "output_audio_tokens": whole(outputs, "audio_tokens"),
        **_searches(usage),
        **_tier(usage),
    }


def _anthropic(usage: Mapping[str, Any]) -> dict[str, Any]:
    parts = [usage, *_compactions(usage)]
    fresh, read, written, output = (
        _sum(parts, name)
        for name in (
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
        )
    )
    hours = [whole(_object(part, "cache_creation"), "ephemeral_1h_input_tokens") for part in parts]
    hour = sum(filter(None, hours)) if written else None
    return {
        "input_tokens": None if fresh is None else fresh + (read or 0) + (written or 0),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": written if written is None else max(0, written - (hour or 0)),
        "cache_write_1h_tokens": hour,
        "output_tokens": output,
        "reasoning_tokens": whole(_object(usage, "output_tokens_details"), "thinking_tokens"),
        **_searches(usage),
        **_tier(usage),
    }


def _compactions(usage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    iterations = usage.get("iterations")
    if not isinstance(iterations, list):
        return []
    return [i for i in iterations if isinstance(i, dict) and i.get("type") == "compaction"]


def _google(usage: Mapping[str, Any]) -> dict[str, Any]:
    prompt, tools = whole(usage, "promptTokenCount"), whole(usage, "toolUsePromptTokenCount")
    answer, thoughts = whole(usage, "candidatesTokenCount"), whole(usage, "thoughtsTokenCount")
    return {
        "input_tokens": None if prompt is None else prompt + (tools or 0),
        "cache_read_tokens": whole(usage, "cachedContentTokenCount"),
        "output_tokens": None if answer is None and thoughts is None else _add(answer, thoughts),
        "reasoning_tokens": thoughts,
        "input_audio_tokens": _of_modality(usage, "promptTokensDetails", "AUDIO"),
        "output_audio_tokens": _of_modality(usage, "candidatesTokensDetails", "AUDIO"),
    }


def _of_modality(usage: Mapping[str, Any], key: str, modality: str) -> int | None:
    details = usage.get(key)
    for part in details if isinstance(details, list) else ():
        if isinstance(part, dict) and part.get("modality") == modality:
            return whole(part, "tokenCount")
    return None


def _amazon(usage: Mapping[str, Any]) -> dict[str, Any]:
    fresh = whole(usage, "inputTokens")
    read, written = whole(usage, "cacheReadInputTokens"), whole(usage, "cacheWriteInputTokens")
    return {
        "input_tokens": _add(_add(fresh, read), written),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": written,
        "output_tokens": whole(usage, "outputTokens"),
    }


def _last(chunks: Sequence[Any]) -> dict[str, Any]:
    """Return the usage of a stream: counts are cumulative, so the last of each name holds."""
    total: dict[str, Any] = {}
    for chunk in chunks:
        message = chunk.get("message") if isinstance(chunk, dict) else None
        for part in (message, chunk):
            usage = part.get("usage") if isinstance(part, dict) else None
            if isinstance(usage, dict):
                total |= {name: value for name, value in usage.items() if value is not None}
    return total


def _searches(usage: Mapping[str, Any]) -> dict[str, Any]:
    made = whole(_object(usage, "server_tool_use"), "web_search_requests")
    return {} if made is None else {"web_searches": made}


def _tier(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tier that was served; `speed: fast` is a price of its own at Anthropic."""
    if usage.get("speed") == "fast":
        return {"service_tier": "fast"}
    tier = usage.get("service_tier")
    return {"service_tier": tier} if isinstance(tier, str) and tier else {}


def _object(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(found := usage.get(name), dict):
            return found
    return {}


def _first(one: Mapping[str, Any], other: Mapping[str, Any], name: str, alias: str) -> int | None:
    found = whole(one, name)
    return whole(other, alias) if found is None else found


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> int | None:
    found = [count for part in parts if (count := whole(part, name)) is not None]
    return sum(found) if found else None


def _add(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


def whole(usage: Mapping[str, Any], name: str) -> int | None:
    """Return a count; raise DecodeError where it is no whole number. Digits in quotes are one."""
    count = usage.get(name)
    if count is None or (isinstance(count, int) and not isinstance(count, bool)):
        return count
    if isinstance(count, float | Decimal) and -_LIMIT < count < _LIMIT and count % 1 == 0:
        return int(count)
    if isinstance(count, str) and count.isascii() and count.isdigit() and len(count) <= MAX_DIGITS:
        return int(count)
    raise DecodeError(Reason.INVALID, f"{name} is {_kind(count)}, not a whole number")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a fraction" if isinstance(value, float | Decimal) else "null")
