"""The rule files as a JSON Schema, for editors that complete and check while one types.

It says what each value looks like; what goes together only `governor rules check` knows.
"""

from typing import Any, Final

from governor.core.periods import Every
from governor.core.rules.shared import Fail, Level, Mode
from governor.core.scopes import DIMENSIONS
from governor.rulebook import actions, rulefile, thresholds
from governor.rulebook.kinds import KINDS
from governor.rulebook.scope import EVERYTHING

ID: Final = "https://governor.example/rules.schema.json"

_AMOUNT: Final = {
    "type": "string",
    "pattern": r"^[0-9]{1,20}(\.[0-9]{1,20})?( USD|[kMG]? (requests|tokens))$",
    "examples": ["100 USD", "10k requests", "2M tokens"],
}
_TEXTS: Final = {
    "anyOf": [
        {"$ref": "#/$defs/text"},
        {"type": "array", "items": {"$ref": "#/$defs/text"}, "minItems": 1, "maxItems": 100},
    ]
}
_CONDITION: Final = {
    "anyOf": [
        _TEXTS,
        {
            "type": "object",
            "properties": {"like": _TEXTS, "not": {"$ref": "#/$defs/condition"}},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}

_WORDS: Final[dict[str, dict[str, Any]]] = {
    "id": {
        "type": "string",
        "pattern": "^[a-z][a-z0-9-]{0,62}$",
        "description": "Its name for good; a rule with a new id is a new rule.",
    },
    "kind": {"enum": list(KINDS), "description": "What the rule computes."},
    "owner": {"type": "string", "maxLength": 100, "description": "Who is responsible."},
    "summary": {
        "type": "string",
        "maxLength": 300,
        "description": "What to tell people, with placeholders such as {{ value }}.",
    },
    "runbook": {"type": "string", "format": "uri", "description": "What to do, as an address."},
    "mode": {
        "enum": [mode.value for mode in Mode],
        "default": Mode.NOTIFY.value,
        "description": "off, shadow (recorded only), notify (people are told), enforce (it acts).",
    },
    "where": {
        "description": f"Which usage it is about: {EVERYTHING}, or conditions on dimensions.",
        "anyOf": [
            {"const": EVERYTHING},
            {
                "type": "object",
                "properties": {name: {"$ref": "#/$defs/condition"} for name in DIMENSIONS},
                "additionalProperties": False,
                "minProperties": 1,
            },
        ],
    },
    "per": {
        "description": "A dimension or more: each of their values has a limit of its own.",
        "anyOf": [
            {"enum": list(DIMENSIONS)},
            {"type": "array", "items": {"enum": list(DIMENSIONS)}, "uniqueItems": True},
        ],
    },
    "limit": {**_AMOUNT, "description": "How much a group may use in a period."},
    "period": {
        "enum": [every.value for every in Every],
        "description": "The calendar period, in timezone.",
    },
    "timezone": {"type": "string", "default": "UTC", "description": "Such as Europe/Berlin."},
    "for": {
        "type": "string",
        "pattern": "^[0-9]{1,6}[smhd]$",
        "default": "0s",
        "description": "How long a threshold must stay reached before anyone is told.",
    },
    "thresholds": {
        "type": "array",
        "minItems": 1,
        "maxItems": thresholds.MAX_THRESHOLDS,
        "items": {"$ref": "#/$defs/threshold"},
        "description": "They rise: each is more than the one before it.",
    },
    "actions": {
        "type": "object",
        "maxProperties": actions.MAX_ACTIONS,
        "additionalProperties": {"$ref": "#/$defs/action"},
        "description": "What thresholds may call for, by name.",
    },
}
NEEDED: Final = {"budget": ("id", "kind", "owner", "summary", "limit", "period", "thresholds")}
"""Keys without which a rule of a kind is none; `defaults` may give some."""


def schema() -> dict[str, Any]:
    """Return the schema of a rule file; each kind has its keys by `if` and `then`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Rules of governor",
        "type": "object",
        "required": ["version", "rules"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": 1},
            "defaults": {
                "type": "object",
                "properties": {name: _WORDS[name] for name in rulefile.DEFAULTS},
                "additionalProperties": False,
                "description": "What rules of this file that do not say otherwise have.",
            },
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
        },
        "$defs": {
            "text": {"type": ["string", "number", "boolean"]},
            "condition": _CONDITION,
            "threshold": _threshold(),
            "action": _action(),
            "rule": {
                "type": "object",
                "required": ["id", "kind"],
                "properties": {"kind": _WORDS["kind"]},
                "allOf": [
                    {
                        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                        "then": {
                            "properties": {name: _WORDS[name] for name in found.keys},
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


def _threshold() -> dict[str, Any]:
    at = {
        "type": "string",
        "anyOf": [
            {"pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?%$"},
            {"pattern": _AMOUNT["pattern"]},
        ],
        "examples": ["80%", "80 USD"],
        "description": "A share of the limit, or an amount in its unit.",
    }
    level = {"enum": [str(level) for level in Level], "description": "How bad it is."}
    named = {"description": "Names of actions of the rule.", **_TEXTS}
    words = dict(zip(thresholds.KEYS, (at, level, named), strict=True))
    return _object(words, needed=("at", "level"))


def _action() -> dict[str, Any]:
    words = {
        "do": {"const": "throttle"},
        "to": {
            "type": "string",
            "pattern": "^[0-9]{1,9}/(s|min|h|day)$",
            "examples": ["2/min"],
            "description": "How many requests pass in a span.",
        },
        "each": {
            "enum": [*DIMENSIONS, actions.TOGETHER],
            "default": "user",
            "description": "Whose rate it is; none: one for the whole group.",
        },
        "until": {"const": "period_end"},
        "fail": {
            "enum": [fail.value for fail in Fail],
            "default": Fail.OPEN.value,
            "description": "What becomes of it when gates hear nothing of the daemon.",
        },
    }
    return _object({name: words[name] for name in actions.KEYS}, needed=("do", "to"))


def _object(words: dict[str, Any], needed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": words,
        "required": list(needed),
        "additionalProperties": False,
    }
