"""Each format turns what its senders write into the event they mean, and nothing into two."""

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from governor.core.decoded import Decoded
from governor.core.usage import Reason
from governor.formats import FORMATS
from tests.unit.samples import Sample, decode, protobuf, record, records, sample, told

SAMPLES = records()
AT = datetime(2026, 11, 24, 0, 0, 3, 210_000, tzinfo=UTC)
WRITTEN = datetime(2026, 11, 24, 0, 1, 40, tzinfo=UTC)

CLOUDEVENT = {
    "event_id": "chatcmpl-9x1",
    "source": "litellm-proxy",
    "event_time": AT,
    "provider": "openai",
    "model": "gpt-4o",
    "service_tier": "default",
    "customer": "customer-42",
    "team": "cx-platform",
    "project": "support-bot",
    "input_tokens": 10_000,
    "cache_read_tokens": 4_000,
    "output_tokens": 1_000,
    "reasoning_tokens": 0,
    "requests": 1,
}
SPAN = {
    "event_id": "5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174",
    "source": "support-bot",
    "event_time": AT,
    "provider": "anthropic",
    "model": "claude-sonnet-4-5-20250929",
    "model_requested": "claude-sonnet-4-5",
    "operation": "chat",
    "status": "success",
    "user": "u-123",
    "team": "cx-platform",
    "project": "cx",
    "environment": "prod",
    "session_id": "conv_42",
    "trace_id": "5b8efff798038103d269b633813fc60c",
    "span_id": "eee19b7ec3c1b174",
    "input_tokens": 10_000,
    "cache_read_tokens": 2_000,
    "cache_write_5m_tokens": 4_000,
    "output_tokens": 1_000,
    "reasoning_tokens": 600,
    "requests": 1,
    "duration_ms": 3_210,
}
OPENAI = {
    "source": "app",
    "event_time": WRITTEN,
    "provider": "unknown",
    "model": "gpt-4o",
    "input_tokens": 10_000,
    "cache_read_tokens": 4_000,
    "cache_write_5m_tokens": 0,
    "output_tokens": 2_000,
    "reasoning_tokens": 1_500,
    "requests": 1,
}
EXPECTED: Mapping[str, dict[str, Any]] = {
    "cloudevent_structured": CLOUDEVENT,
    "cloudevent_kafka_binary": CLOUDEVENT,
    "litellm_openmeter_cloudevent": {
        "event_id": "chatcmpl-9x1",
        "source": "litellm-proxy",
        "event_time": AT,
        "provider": "unknown",
        "model": "gpt-4o",
        "customer": "customer-42",
        "input_tokens": 10_000,
        "output_tokens": 1_000,
        "requests": 1,
        "reported_cost_usd": "0.030000000000",
    },
    "litellm_standard_logging_payload": {
        "event_id": "0f1e2d3c",
        "source": "litellm",
        "event_time": AT,
        "provider": "openai",
        "model": "gpt-4o",
        "model_requested": "chat-default",
        "operation": "chat",
        "status": "success",
        "customer": "customer-42",
        "user": "u-123",
        "segment": "acme",
        "feature": "refunds",
        "team": "cx-platform",
        "project": "support-bot",
        "api_key": "cx-bot",
        "session_id": "s-1",
        "trace_id": "t-1",
        "input_tokens": 10_000,
        "cache_read_tokens": 4_000,
        "output_tokens": 1_000,
        "reasoning_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "requests": 1,
        "duration_ms": 3_210,
        "reported_cost_usd": "0.030000000000",
        "tags": {"prod": "", "cost_center": "CC-101"},
    },
    "openmeter_kafka_internal": {
        "event_id": "chatcmpl-9x1",
        "source": "my-app",
        "event_time": datetime(2026, 11, 24, 0, 0, 3, tzinfo=UTC),
        "provider": "unknown",
        "model": "gpt4-turbo",
        "customer": "customer-42",
        "input_tokens": 10_000,
        "requests": 1,
    },
    "otlp_span": SPAN,
    "otlp_span as protobuf": SPAN,
    "otlp_span_legacy": {
        "event_id": "5b8efff798038103d269b633813fc60c-eee19b7ec3c1b175",
        "source": "support-bot",
        "event_time": AT,
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "model_requested": "gpt-4o",
        "service_tier": "default",
        "status": "success",
        "team": "cx-platform",
        "project": "cx",
        "environment": "prod",
        "trace_id": "5b8efff798038103d269b633813fc60c",
        "span_id": "eee19b7ec3c1b175",
        "input_tokens": 900,
        "output_tokens": 120,
        "requests": 1,
        "duration_ms": 3_210,
    },
    "anthropic_usage": {
        "event_id": "anthropic_usage",
        "source": "app",
        "event_time": WRITTEN,
        "provider": "unknown",
        "model": "claude-sonnet-4-5",
        "service_tier": "standard",
        "input_tokens": 10_000,  # 4,000 + 4,000 written + 2,000 read
        "cache_read_tokens": 2_000,
        "cache_write_5m_tokens": 3_000,
        "cache_write_1h_tokens": 1_000,
        "output_tokens": 1_000,
        "reasoning_tokens": 600,
        "web_searches": 1,
        "requests": 1,
    },
    "openai_chat_usage": OPENAI
    | {"event_id": "openai_chat_usage", "input_audio_tokens": 0, "output_audio_tokens": 0},
    "openai_responses_usage": OPENAI | {"event_id": "openai_responses_usage"},
    "native": {
        "event_id": "e-1",
        "source": "app",
        "event_time": datetime(2026, 11, 24, tzinfo=UTC),
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1_000,
        "output_tokens": 10,
        "requests": 1,
    },
}
"""What each sample says, by hand."""
NO_SPANS = {"otlp_event_operation_details": "logs", "otlp_metric_token_usage": "metrics"}


