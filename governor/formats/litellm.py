"""LiteLLM's StandardLoggingPayload: an object, an array of them, or one a line.

Read by the type in the package litellm 1.106 (`types/utils.py`). Messages, responses, addresses and
e-mail are dropped. An answer out of LiteLLM's own cache (`cache_hit`) cost nobody anything, so its
counts are zero.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from governor.core.errors import DecodeError
from governor.core.usage import DIMENSIONS, QUANTITIES, Reason
from governor.formats.paths import finders
from governor.formats.payloads import texts
from governor.formats.quantities import quantities, whole
from governor.formats.reading import (
    UNKNOWN_PROVIDER,
    Decode,
    Fields,
    Found,
    decoding,
    instant,
    usd,
)

_Object = dict[str, Any] | None


class _Payload(msgspec.Struct, rename={"started": "startTime", "ended": "endTime"}):
    """What is read of a payload; msgspec skips the rest."""

    model: str
    id: str | None = None
    litellm_call_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    call_type: str | None = None
    custom_llm_provider: str | None = None
    model_group: str | None = None
    started: float | str | None = None
    ended: float | str | None = None
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    response_cost: Decimal | None = None
    cost: Decimal | None = None
    status: str | None = None
    cache_hit: bool | str | None = None
    end_user: str | None = None
    request_tags: list[Any] | None = None
    metadata: _Object = None
    hidden_params: _Object = None
    cost_breakdown: _Object = None
    error_information: _Object = None
    usage: _Object = None


_payload: Final = msgspec.json.Decoder(_Payload)
_raw: Final = msgspec.json.Decoder(list[msgspec.Raw])
_json: Final = msgspec.json.Decoder()
_OPERATIONS: Final = {"completion": "chat", "embedding": "embeddings", "responses": "chat"}


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` are paths from the payload: `$.metadata.requester.team`."""
    found_at = finders(fields)

    def read(value: bytes, found: Found) -> None:
        for number, payload in enumerate(_payloads(value), 1):
            what = f"payload {number}: " if number > 1 else ""
            try:
                known = _event(_payload.decode(payload))
                if found_at:
                    document = _json.decode(payload)
                    mapped = {name: find(document) for name, find in found_at.items()}
                    known |= {name: value for name, value in mapped.items() if value is not None}
            except DecodeError as error:
                found.refuse(Reason(error.reason), f"{what}{error}")
            except msgspec.ValidationError as error:
                found.refuse(Reason.INVALID, f"{what}{error}")
            else:
                found.add(known, what)

    return decoding(read)


def _payloads(value: bytes) -> Iterator[bytes | msgspec.Raw]:
    start = value.lstrip()[:1]
    if start == b"[":
        yield from _raw.decode(value)
    elif b"\n{" in value.strip():
        for line in value.splitlines():
            if line.strip():
                yield line
    else:
        yield value


def _event(payload: _Payload) -> dict[str, Any]:
    metadata = payload.metadata or {}
    began, ended = _time(payload.started), _time(payload.ended)
    if ended is None and began is None:
        raise DecodeError(Reason.INVALID, "the payload has neither endTime nor startTime")
    failed = payload.status == "failure"
    error = (payload.error_information or {}).get("error_class")
    return {
        "event_id": payload.litellm_call_id or payload.id,
        "source": "litellm",
        "event_time": ended if ended is not None else began,
        "provider": payload.custom_llm_provider or UNKNOWN_PROVIDER,
        "model": _model(payload),
        "model_requested": payload.model_group or None,
        "operation": _operation(payload.call_type),
        "status": "error" if failed else "success",
        "error_type": error or None if failed else None,
        "session_id": payload.session_id or None,
        "trace_id": payload.trace_id or None,
        "reported_cost_usd": usd(
            payload.cost if payload.response_cost is None else payload.response_cost
        ),
        "duration_ms": _duration_ms(began, ended),
        **_people(payload, metadata),
        **_counts(payload, metadata),
    }


def _model(payload: _Payload) -> str:
    provider = f"{payload.custom_llm_provider}/"
    return payload.model.removeprefix(provider) or payload.model


def _operation(call_type: str | None) -> str | None:
    if not call_type:
        return None
    plain = call_type.removeprefix("a") if call_type[1:] in _OPERATIONS else call_type
    return _OPERATIONS.get(plain, call_type)


def _people(payload: _Payload, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return who asked for what: from the key, then from tags `feature:refunds` and the like."""
    named: dict[str, Any] = {
        "customer": payload.end_user or metadata.get("user_api_key_end_user_id"),
        "user": metadata.get("user_api_key_user_id"),
        "team": metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id"),
        "project": metadata.get("user_api_key_project_alias")
        or metadata.get("user_api_key_project_id"),
        "segment": metadata.get("user_api_key_org_alias") or metadata.get("user_api_key_org_id"),
        "api_key": metadata.get("user_api_key_alias") or metadata.get("user_api_key_hash"),
    }
    tags: dict[str, str] = {}
    for tag in payload.request_tags or ():
        name, colon, value = str(tag).partition(":")
        tags[name.strip()] = value.strip() if colon else ""
    logged = metadata.get("spend_logs_metadata")
    tags |= texts(logged) if isinstance(logged, dict) else {}
    told = {name: tags.pop(name) for name in _TOLD if tags.get(name)}
    found = {name: value for name, value in (named | told).items() if isinstance(value, str)}
    return {
        **{name: value for name, value in found.items() if value},
        "tags": texts(tags) or None,
    }


_TOLD: Final = tuple(
    name for name in DIMENSIONS if name not in {"provider", "model", "operation", "service_tier"}
)


def _counts(payload: _Payload, metadata: Mapping[str, Any]) -> dict[str, Any]:
    if payload.cache_hit in (True, "True", "true"):
        return {"input_tokens": 0, "output_tokens": 0}
    hidden = payload.hidden_params or {}
    usage = metadata.get("usage_object") or hidden.get("usage_object") or payload.usage or {}
    counts = {name: count for name, count in quantities(usage).items() if count is not None}
    totals = {
        "input_tokens": whole({"prompt_tokens": payload.prompt_tokens}, "prompt_tokens"),
        "output_tokens": whole(
            {"completion_tokens": payload.completion_tokens}, "completion_tokens"
        ),
    }
    if QUANTITIES[0] not in counts:
        counts |= {name: count for name, count in totals.items() if count is not None}
    tier = (payload.cost_breakdown or {}).get("service_tier")
    if isinstance(tier, str) and tier:
        counts["service_tier"] = tier
    if payload.call_type in _BATCH_CALLS:
        counts["service_tier"] = "batch"
    return counts


_BATCH_CALLS: Final = frozenset({"retrieve_batch", "aretrieve_batch"})


def _time(value: float | str | None) -> Any:
    """Return seconds since 1970 as a time; a text without a zone is UTC."""
    if isinstance(value, str):
        return value if _ZONE.search(value) else f"{value}Z"
    return None if value is None else instant(value)


_ZONE: Final = re.compile(r"[zZ]$|[+-][0-9]{2}:?[0-9]{2}$")


def _duration_ms(began: Any, ended: Any) -> int | None:
    if began is None or ended is None or isinstance(began, str) or isinstance(ended, str):
        return None
    return max(0, int((ended - began).total_seconds() * 1000))
