"""OpenTelemetry GenAI spans: which of them are usage, and which attribute is which field.

Attribute names changed with every version of the conventions, so each field has the names it ever
had, newest first. Counts are inclusive, as ours. Agents, tools and workflows repeat the tokens of
the requests below them: they are no usage. So is a second span of one response (two
instrumentations of one call), where both come in one record.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from governor.core.errors import DecodeError
from governor.core.usage import DIMENSIONS, Reason
from governor.formats.reading import UNKNOWN_PROVIDER, Fields, Found, known

Attributes: TypeAlias = Mapping[str, Any]

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "operation": ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "model": (
        *("gen_ai.response.model", "gen_ai.request.model"),
        *("llm.model_name", "embedding.model_name"),
    ),
    "model_requested": ("gen_ai.request.model",),
    "service_tier": (
        *("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
        *("openai.request.service_tier", "gen_ai.openai.request.service_tier"),
    ),
    "response_id": ("gen_ai.response.id",),
    "error_type": ("error.type",),
    "session_id": ("gen_ai.conversation.id", "session.id"),
    "user": ("user.id", "enduser.id", "user"),
    "input_tokens": (
        *("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "llm.token_count.prompt",
    ),
    "output_tokens": (
        *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "llm.token_count.completion",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_5m_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "input_audio_tokens": ("gen_ai.usage.audio.input_tokens",),
    "output_audio_tokens": ("gen_ai.usage.audio.output_tokens",),
    "input_image_tokens": ("gen_ai.usage.image.input_tokens",),
    "environment": ("deployment.environment.name", "deployment.environment", "environment"),
    "project": ("project", "service.namespace"),
    "region": ("region", "cloud.region"),
    "source": ("service.name",),
}
_COUNTS: Final = frozenset(name for name in _NAMES if name.endswith("_tokens"))
_PLAIN: Final = ("customer", "tier", "segment", "feature", "team", "api_key")
"""Dimensions that no convention has: an attribute of that name, or with `governor.` before it."""

_NO_USAGE: Final = frozenset(
    {
        *("invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan", "retrieval"),
        *("agent", "tool", "chain", "retriever", "reranker", "guardrail", "evaluator", "workflow"),
        *("task", "prompt"),
    }
)
"""Operations that repeat the tokens of others, or use none."""
_OPERATIONS: Final = {"completion": "text_completion", "embedding": "embeddings", "llm": "chat"}


class Span(NamedTuple):
    """One span as either encoding hands it over; times are nanoseconds since 1970."""

    trace_id: str
    span_id: str
    start_ns: int
    end_ns: int
    failed: bool
    found: dict[str, tuple[int, Any]]


class Names:
    """The attributes that are read, each with its field and its rank among the names of it."""

    def __init__(self, fields: Fields) -> None:
        names = {**_NAMES, **{name: (name,) for name in _PLAIN}}
        for name in DIMENSIONS:
            if name not in {"provider", "model", "operation", "service_tier"}:
                names[name] = (f"governor.{name}", *names.get(name, ()))
        for name, attribute in known(fields).items():
            names[name] = (attribute, *names.get(name, ()))
        self.of: dict[str, list[tuple[str, int]]] = {}
        for name, attributes in names.items():
            for rank, attribute in enumerate(attributes):
                self.of.setdefault(attribute, []).append((name, rank))


def put(found: dict[str, tuple[int, Any]], names: list[tuple[str, int]], value: Any) -> None:
    """Keep the value of an attribute, unless a better name of its field was seen.

    Of the same name the later one holds: attributes of a span come after those of its resource.
    """
    for name, rank in names:
        if name not in found or rank <= found[name][0]:
            found[name] = (rank, value)


def add_spans(spans: list[Span], found: Found) -> None:
    """Add the spans of one record that are usage; count the rest."""
    seen: set[tuple[str, Any]] = set()
    for span in spans:
        fields = {name: value for name, (_, value) in span.found.items()}
        operation = str(fields.get("operation", "")).lower()
        if operation in _NO_USAGE or _COUNTS.isdisjoint(fields):
            found.ignore()
            continue
        response = fields.pop("response_id", None)
        if response is not None:
            if (span.trace_id, response) in seen:
                found.ignore()
                continue
            seen.add((span.trace_id, response))
        _add(span, fields, operation, found)


def _add(span: Span, fields: dict[str, Any], operation: str, found: Found) -> None:
    what = f"span {span.span_id}: "
    for name in _COUNTS & fields.keys():
        value = fields[name]
        if isinstance(value, float) and value.is_integer():
            fields[name] = int(value)
        elif not isinstance(value, int) or isinstance(value, bool):
            found.refuse(Reason.INVALID, f"{what}{name} is not a whole number")
            return
    failed = span.failed or "error_type" in fields
    fields["operation"] = _OPERATIONS.get(operation, operation) or None
    found.add(
        {
            "source": found.topic,
            "provider": UNKNOWN_PROVIDER,
            "duration_ms": max(0, span.end_ns - span.start_ns) // 1_000_000,
            **fields,
            "status": "error" if failed else "success",
            "event_id": f"{span.trace_id}-{span.span_id}",
            "event_time": _instant(span.end_ns or span.start_ns),
            "trace_id": span.trace_id,
            "span_id": span.span_id,
        },
        what,
    )


def _instant(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def checked(trace_id: str, span_id: str) -> tuple[str, str]:
    """Return the ids of a span; raise DecodeError where they are not 16 and 8 bytes in hex."""
    if len(trace_id) == TRACE_ID_CHARACTERS and len(span_id) == SPAN_ID_CHARACTERS:
        return trace_id.lower(), span_id.lower()
    raise DecodeError(
        Reason.INVALID,
        "the ids of a span are not 16 and 8 bytes in hexadecimal; is it an export of traces?",
    )


TRACE_ID_CHARACTERS: Final = 32
SPAN_ID_CHARACTERS: Final = 16
