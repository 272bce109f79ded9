"""The rule files as a JSON Schema, for editors that complete and check while one types.

It says what each value looks like; what goes together only `governor rules check` knows.
"""

from typing import Any, Final

from governor.core.rules.actions import Deed, Fail, Until
from governor.core.rules.shared import Level
from governor.core.scopes import DIMENSIONS
from governor.rulebook import actions, allow, rulefile
from governor.rulebook.kinds import KINDS
from governor.rulebook.words import AT, CONDITION, TEXTS, WORDS, word

ID: Final = "https://governor.example/rules.schema.json"

_KIND: Final = {"enum": list(KINDS), "description": "What the rule computes."}
_ALWAYS: Final = ("id", "kind", "owner", "summary", "thresholds")
NEEDED: Final = {
    "budget": (*_ALWAYS, "limit", "period"),
    "ratio": (*_ALWAYS, "numerator", "denominator", "guards"),
    "absence": _ALWAYS,
    "query": (*_ALWAYS, "sql", "value", "unit", "window"),
    "spike": _ALWAYS,
    "mix_drift": _ALWAYS,
    "forecast": (*_ALWAYS, "limit", "period"),
}
"""Keys without which a rule of a kind is none; `defaults` may give some."""


def schema() -> dict[str, Any]:
    """Return the schema of a rule file; each kind has its keys by `if` and `then`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Rules of governor",
        "type": "object",
        "required": ["version"],
        "anyOf": [{"required": ["rules"]}, {"required": ["allow"]}],
        "additionalProperties": False,
        "properties": {
            "version": {"const": 1},
            "defaults": {
                "type": "object",
                "properties": {name: WORDS[name] for name in rulefile.DEFAULTS},
                "additionalProperties": False,
                "description": "What rules of this file that do not say otherwise have.",
            },
            "allow": {
                "type": "array",
                "maxItems": allow.MAX_ALLOWS,
                "items": {"$ref": "#/$defs/allow"},
                "description": "Who is let through whatever rules say.",
            },
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
        },
        "$defs": {
            "text": {"type": ["string", "number", "boolean"]},
            "condition": CONDITION,
            **{f"{kind}_threshold": _threshold(kind) for kind in KINDS},
            "action": _action(),
            "allow": _object(
                {
                    "where": {**WORDS["where"], "description": "Whom, by dimension."},
                    "reason": {"type": "string", "description": "Why."},
                    "until": {
                        "type": "string",
                        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
                        "description": "The first day on which it holds no more, UTC.",
                    },
                },
                needed=("where", "reason"),
            ),
            "rule": {
                "type": "object",
                "required": ["id", "kind"],
                "properties": {"kind": _KIND},
                "allOf": [
                    {
                        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                        "then": {
                            "properties": {
                                **{name: word(kind, name) for name in found.keys if name != "kind"},
                                "kind": _KIND,
                                "thresholds": {
                                    **WORDS["thresholds"],
                                    "items": {"$ref": f"#/$defs/{kind}_threshold"},
                                },
                            },
                            "required": [
                                name for name in NEEDED[kind] if name not in rulefile.DEFAULTS
                            ],
                            "additionalProperties": False,
                        },
                    }
                    for kind, found in KINDS.items()
                ],
            },
        },
    }


def _threshold(kind: str) -> dict[str, Any]:
    clear = {**AT[kind], "description": "Where it holds no more, once it was reached."}
    level = {"enum": [str(level) for level in Level], "description": "How bad it is."}
    named = {"description": "Names of actions of the rule.", **TEXTS}
    words = {"at": AT[kind], "level": level}
    words |= {"actions": named} if "actions" in KINDS[kind].keys else {}
    words |= {"clear": clear} if kind != "budget" else {}
    return _object(words, needed=("at", "level"))


def _action() -> dict[str, Any]:
    rate = {
        "type": "string",
        "pattern": "^[0-9]{1,9}/(s|min|h|day)$",
        "examples": ["2/min"],
        "description": "How many requests pass in a span.",
    }
    models = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": actions.MAX_MODELS,
        "additionalProperties": {"type": "string"},
        "description": "A model or a glob, and what to use instead.",
    }
    words = {
        "do": {"enum": [deed.value for deed in Deed], "description": "What becomes of requests."},
        "to": {"anyOf": [rate, models], "description": "The rate, or the models."},
        "each": {
            "enum": [*DIMENSIONS, actions.TOGETHER],
            "default": "user",
            "description": "Whose rate it is; none: one for the whole group.",
        },
        "until": {
            "anyOf": [
                {"enum": [until.value for until in Until]},
                {"type": "string", "pattern": "^[0-9]{1,6}(s|m|h|d)$"},
            ],
            "description": "When its reason ends: with the period, the alert, or after so long.",
        },
        "fail": {
            "enum": [fail.value for fail in Fail],
            "default": Fail.OPEN.value,
            "description": "What becomes of it when gates hear nothing of the daemon.",
        },
        "approval": {
            "enum": list(actions.APPROVAL),
            "default": "auto",
            "description": "Whether it begins by itself, or when a person approves it.",
        },
        "max_affected": {
            "type": ["string", "integer"],
            "pattern": "^[0-9]{1,9}%?( of [a-z_]+)?$",
            "examples": ["25%", "200 of user"],
            "description": "How many it may touch; more wait for approval.",
        },
        "percent": {
            "type": "string",
            "pattern": "^[0-9]{1,3}%$",
            "default": "100%",
            "description": "The share of users that it is for, always the same ones.",
        },
        "announce": {
            "type": "string",
            "pattern": "^[0-9]{1,6}(s|m|h|d)$",
            "description": "How long before it begins people are told.",
        },
        "early": {
            "type": "boolean",
            "default": False,
            "description": "Count what will be spent before it bites as if it were.",
        },
    }
    return _object({name: words[name] for name in actions.KEYS}, needed=("do",))


def _object(words: dict[str, Any], needed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": words,
        "required": list(needed),
        "additionalProperties": False,
    }
