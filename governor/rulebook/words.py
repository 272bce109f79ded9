"""What each key of a rule file looks like and means, for the JSON Schema."""

from typing import Any, Final

from governor.core.periods import Every
from governor.core.rules.ratio import Against
from governor.core.rules.shared import Mode, Unknown
from governor.core.rules.spike import Against as SpikeAgainst
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS
from governor.rulebook import (
    actions,
    common,
    forecast,
    mix_drift,
    query,
    spike,
    thresholds,
)
from governor.rulebook.scope import EVERYTHING

_AMOUNT: Final = {
    "type": "string",
    "pattern": r"^[0-9]{1,20}(\.[0-9]{1,20})?( USD|[kMG]? (requests|tokens))$",
    "examples": ["100 USD", "10k requests", "2M tokens"],
}
_PERCENT: Final = r"^[0-9]{1,6}(\.[0-9]{1,6})?%$"
TEXTS: Final = {
    "anyOf": [
        {"$ref": "#/$defs/text"},
        {"type": "array", "items": {"$ref": "#/$defs/text"}, "minItems": 1, "maxItems": 100},
    ]
}
CONDITION: Final = {
    "anyOf": [
        TEXTS,
        {
            "type": "object",
            "properties": {"like": TEXTS, "not": {"$ref": "#/$defs/condition"}},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}


def _span(description: str, default: str | None) -> dict[str, Any]:
    found = {"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["5m", "1h", "7d"]}
    return {**found, "description": description, **({"default": default} if default else {})}


WORDS: Final[dict[str, dict[str, Any]]] = {
    "id": {
        "type": "string",
        "pattern": "^[a-z][a-z0-9-]{0,62}$",
        "description": "Its name for good; a rule with a new id is a new rule.",
    },
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
    "renamed_from": {"description": "Former ids, whose alerts go on under this one.", **TEXTS},
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
    "metric": {
        "enum": [measure.value for measure in Measure],
        "default": Measure.COST.value,
        "description": "What is watched.",
    },
    "baseline": {
        "type": "object",
        "required": ["method"],
        "additionalProperties": False,
        "properties": {
            "method": {
                "enum": [method.value for method in SpikeAgainst],
                "default": SpikeAgainst.LEARNED.value,
                "description": "What is usual: learned, or what was a day or a week ago.",
            },
            "times": {
                "type": "string",
                "pattern": r"^[0-9]{1,3}(\.[0-9]{1,2})?x$",
                "examples": ["2x"],
                "description": "How many times as much as then is told.",
            },
            "window": {
                "enum": list(spike.WINDOWS),
                "default": "1h",
                "description": "The hours that are compared with those of then.",
            },
        },
        "description": "What usage is compared with.",
    },
    "sensitivity": {
        "enum": list(spike.SENSITIVITY),
        "default": "medium",
        "description": "How soon a spike is told; higher finds more and errs more.",
    },
    "cool_down": _span("For how long after a spike only one of twice its size is told.", "1d"),
    "lookback": _span("How much of the past is learned from at a start.", "42d"),
    "share_of": {
        "enum": [Measure.REQUESTS.value, Measure.COST.value],
        "default": Measure.REQUESTS.value,
        "description": "What shares are of.",
    },
    "by": {
        "enum": list(DIMENSIONS),
        "default": "model",
        "description": "Whose shares: the values of this dimension.",
    },
    "classes": {
        "type": "object",
        "additionalProperties": TEXTS,
        "minProperties": 1,
        "maxProperties": mix_drift.MAX_CLASSES,
        "description": "Values that are put together, by patterns.",
    },
    "unlisted": {
        "enum": ["fire", "keep"],
        "default": "fire",
        "description": "Whether a share of values that no class names is told.",
    },
    "against": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "windows": {
                "type": "integer",
                "minimum": mix_drift.MIN_WINDOWS,
                "maximum": mix_drift.MAX_WINDOWS,
                "default": 28,
                "description": "So many windows before, of the same length.",
            },
            "target": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": _PERCENT},
                "minProperties": 1,
                "description": "The share that each class is to have.",
            },
        },
        "description": "What shares are compared with.",
    },
    "confidence": {
        "type": "string",
        "pattern": _PERCENT,
        "default": "80%",
        "description": "How sure it must be that the period passes a threshold.",
    },
    "min_history": _span("How long a group must be known to be looked ahead for.", "14d"),
    "known": {
        "type": "object",
        "propertyNames": {"enum": list(DIMENSIONS)},
        "additionalProperties": TEXTS,
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
AT: Final[dict[str, dict[str, Any]]] = {
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
    "spike": {**_AMOUNT, "description": "How much beyond the usual, in the unit of the metric."},
    "mix_drift": {
        "type": "string",
        "pattern": r"^[0-9]{1,3}(\.[0-9]{1,4})?pp$",
        "examples": ["10pp"],
        "description": "By how many points a share moved.",
    },
    "forecast": {
        "type": "string",
        "anyOf": [{"pattern": _PERCENT}, {"pattern": _AMOUNT["pattern"]}],
        "examples": ["100%", "9000 USD"],
        "description": "What the period will come to, as a share of the limit or an amount.",
    },
}


_OF_KIND: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("spike", "guards"): {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "min_increase": {
                "type": "string",
                "pattern": _PERCENT,
                "default": "30%",
                "description": "How much more than usual it must be.",
            },
            "min_day_share": {
                "type": "string",
                "pattern": _PERCENT,
                "default": "5%",
                "description": "How much of a usual day the excess must be.",
            },
        },
        "description": "What an excess must be at least to count.",
    },
    ("mix_drift", "guards"): {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "min_requests": {
                "type": "integer",
                "minimum": 1,
                "default": 1000,
                "description": "Requests that a window must hold for its shares to count.",
            },
        },
        "description": "What must stand behind shares.",
    },
    ("forecast", "period"): {
        "enum": [every.value for every in forecast.PERIODS],
        "description": "The calendar period, in timezone.",
    },
}
"""Keys that say another thing in a kind than in others."""


def word(kind: str, name: str) -> dict[str, Any]:
    """Return what a key of a kind looks like."""
    return _OF_KIND.get((kind, name), WORDS[name])