def only(decoded: Decoded) -> dict[str, Any]:
    """Return what the one event says."""
    assert decoded.rejects == []
    (event,) = decoded.events
    return told(event)


def refused(decoded: Decoded) -> str:
    """Return why the one record was set aside."""
    assert decoded.events == []
    (reject,) = decoded.rejects
    return f"{reject.reason.value}: {reject.detail}"


# ---------------------------------------------------------------------------------- all of them


def test_every_sample_has_an_expectation() -> None:
    """Nothing of the samples goes unlooked at."""
    assert set(SAMPLES) == set(EXPECTED) | set(NO_SPANS)
    assert {name for name, _ in SAMPLES.values()} == set(FORMATS) - {"auto", "business"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_says_what_it_means(name: str) -> None:
    """Field for field."""
    form, found = SAMPLES[name]
    assert only(decode(form, found)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_auto_reads_a_sample_as_its_format_does(name: str) -> None:
    """No sample is taken for another format."""
    assert only(decode("auto", SAMPLES[name][1])) == EXPECTED[name]


def test_auto_reads_a_mixed_topic_in_order() -> None:
    """Events keep their order and their records, whatever stands between them."""
    mixed = [Sample(found.value, found.headers, n) for n, (_, found) in enumerate(SAMPLES.values())]
    decoded = decode("auto", *mixed)
    expected = [EXPECTED[name] for name in SAMPLES if name in EXPECTED]
    assert [told(event) for event in decoded.events] == expected
    places = [n for n, name in enumerate(SAMPLES) if name in EXPECTED]
    assert [origin.offset for origin in decoded.origins] == places
    assert [reject.offset for reject in decoded.rejects] == [
        n for n, name in enumerate(SAMPLES) if name in NO_SPANS
    ]


@pytest.mark.parametrize("name", NO_SPANS)
def test_logs_and_metrics_are_refused_with_advice(name: str) -> None:
    """They repeat or add up what spans say; the refusal names the pipeline to connect."""
    why = refused(decode("otlp_json", SAMPLES[name][1]))
    assert why.startswith(f"invalid: an export of {NO_SPANS[name]}; usage is read from spans")
    assert "traces pipeline" in why


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"business"}))
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"", Reason.MALFORMED),
        (b"\xff\xfe\x00", Reason.MALFORMED),
        (b"not a document", Reason.MALFORMED),
        (b'{"a": ', Reason.MALFORMED),
        (b"[" * 100_000, Reason.MALFORMED),
        (b"x" * 1_000_001, Reason.TOO_LARGE),
    ],
)
def test_what_is_no_document_is_set_aside(name: str, value: bytes | None, reason: Reason) -> None:
    """Once, with a reason, and the next record is read all the same."""
    good = next((found for form, found in SAMPLES.values() if form == name), SAMPLES["native"][1])
    decoded = decode(name, Sample(value, offset=7), good)
    assert [(reject.offset, reject.reason) for reject in decoded.rejects] in (
        [(7, reason)],
        [(7, Reason.MALFORMED if reason is Reason.TOO_LARGE else Reason.INVALID)],
    )
    assert len(decoded.events) == 1


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"native", "auto", "business"}))
def test_a_wrong_place_of_a_field_is_told(name: str) -> None:
    """A misspelt field is named with what may be meant."""
    with pytest.raises(ValueError, match="unknown field 'taem' \\(did you mean `team`"):
        FORMATS[name]({"taem": "$.data.team"})


