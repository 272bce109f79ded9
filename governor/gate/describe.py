"""The description of the gate's HTTP API, in OpenAPI 3.1, made from what it reads and answers."""

from functools import cache
from typing import Any, Final

import msgspec

from governor import __version__
from governor.core.directives import Directive
from governor.core.scopes import DIMENSIONS
from governor.gate.decide import Decision
from governor.gate.gateways import GATEWAYS, NGINX
from governor.gate.reading import MAX_BATCH, MAX_VALUE_CHARS

_JSON: Final = "application/json"
_REFS: Final = "#/components/schemas/{name}"
_SAID: Final = {
    "governor-decision": "allow, throttle, downgrade, block or unknown",
    "governor-reason": "one sentence for people",
    "governor-rule": "the id of the rule",
    "governor-directive": "the id of the directive",
    "governor-until": "when the reason ends, UTC",
    "governor-rate": "requests in a span, such as 2/min",
    "governor-model": "the model to use instead",
    "governor-shadow": "rules in shadow mode that would have refused or downgraded it",
    "governor-status": "the status that the client should get",
    "retry-after": "how many seconds to wait at least",
}
_BEARER: Final[list[dict[str, list[str]]]] = [{}, {"caller": []}]


@cache
def description() -> dict[str, Any]:
    """Return the description."""
    _, components = msgspec.json.schema_components([Decision, Directive], ref_template=_REFS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "governor gate",
            "version": __version__,
            "description": "Answers gateways whether a request may run, and on which model.",
        },
        "paths": {
            "/v1/decide": {"post": _decide()},
            **{f"/v1/auth/{name}": {"get": _auth(name)} for name in GATEWAYS},
            "/v1/directives": {"get": _page("What is obeyed now.", _listed(), secret=True)},
            "/readyz": {"get": _plain_page("Whether the topic was read to its end.", "503")},
            "/healthz": {"get": _plain_page("Whether the process answers.")},
            "/metrics": {"get": _plain_page("Metrics for Prometheus.")},
            "/openapi.json": {"get": _page("This description.", {"type": "object"})},
        },
        "components": {
            "schemas": {
                **components,
                "Dimensions": _dimensions(),
                "Problem": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                    "additionalProperties": False,
                },
            },
            "securitySchemes": {"caller": {"type": "http", "scheme": "bearer"}},
        },
    }


def _decide() -> dict[str, Any]:
    one, answer = _ref("Dimensions"), _ref("Decision")
    return {
        "summary": "Whether a request may run, or each of several; asking draws from its rate.",
        "operationId": "decide",
        "security": _BEARER,
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": {
                        "anyOf": [one, {"type": "array", "items": one, "maxItems": MAX_BATCH}]
                    }
                }
            },
        },
        "responses": {
            "200": _with("Decided.", {"anyOf": [answer, {"type": "array", "items": answer}]}),
            **{
                code: _with(why, _ref("Problem"))
                for code, why in (
                    ("400", "The body is none of these; the error names what is wrong."),
                    ("401", "The caller shows no token, or another."),
                    ("413", "The body is too large."),
                    ("415", "The body is not said to be JSON, or is encoded."),
                )
            },
        },
    }


def _auth(gateway: str) -> dict[str, Any]:
    refusals = (
        {"403": "Refused; governor-status says with which status."}
        if gateway == NGINX
        else {
            "401": "It is not known who asks.",
            "403": "Blocked.",
            "429": "Beyond the rate.",
        }
    )
    return {
        "summary": f"Whether a request may run, as {gateway} asks; who asks is in its headers.",
        "operationId": f"auth_{gateway}",
        "responses": {
            "200": {"description": "It may run.", "headers": _headers()},
            **{
                code: {
                    **_with(why, {"anyOf": [_ref("Decision"), _ref("Problem")]}),
                    "headers": _headers(),
                }
                for code, why in refusals.items()
            },
        },
    }


def _headers() -> dict[str, Any]:
    return {
        name: {"description": said, "schema": {"type": "string"}} for name, said in _SAID.items()
    }


def _page(summary: str, schema: dict[str, Any], *, secret: bool = False) -> dict[str, Any]:
    responses = {"200": _with(summary, schema)}
    if secret:
        responses["401"] = _with("The caller shows no token, or another.", _ref("Problem"))
    return {"summary": summary, "responses": responses, **({"security": _BEARER} if secret else {})}


def _plain_page(summary: str, *more: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"summary": summary, "responses": dict.fromkeys(("200", *more), answer)}


def _listed() -> dict[str, Any]:
    time = {"type": "string", "format": "date-time"}
    lease = {
        "type": "object",
        "properties": {
            "sent_at": time,
            "until": time,
            "age_s": {"type": "number"},
            "fresh": {"type": "boolean"},
        },
    }
    return {
        "type": "object",
        "properties": {
            "read": {"type": "boolean"},
            "now": time,
            "lease": {"anyOf": [lease, {"type": "null"}]},
            "known": {"type": "integer"},
            "in_force": {"type": "integer"},
            "directives": {"type": "array", "items": _ref("Directive")},
        },
        "required": ["read", "now", "lease", "known", "in_force", "directives"],
    }


def _dimensions() -> dict[str, Any]:
    value = {"anyOf": [{"type": "string", "maxLength": MAX_VALUE_CHARS}, {"type": "null"}]}
    return {
        "type": "object",
        "properties": dict.fromkeys(DIMENSIONS, value),
        "additionalProperties": False,
        "description": "What the usage event of the request will say; left out is missing.",
    }


def _with(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REFS.format(name=name)}
