"""What people said and who they are reaches no table, log, reject or message.

Canaries stand in every place of every format where senders have been seen to put prompts, answers,
addresses and keys, in good records and in broken ones.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.unit.samples import Sample, protobuf, record, sample
from tests.unit.site import NOON, Clock

WORDS = "kingfisher"
"""In every canary that somebody said or wrote."""
PROMPT = f"please summarise the {WORDS} merger"
MAIL = f"{WORDS}@example.com"
KEY = f"sk-{WORDS}-0123456789abcdef"
WRITTEN_MS = 1_795_518_000_000
"""An hour before noon."""


def native(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": "e-1",
        "source": "app",
        "event_time": "2026-11-24T11:00:00Z",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 10,
        "output_tokens": 1,
    } | fields


def natives() -> Iterator[Any]:
    """Yield events with addresses and keys for names, and others with what has no field."""
    for name in ("customer", "user", "api_key", "session_id", "team", "project", "segment"):
        yield native(event_id=name, **{name: MAIL})
        yield native(event_id=f"key-{name}", **{name: KEY})
    yield native(event_id="tags", tags={"mail": MAIL, "owner": f"Ann <{MAIL}>"})
    yield native(prompt=PROMPT)
    yield native(messages=[{"role": "user", "content": PROMPT}])
    yield native(input_tokens=PROMPT)
    yield native(status=PROMPT)
    yield native(event_time=PROMPT)
    yield native(reported_cost_usd=PROMPT)
    yield native(tags=[PROMPT])
    yield {PROMPT: 1}
    yield [PROMPT]
    yield PROMPT


def cloudevents() -> Iterator[Any]:
    """Yield events with canaries in data, extensions and the subject."""
    event = sample("cloudevent_structured") | {"time": "2026-11-24T11:00:00Z"}
    yield event | {"id": "c1", "subject": MAIL, "myextension": PROMPT}
    yield event | {"id": "c2", "data": event["data"] | {"prompt": PROMPT, "messages": [PROMPT]}}
    yield event | {"id": "c3", "data": event["data"] | {"tags": {"said": PROMPT * 9, "by": MAIL}}}
    yield event | {"id": "c4", "data": PROMPT}
    yield event | {"id": "c5", "data": event["data"] | {"input_tokens": PROMPT}}
    yield event | {"id": "c6", "type": "", "data": {"content": PROMPT}}
    yield event | {"id": "c7", "time": PROMPT}


def litellm() -> Iterator[Any]:
    """Yield payloads as they are when nobody has turned message logging off."""
    payload = sample("litellm_standard_logging_payload") | {"endTime": 1795518000.0}
    said = [{"role": "user", "content": PROMPT}]
    metadata = payload["metadata"] | {
        "user_api_key_user_email": MAIL,
        "user_api_key_alias": MAIL,
        "requester_metadata": {"note": PROMPT},
        "spend_logs_metadata": {"text": PROMPT * 9, "mail": MAIL},
    }
    full = payload | {
        "messages": said,
        "response": {"choices": [{"message": {"content": PROMPT}}]},
        "metadata": metadata,
        "end_user": MAIL,
        "request_tags": [f"who:{MAIL}"],
        "error_str": PROMPT,
        "error_information": {"error_message": PROMPT, "traceback": PROMPT},
        "model_parameters": {"system": PROMPT},
    }
    yield full | {"litellm_call_id": "l1"}
    yield full | {"litellm_call_id": "l2", "status": "failure"}
    yield full | {"litellm_call_id": "l3", "model": None}
    yield full | {"litellm_call_id": "l4", "prompt_tokens": PROMPT}
    yield [full | {"litellm_call_id": "l5"}, full | {"litellm_call_id": "l6", "endTime": PROMPT}]


def spans() -> Iterator[Any]:
    """Yield exports with prompts in attributes, events and names of spans."""
    export = sample("otlp_span")
    (span,) = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    span |= {"startTimeUnixNano": "1795517999000000000", "endTimeUnixNano": "1795518000000000000"}

    def said(key: str, text: str = PROMPT) -> dict[str, Any]:
        return {"key": key, "value": {"stringValue": text}}

    span["name"] = PROMPT
    span["attributes"] += [
        said("gen_ai.prompt"),
        said("gen_ai.prompt.0.content"),
        said("gen_ai.completion.0.content"),
        said("gen_ai.input.messages"),
        said("gen_ai.output.messages"),
        said("gen_ai.system_instructions"),
        said("traceloop.entity.input"),
        said("input.value"),
        said("output.value"),
        said("user.email", MAIL),
        said("customer", MAIL),
        said("api_key", KEY),
    ]
    span["events"] = [{"name": "gen_ai.content.prompt", "attributes": [said("gen_ai.prompt")]}]
    span["status"] = {"message": PROMPT}
    yield export
    worse = json.loads(json.dumps(export))
    (bad,) = worse["resourceSpans"][0]["scopeSpans"][0]["spans"]
    bad["attributes"] += [said("gen_ai.usage.input_tokens")]
    yield worse


def providers() -> Iterator[Any]:
    """Yield whole responses."""
    response = {
        "id": "r1",
        "object": "chat.completion",
        "created": 1795518000,
        "model": "gpt-4o",
        "choices": [{"message": {"content": PROMPT}}],
        "usage": sample("openai_chat_usage"),
    }
    yield {"source": "app", "user": MAIL, "response": response}
    yield {"source": "app", "response": response | {"id": "r2", "usage": {"prompt_tokens": PROMPT}}}
    yield {"source": "app", "prompt": PROMPT, "response": response}
    yield {"source": "app", "response": {"content": PROMPT}}
    yield {"source": "app", "response": [response, {"delta": PROMPT}]}


def openmeter() -> Iterator[Any]:
    """Yield events with canaries in the text inside and in the subject."""
    event = sample("openmeter_kafka_internal")["value"] | {"time": 1795518000}
    data = json.loads(event["data"]) | {"prompt": PROMPT}
    yield event | {"id": "o1", "subject": MAIL, "data": json.dumps(data)}
    yield event | {"id": "o2", "data": PROMPT}
    yield event | {"id": "o3", "time": PROMPT}


def business() -> Iterator[Any]:
    """Yield statements about an address, and with what has no field."""
    statement = {
        "event_id": "b1",
        "source": "crm",
        "event_time": "2026-11-24T11:00:00Z",
        "measure": "revenue",
        "value": 1,
        "customer": MAIL,
    }
    yield statement
    yield statement | {"note": PROMPT}
    yield statement | {"value": PROMPT}
    yield statement | {"outcome": MAIL}


RECORDS: dict[str, list[Any]] = {
    "native": list(natives()),
    "cloudevents": list(cloudevents()),
    "litellm": list(litellm()),
    "otlp_json": list(spans()),
    "otlp_proto": [protobuf(next(spans()))],
    "provider": list(providers()),
    "openmeter": list(openmeter()),
    "business": list(business()),
}


def broken(value: bytes) -> Iterator[bytes]:
    """Yield a record whole, cut short in the middle of canaries, and spoilt."""
    yield value
    at = value.find(WORDS.encode())
    if at > 0:
        yield value[: at + 5]
        yield value[: at + len(WORDS)]
        yield value[:at].replace(b'"', b"'") + value[at:]
        yield value[: at - 3] + b"\x00" + value[at:]
        yield value[at:]


def values(name: str) -> list[bytes]:
    """Return all records of a format, good and broken."""
    documents = [one if isinstance(one, bytes) else record(one).value for one in RECORDS[name]]
    return [value for document in documents if document for value in broken(document)]


@pytest.mark.parametrize(("name", "read_as"), [*((n, n) for n in RECORDS), ("all", "auto")])
def test_no_canary_gets_in(name: str, read_as: str, tmp_path: Path) -> None:
    """Neither a cell of any table, nor the bytes of the file, nor the log holds one."""
    found = [v for n in RECORDS for v in values(n)] if name == "all" else values(name)
    place = PartitionId("usage", 0)
    path = tmp_path / "g.duckdb"
    rates = RateTable(Tariffs(Catalogue()))
    with structlog.testing.capture_logs() as logged:
        store = Store(FileOptions(path, 400_000_000, 1, 64_000_000, 0), rates, lambda: NOON)
        store.resume({place: (Resumption(0, Start.NEW_TOPIC, 0), "id")}, NOON)
        intake = Intake(
            formats={"usage": FORMATS[read_as]({})},
            window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
            clock=Clock(NOON),
            max_record_bytes=1_000_000,
            watermarks={},
        )
        records = [
            Sample(value, offset=n, timestamp=1795518000000) for n, value in enumerate(found)
        ]
        batch = intake.batch(
            Polled({place: records}, {place: Position(0, "id")}, {place: len(records)})
        )
        stored = store.append(batch)
        ask = store.database.connection.execute
        tables = [name for (name,) in ask("SELECT table_name FROM duckdb_tables()").fetchall()]
        cells = {name: ask(f"FROM {name}").to_arrow_table().to_pylist() for name in tables}
        store.close()
    assert stored is not None
    tally = stored.tallies[place]
    assert tally.counted + tally.duplicates > 0
    assert tally.rejected > 0
    leaks = [
        (table, row) for table, rows in cells.items() for row in rows if WORDS in str(row).lower()
    ]
    assert leaks == []
    for file in tmp_path.iterdir():
        assert WORDS.encode() not in file.read_bytes().lower()
    assert WORDS not in str(logged)
    assert WORDS not in str([reject.detail for reject in batch.rejects])


def test_the_canaries_are_there() -> None:
    """The test above looks for what its records hold."""
    for name, documents in RECORDS.items():
        assert sum(WORDS.encode() in value for value in values(name)) >= len(documents)