@pytest.mark.parametrize("path", ["$", "$.", "$.a b", '$["a]', "$.a[b]", "$.a" * 21, "a..b"])
def test_a_path_that_cannot_be_read_is_told(path: str) -> None:
    """With how to write one."""
    with pytest.raises(ValueError, match=r"write such as \$\.data\.team"):
        FORMATS["cloudevents"]({"team": path})


# ---------------------------------------------------------------------------------- CloudEvents


def cloudevent(data: Any = None, **changes: Any) -> dict[str, Any]:
    """Return the structured sample, changed; None takes a key away."""
    event = {**sample("cloudevent_structured"), **changes}
    if data is not None:
        event["data"] = data
    return {name: value for name, value in event.items() if value is not None}


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
def test_a_cloudevent_needs_its_attributes(name: str) -> None:
    """The specification requires four."""
    why = refused(decode("cloudevents", record(cloudevent(**{name: None}))))
    assert why == f"invalid: the CloudEvent has no {name}"


def test_a_cloudevent_without_a_time_has_that_of_its_record() -> None:
    """`time` is optional; the record's own time is the same in each try of a reader."""
    assert only(decode("cloudevents", record(cloudevent(time=None))))["event_time"] == WRITTEN


def test_content_type_decides_between_structured_and_binary() -> None:
    """A structured event may come with headers, and a binary one may hold any data."""
    structured = record(cloudevent(), content_type="application/cloudevents+json; charset=utf-8")
    assert only(decode("cloudevents", structured)) == CLOUDEVENT
    batch = record([cloudevent()], content_type="application/cloudevents-batch+json")
    assert "one event a record" in refused(decode("cloudevents", batch))


def test_places_of_fields_in_a_cloudevent() -> None:
    """Paths reach extensions, nested data, keys with dots, lists; what is not there is nothing."""
    event = cloudevent(
        {"model": "m", "labels": {"cost.center": "CC-1"}, "u": [{"in": 7}]}, tenant="acme"
    )
    fields = {
        "customer": "$.tenant",
        "team": '$.data.labels["cost.center"]',
        "input_tokens": "$.data.u[0].in",
        "feature": "$.data.nowhere[3].x",
    }
    found = only(decode("cloudevents", record(event), fields=fields))
    assert (found["customer"], found["team"], found["input_tokens"]) == ("acme", "CC-1", 7)
    assert "feature" not in found


