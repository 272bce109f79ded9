"""The rule files as a JSON Schema, for editors that complete and check while one types.

It says what each value looks like; what goes together only `governor rules check` knows.
"""

from typing import Any, Final

from governor.core.periods import Every
from governor.core.rules.ratio import Against
from governor.core.rules.shared import Fail, Level, Mode, Unknown
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS
from governor.rulebook import actions, common, query, rulefile, thresholds
from governor.rulebook.kinds import KINDS
from governor.rulebook.scope import EVERYTHING

ID: Final = "https://governor.example/rules.schema.json"

_AMOUNT: Final = {
    "type": "string",
    "pattern": r"^[0-9]{1,20}(\.[0-9]{1,20})?( USD|[kMG]? (requests|tokens))$",
    "examples": ["100 USD", "10k requests", "2M tokens"],
}
_PERCENT: Final = r"^[0-9]{1,6}(\.[0-9]{1,6})?%$"
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


def _span(description: str, default: str | None) -> dict[str, Any]:
    found = {"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["5m", "1h", "7d"]}
    return {**found, "description": description, **({"default": default} if default else {})}


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
    "limit_from": {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "additionalProperties": _AMOUNT,
        "minProperties": 1,
        "description": "Other limits, for periods that begin on a day or after it.",
    },
    "rollover": {
        "type": "string",
        "examples": ["50 USD", "20%"],
        "description": "The most of what was left of the period before that may be used first.",
    },
    "period": {
        "enum": [every.value for every in Every],
        "description": "The calendar period, in timezone.",
    },
    "timezone": {"type": "string", "default": "UTC", "description": "Such as Europe/Berlin."},
    "for": _span("How long a threshold must stay reached before anyone is told.", "0s"),
    "every": _span("How often it is judged.", None),
    "settle": _span("How long late usage is waited for.", "0s"),
    "keep_firing_for": _span("How long all must be well before it is over.", "0s"),
    "window": _span("What it is computed over: a span that ends now.", None),
    "timeout": _span("When the question is given up.", "5s"),
    "forget_after": _span("How long after its last event a group is looked for.", "7d"),
    "on_no_data": {
        "enum": [policy.value for policy in Unknown],
        "default": Unknown.KEEP.value,
        "description": "What to make of a number that is not known.",
    },
    "on_error": {
        "enum": [Unknown.KEEP.value, Unknown.FIRE.value],
        "default": Unknown.KEEP.value,
        "description": "What to make of a number that could not be computed.",
    },
    "max_alerts": {
        "type": "integer",
        "minimum": 1,
        "maximum": common.MAX_ALERTS,
        "description": "Alerts that may be open at a time; beyond it the greatest are kept.",
    },
    "labels": {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/text"},
        "minProperties": 1,
        "maxProperties": common.MAX_LABELS,
        "description": "Names and values of your own, for routes.",
    },
    "renamed_from": {"description": "Former ids, whose alerts go on under this one.", **_TEXTS},
    "numerator": {"enum": [m.value for m in Measure], "description": "What is measured."},
    "denominator": {
        "enum": [against.value for against in Against],
        "description": "Against what; revenue and outcomes come from business events.",
    },
    "direction": {
        "enum": ["above", "below"],
        "default": "above",
        "description": "Whether much is bad, or little.",
    },
    "guards": {
        "type": "object",
        "required": ["min_denominator"],
        "additionalProperties": False,
        "properties": {
            "min_denominator": {
                "type": ["string", "integer"],
                "examples": ["500 USD", 100],
                "description": "What the denominator must be for the number to count.",
            },
            "min_numerator": {**_AMOUNT, "description": "Likewise of the numerator."},
            "max_age": _span("How old what is told of the denominator may be.", None),
        },
        "description": "When the number counts at all.",
    },
    "known": {
        "type": "object",
        "propertyNames": {"enum": list(DIMENSIONS)},
        "additionalProperties": _TEXTS,
        "minProperties": 1,
        "description": "Groups that are looked for whether they were ever seen or not.",
    },
    "sql": {
        "type": "string",
        "maxLength": query.MAX_SQL_CHARACTERS,
        "description": "One SELECT on the views, of the columns of per and the value, in"
        " [$from, $to).",
    },
    "value": {"type": "string", "description": "The column that is the number."},
    "unit": {"enum": list(query.UNITS), "description": "What the number is in."},
    "thresholds": {
        "type": "array",
        "minItems": 1,
        "maxItems": thresholds.MAX_THRESHOLDS,
        "description": "They rise: each is more than the one before it.",
    },
    "actions": {
        "type": "object",
        "maxProperties": actions.MAX_ACTIONS,
        "additionalProperties": {"$ref": "#/$defs/action"},
        "description": "What thresholds may call for, by name.",
    },
}
_ALWAYS: Final = ("id", "kind", "owner", "summary", "thresholds")
NEEDED: Final = {
    "budget": (*_ALWAYS, "limit", "period"),
    "ratio": (*_ALWAYS, "numerator", "denominator", "guards"),
    "absence": _ALWAYS,
    "query": (*_ALWAYS, "sql", "value", "unit", "window"),
}
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
            **{f"{kind}_threshold": _threshold(kind) for kind in KINDS},
            "action": _action(),
            "rule": {
                "type": "object",
                "required": ["id", "kind"],
                "properties": {"kind": _WORDS["kind"]},
                "allOf": [
                    {
                        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                        "then": {
                            "properties": {
                                **{name: _WORDS[name] for name in found.keys},
                                "thresholds": {
                                    **_WORDS["thresholds"],
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


_AT: Final[dict[str, dict[str, Any]]] = {
    "budget": {
        "type": "string",
        "anyOf": [{"pattern": _PERCENT}, {"pattern": _AMOUNT["pattern"]}],
        "examples": ["80%", "80 USD"],
        "description": "A share of the limit, or an amount in its unit.",
    },
    "ratio": {
        "type": "string",
        "anyOf": [{"pattern": _PERCENT}, {"pattern": _AMOUNT["pattern"]}],
        "examples": ["25%", "0.50 USD"],
        "description": "A share of the revenue, or so much for each of the denominator.",
    },
    "absence": _span("For how long nothing came.", None),
    "query": {
        "type": ["string", "number"],
        "examples": ["20 USD", "25%", "100", "15m"],
        "description": "The number, in the unit of the rule.",
    },
}


def _threshold(kind: str) -> dict[str, Any]:
    clear = {**_AT[kind], "description": "Where it holds no more, once it was reached."}
    level = {"enum": [str(level) for level in Level], "description": "How bad it is."}
    named = {"description": "Names of actions of the rule.", **_TEXTS}
    words = {"at": _AT[kind], "level": level}
    words |= {"actions": named} if kind == "budget" else {"clear": clear}
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
