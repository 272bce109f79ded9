"""The data of an event as applications write it: our names, the names of providers, or both."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from governor.formats.quantities import quantities, whole
from governor.formats.reading import FIELDS, usd

_TEXTS: Final = frozenset(FIELDS[3:23]) | {"reported_cost_usd"}
_COUNTS: Final = frozenset(FIELDS[23:37])
_COSTS: Final = ("cost_usd", "cost", "response_cost")
_ALIASES: Final = {
    "cached_input_tokens": "cache_read_tokens",
    "cached_tokens": "cache_read_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_5m_tokens",
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "user_id": "user",
    "customer_id": "customer",
    "error": "error_type",
}
"""What applications call a field, and what it is; totals are taken as inclusive."""


def payload_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that `data` says something about; the rest is dropped.

    A `usage` object is read as its provider means it. Raise DecodeError where a count is no number.
    """
    usage = data.get("usage")
    fields = quantities(usage) if isinstance(usage, dict | list) else {}
    named = {_ALIASES[key]: key for key in _ALIASES if key in data}
    for name, key in {**named, **{key: key for key in data}}.items():
        if name in _COUNTS:
            count = whole(data, key)
            fields[name] = fields.get(name) if count is None else count
        elif name in _TEXTS and isinstance(data[key], str) and data[key]:
            fields[name] = data[key]
    costs = [data[key] for key in _COSTS if isinstance(data.get(key), Decimal | int)]
    if costs:
        fields.setdefault("reported_cost_usd", usd(costs[0]))
    if isinstance(data.get("tags"), dict):
        fields["tags"] = texts(data["tags"])
    return {name: value for name, value in fields.items() if value is not None}


def texts(tags: Mapping[Any, Any]) -> dict[str, str]:
    """Return tags that are short texts or numbers; what is longer may be anybody's words."""
    return {
        str(name): str(value)
        for name, value in list(tags.items())[:MAX_TAGS]
        if isinstance(value, str | int | bool)
        and 0 < len(str(name)) <= MAX_TAG_CHARACTERS
        and len(str(value)) <= MAX_TAG_CHARACTERS
    }


MAX_TAGS: Final = 32
MAX_TAG_CHARACTERS: Final = 64