def test_data_in_words_of_applications() -> None:
    """Counts in quotes, names of providers, a usage object, a cost; the rest is dropped."""
    data = {
        "model": "gpt-4o",
        "prompt": "tell me a secret",
        "prompt_tokens": "900",
        "completion_tokens": 120.0,
        "cached_tokens": 100,
        "customer_id": "acme",
        "cost": 0.1,
        "usage": {"output_tokens_details": {"reasoning_tokens": 20}},
    }
    found = only(decode("cloudevents", record(cloudevent(data, subject=None))))
    assert {name: found[name] for name in found if name.endswith("_tokens")} == {
        "input_tokens": 900,
        "output_tokens": 120,
        "cache_read_tokens": 100,
        "reasoning_tokens": 20,
    }
    assert (found["customer"], found["reported_cost_usd"]) == ("acme", "0.100000000000")
    assert "secret" not in str(found)


@pytest.mark.parametrize("count", ["many", 1.5, 1e308, True, [1], "\uff11\uff12", "9" * 12])
def test_a_count_that_is_none_is_set_aside(count: Any) -> None:
    """It is named, and not read as something near."""
    found = decode("cloudevents", record(cloudevent({"model": "m", "input_tokens": count})))
    assert "input_tokens is " in refused(found)


# -------------------------------------------------------------------------------- OpenTelemetry


def attribute(key: str, value: Any) -> dict[str, Any]:
    """Return an attribute in OTLP/JSON."""
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return {"key": key, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}


def span(number: int, attributes: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a span in OTLP/JSON."""
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": f"{number:016x}",
        "startTimeUnixNano": "1795478400000000000",
        "endTimeUnixNano": "1795478403210000000",
        "attributes": [attribute(key, value) for key, value in attributes.items()],
        **changes,
    }


def export(*spans: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an export of one resource."""
    common = [attribute(key, value) for key, value in (resource or {}).items()]
    return {
        "resourceSpans": [
            {"resource": {"attributes": common}, "scopeSpans": [{"spans": list(spans)}]}
        ]
    }


def both(document: Any, fields: dict[str, str] | None = None) -> Decoded:
    """Decode an export in both encodings; they must say the same."""
    as_json = decode("otlp_json", record(document), fields=fields)
    as_proto = decode("otlp_proto", Sample(protobuf(document)), fields=fields)
    assert as_proto.events == as_json.events
    assert as_proto.ignored == as_json.ignored
    assert [r.detail for r in as_proto.rejects] == [r.detail for r in as_json.rejects]
    return as_json


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1_000,
    "gen_ai.usage.output_tokens": 100,
}


@pytest.mark.parametrize(
    "operation", ["invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "AGENT"]
)
def test_agents_and_tools_are_not_billed_twice(operation: str) -> None:
    """Their spans add up the requests below them, which are counted themselves."""
    above = CHAT | {"gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": 2_000}
    decoded = both(export(span(1, above), span(2, CHAT), span(3, CHAT)))
    assert [event.input_tokens for event in decoded.events] == [1_000, 1_000]
    assert (decoded.ignored, decoded.rejects) == (1, [])


def test_two_spans_of_one_response_are_one() -> None:
    """Two instrumentations of one call tell the same response id in the same trace."""
    one = CHAT | {"gen_ai.response.id": "chatcmpl-1"}
    other = CHAT | {"gen_ai.response.id": "chatcmpl-2"}
    decoded = both(export(span(1, one), span(2, one), span(3, other)))
    assert [event.span_id for event in decoded.events] == [f"{1:016x}", f"{3:016x}"]
    assert decoded.ignored == 1


def test_spans_without_tokens_are_ignored() -> None:
    """Other telemetry in the topic is counted and is no reject; an export of it alone, too."""
    decoded = both(export(span(1, {"http.method": "GET"})))
    assert (decoded.events, decoded.rejects, decoded.ignored) == ([], [], 1)


OLD_NAMES: Sequence[tuple[dict[str, Any], str, Any]] = [
    ({"gen_ai.system": "az.ai.openai"}, "provider", "az.ai.openai"),
    ({"llm.model_name": "claude-3"}, "model", "claude-3"),
    ({"gen_ai.usage.cache_creation_input_tokens": 5}, "cache_write_5m_tokens", 5),
    ({"gen_ai.usage.cache_read_input_tokens": 5}, "cache_read_tokens", 5),
    ({"llm.token_count.prompt_details.cache_read": 5}, "cache_read_tokens", 5),
    ({"llm.token_count.completion_details.reasoning": 5}, "reasoning_tokens", 5),
    ({"gen_ai.openai.request.service_tier": "flex"}, "service_tier", "flex"),
    ({"openinference.span.kind": "LLM"}, "operation", "chat"),
    ({"llm.request.type": "completion"}, "operation", "text_completion"),
    ({"enduser.id": "u-1"}, "user", "u-1"),
    ({"session.id": "s-1"}, "session_id", "s-1"),
    ({"deployment.environment": "prod"}, "environment", "prod"),
    ({"cloud.region": "eu"}, "region", "eu"),
    ({"customer": "acme"}, "customer", "acme"),
    ({"governor.feature": "search"}, "feature", "search"),
]


@pytest.mark.parametrize(("attributes", "name", "value"), OLD_NAMES)
def test_every_name_that_an_attribute_ever_had(
    attributes: dict[str, Any], name: str, value: Any
) -> None:
    """Renamed again and again, it is the same field."""
    base = {"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 1}
    model = {} if name == "model" else {"gen_ai.request.model": "m"}
    (event,) = both(export(span(1, base | model | attributes))).events
    assert getattr(event, name) == value
    assert (event.input_tokens, event.output_tokens) == (10, 1)


def test_the_newer_name_counts_where_both_are_there() -> None:
    """Instrumentations that send old and new names for a while say nothing twice."""
    names = {"gen_ai.usage.prompt_tokens": 7, "gen_ai.system": "old"}
    for attributes in (names | CHAT, CHAT | names):
        (event,) = both(export(span(1, attributes))).events
        assert (event.input_tokens, event.provider) == (1_000, "openai")


def test_a_span_goes_before_its_resource_and_governor_before_all() -> None:
    """What is said of one request is nearer than what is said of the service."""
    common = {"team": "service", "environment": "prod", "governor.customer": "beta"}
    own = CHAT | {"team": "request", "customer": "acme"}
    (event,) = both(export(span(1, own), resource=common)).events
    assert (event.team, event.environment, event.customer) == ("request", "prod", "beta")


def test_attributes_of_ones_own() -> None:
    """`fields` names the attribute of a field."""
    found = both(
        export(span(1, CHAT | {"company.squad": "a-team"})), fields={"team": "company.squad"}
    )
    assert found.events[0].team == "a-team"


def test_a_failed_request_is_one() -> None:
    """By the status of the span or by `error.type`; its tokens still count."""
    failed = both(
        export(span(1, CHAT, status={"code": 2}), span(2, CHAT | {"error.type": "timeout"}))
    )
    assert [(e.status, e.error_type) for e in failed.events] == [
        ("error", None),
        ("error", "timeout"),
    ]


def test_a_bad_span_does_not_take_its_neighbours_along() -> None:
    """One record with a good and two bad spans: one event, two rejects that name their span."""
    bad = CHAT | {"gen_ai.usage.input_tokens": "many"}
    found = both(export(span(1, bad), span(2, CHAT), span(3, bad)))
    assert [event.span_id for event in found.events] == [f"{2:016x}"]
    assert [reject.detail for reject in found.rejects] == [
        "span 0000000000000001: input_tokens is not a whole number",
        "span 0000000000000003: input_tokens is not a whole number",
    ]


def test_ids_in_base64_are_refused() -> None:
    """OTLP/JSON has ids in hexadecimal; protobuf's own JSON would give other, wrong ids."""
    wrong = span(1, CHAT, traceId="W47/95gDgQPSabYzgT/GDA==")
    assert "in hexadecimal" in refused(decode("otlp_json", record(export(wrong))))


def test_ids_in_capitals_are_the_same_ids() -> None:
    """So both encodings of one span are duplicates of one another."""
    loud = span(0xABC, CHAT, traceId="5B8EFFF798038103D269B633813FC60C", spanId="0000000000000ABC")
    (event,) = decode("otlp_json", record(export(loud))).events
    assert event.event_id == "5b8efff798038103d269b633813fc60c-0000000000000abc"


def test_numbers_as_texts_and_as_numbers() -> None:
    """64-bit numbers are texts in OTLP/JSON; some senders write numbers, or doubles."""
    plain = span(1, CHAT, startTimeUnixNano=1795478400000000000)
    plain["attributes"][3]["value"] = {"intValue": 1_000}
    plain["attributes"][4]["value"] = {"doubleValue": 100.0}
    (event,) = decode("otlp_json", record(export(plain))).events
    assert (event.input_tokens, event.output_tokens, event.duration_ms) == (1_000, 100, 3_210)


# -------------------------------------------------------------------------------------- LiteLLM


def payload(**changes: Any) -> dict[str, Any]:
    """Return the sample payload, changed."""
    return {**copy.deepcopy(sample("litellm_standard_logging_payload")), **changes}


def test_objects_arrays_and_lines() -> None:
    """LiteLLM's batches are arrays, its files are lines."""
    two = [payload(litellm_call_id="a"), payload(litellm_call_id="b")]
    lines = b"\n".join(json.dumps(one).encode() for one in two) + b"\n"
    for value in (json.dumps(two).encode(), json.dumps(two, indent=1).encode(), lines):
        for name in ("litellm", "auto"):
            decoded = decode(name, Sample(value))
            assert [event.event_id for event in decoded.events] == ["a", "b"]
            assert decoded.rejects == []


def test_a_bad_payload_does_not_take_its_neighbours_along() -> None:
    """The reject says which one of the record it is."""
    found = decode("litellm", record([payload(), payload(model=None), payload(startTime="?")]))
    assert len(found.events) == 2
    (reject,) = found.rejects
    assert reject.detail.startswith("payload 2: ")


def test_an_answer_out_of_a_cache_costs_nothing() -> None:
    """LiteLLM's own cache answered; no provider was asked."""
    for hit in (True, "True"):
        found = only(decode("litellm", record(payload(cache_hit=hit))))
        assert (found["input_tokens"], found["output_tokens"]) == (0, 0)
        assert "cache_read_tokens" not in found


def test_a_failure_is_one_without_usage() -> None:
    """Its class of error is kept, its text is not."""
    failed = payload(
        status="failure",
        error_str="the prompt was: secret",
        error_information={"error_class": "RateLimitError", "error_message": "secret"},
        prompt_tokens=0,
        completion_tokens=0,
        response_cost=0,
    )
    failed["metadata"]["usage_object"] = None
    found = only(decode("litellm", record(failed)))
    assert (found["status"], found["error_type"]) == ("error", "RateLimitError")
    assert "secret" not in str(found)


def test_anthropic_by_way_of_litellm() -> None:
    """LiteLLM's usage has inclusive totals already: nothing is added to them again."""
    usage = {
        "prompt_tokens": 10_000,
        "completion_tokens": 1_000,
        "prompt_tokens_details": {
            "cached_tokens": 2_000,
            "cache_creation_tokens": 4_000,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": 3_000,
                "ephemeral_1h_input_tokens": 1_000,
            },
        },
        "cache_creation_input_tokens": 4_000,
        "cache_read_input_tokens": 2_000,
    }
    claude = payload(model="anthropic/claude-sonnet-4-5", custom_llm_provider="anthropic")
    claude["metadata"]["usage_object"] = usage
    found = only(decode("litellm", record(claude)))
    assert {name: found[name] for name in found if name.endswith("tokens")} == {
        "input_tokens": 10_000,
        "cache_read_tokens": 2_000,
        "cache_write_5m_tokens": 3_000,
        "cache_write_1h_tokens": 1_000,
        "output_tokens": 1_000,
    }
    assert (found["provider"], found["model"]) == ("anthropic", "claude-sonnet-4-5")


def test_the_tier_of_a_batch() -> None:
    """A batch that is fetched is charged as one."""
    found = only(decode("litellm", record(payload(call_type="aretrieve_batch"))))
    assert found["service_tier"] == "batch"


def test_times_of_litellm() -> None:
    """Seconds, or a text without a zone, which is UTC; without any time there is no event."""
    found = only(decode("litellm", record(payload(endTime="2026-11-24 00:00:03.210000"))))
    assert found["event_time"] == AT
    why = refused(decode("litellm", record(payload(startTime=None, endTime=None))))
    assert why == "invalid: the payload has neither endTime nor startTime"


def test_places_of_fields_in_a_payload() -> None:
    """Paths reach what people put into the metadata of requests."""
    asked = payload()
    asked["metadata"]["requester_metadata"] = {"plan": "free"}
    found = only(
        decode("litellm", record(asked), fields={"tier": "$.metadata.requester_metadata.plan"})
    )
    assert found["tier"] == "free"


# ------------------------------------------------------------------------------------ OpenMeter


def metered(data: Any, **changes: Any) -> Sample:
    """Return an event of OpenMeter's topic."""
    event = {**sample("openmeter_kafka_internal")["value"], **changes}
    return record(event | {"data": json.dumps(data)})


def test_tokens_by_kind_are_one_request() -> None:
    """Three events of a request: its input stands for it."""
    kinds = ("input", "system", "output")
    found = decode(
        "openmeter",
        *(metered({"model": "m", "tokens": "10", "type": kind}, id=kind) for kind in kinds),
    )
    assert [(e.input_tokens, e.output_tokens, e.requests) for e in found.events] == [
        (10, None, 1),
        (10, None, 0),
        (None, 10, 0),
    ]


def test_a_place_in_the_text_inside() -> None:
    """`$.data` is what the text holds."""
    found = decode(
        "openmeter", metered({"model": "m", "in": 3}), fields={"input_tokens": "$.data.in"}
    )
    assert only(found)["input_tokens"] == 3


@pytest.mark.parametrize("moment", [1e30, -1e30])
def test_a_time_that_is_none(moment: float) -> None:
    """Seconds beyond any calendar."""
    assert "not in seconds since 1970" in refused(
        decode("openmeter", metered({"model": "m", "tokens": 1, "type": "input"}, time=moment))
    )


# ------------------------------------------------------------------------------------ providers


def answered(response: Any, **envelope: Any) -> dict[str, Any]:
    """Return what the one event of a provider's response says."""
    return only(decode("provider", record({"response": response} | envelope)))


def counts(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that are reported and are not zero."""
    return {name: n for name, n in found.items() if name.endswith("_tokens") and n}


def test_a_response_of_openai() -> None:
    """Id, model, time and tier come from the response, and whose it is from its shape."""
    found = answered(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_795_478_400,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "priority",
            "choices": [{"message": {"content": "secret"}}],
            "usage": sample("openai_chat_usage"),
        },
        customer="acme",
    )
    assert (found["event_id"], found["provider"], found["model"]) == (
        "chatcmpl-1",
        "openai",
        "gpt-4o-2024-08-06",
    )
    assert found["event_time"] == datetime(2026, 11, 24, tzinfo=UTC)
    assert (found["service_tier"], found["customer"], found["source"]) == (
        "priority",
        "acme",
        "usage",
    )
    assert "secret" not in str(found)


def test_a_stream_of_anthropic_is_cumulative() -> None:
    """The first chunk tells the input, later ones the output so far: the last of each holds."""
    start = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-4-5",
            "usage": {
                "input_tokens": 100,
                "cache_read_input_tokens": 900,
                "cache_creation_input_tokens": 0,
                "output_tokens": 1,
            },
        },
    }
    deltas = [
        {"type": "message_delta", "usage": {"output_tokens": so_far}} for so_far in (40, 80, 120)
    ]
    found = answered([start, {"type": "ping"}, *deltas], provider="anthropic")
    assert counts(found) == {"input_tokens": 1_000, "cache_read_tokens": 900, "output_tokens": 120}
    assert (found["event_id"], found["model"]) == ("msg_1", "claude-sonnet-4-5")


def test_a_stream_of_openai_ends_with_its_usage() -> None:
    """Chunks before it say null."""
    chunks = [
        {"id": "c-1", "object": "chat.completion.chunk", "model": "gpt-4o", "usage": None},
        {
            "id": "c-1",
            "object": "chat.completion.chunk",
            "model": "gpt-4o",
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        },
    ]
    assert counts(answered(chunks)) == {"input_tokens": 9, "output_tokens": 3}


def test_google_counts_thoughts_apart() -> None:
    """Output is answer and thoughts; tools' prompts are input; audio is told by modality."""
    found = answered(
        {
            "responseId": "r-1",
            "modelVersion": "gemini-2.5-pro",
            "usageMetadata": {
                "promptTokenCount": 1_000,
                "toolUsePromptTokenCount": 50,
                "cachedContentTokenCount": 400,
                "candidatesTokenCount": 200,
                "thoughtsTokenCount": 300,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 900},
                    {"modality": "AUDIO", "tokenCount": 100},
                ],
            },
        }
    )
    assert (found["provider"], found["model"]) == ("google", "gemini-2.5-pro")
    assert counts(found) == {
        "input_tokens": 1_050,
        "cache_read_tokens": 400,
        "output_tokens": 500,
        "reasoning_tokens": 300,
        "input_audio_tokens": 100,
    }


def test_bedrock_counts_caches_apart() -> None:
    """As Anthropic does."""
    usage = {
        "inputTokens": 100,
        "outputTokens": 20,
        "cacheReadInputTokens": 700,
        "cacheWriteInputTokens": 200,
    }
    found = answered({"usage": usage}, provider="aws", model="claude", event_id="b-1")
    assert counts(found) == {
        "input_tokens": 1_000,
        "cache_read_tokens": 700,
        "cache_write_5m_tokens": 200,
        "output_tokens": 20,
    }


def test_a_compaction_of_anthropic_is_charged() -> None:
    """Its tokens are in no total of the response."""
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "output_tokens": 10,
        "iterations": [
            {"type": "compaction", "input_tokens": 5_000, "output_tokens": 500},
            {"type": "message", "input_tokens": 100, "output_tokens": 10},
        ],
    }
    found = answered({"id": "m", "type": "message", "model": "claude", "usage": usage})
    assert counts(found) == {"input_tokens": 5_100, "output_tokens": 510}


def test_tiers_of_responses() -> None:
    """Fast mode is a tier of its own; the batch API is told by the envelope."""
    usage = sample("anthropic_usage")
    message = {"id": "m", "type": "message", "model": "claude-opus-4-6"}
    assert answered(message | {"usage": usage | {"speed": "fast"}})["service_tier"] == "fast"
    assert answered(message | {"usage": usage}, batch=True)["service_tier"] == "batch"


def test_what_is_no_envelope() -> None:
    """An unknown key is named with what may be meant; no usage has a reason of its own."""
    asked = {"source": "app", "event_id": "e", "model": "m", "provider": "p"}
    assert "unknown field `costumer` (did you mean `customer`?)" in refused(
        decode("provider", record(asked | {"costumer": "x", "usage": {"input_tokens": 1}}))
    )
    assert refused(decode("provider", record(asked | {"response": {"id": "x"}}))).startswith(
        "no_usage: "
    )
    assert refused(decode("provider", record([1]))).startswith("invalid: ")
