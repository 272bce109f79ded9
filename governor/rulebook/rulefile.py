"""One rule file: its version, its defaults, and its rules, each read by its kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from governor.core.allowing import Allow
from governor.core.rules.shared import Rule
from governor.documents import Document, Entry, Node, Problem
from governor.documents.sections import Report, Section, choice, listed, shown, suggestion
from governor.rulebook.allow import allow_list
from governor.rulebook.kinds import KINDS

VERSION: Final = "1"
KEYS: Final = ("version", "defaults", "allow", "rules")
DEFAULTS: Final = (
    "owner",
    "mode",
    "timezone",
    "runbook",
    "labels",
    "every",
    "settle",
    "on_no_data",
    "on_error",
)
"""The keys that `defaults` may give to every rule of a file that does not have them."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a file holds. `ids` are the ids of all its rules, also of wrong ones, with places."""

    path: Path
    raw: bytes
    rules: tuple[Rule, ...]
    allows: tuple[Allow, ...]
    ids: tuple[tuple[str, int, int], ...]
    problems: tuple[Problem, ...]


def read_rules(document: Document) -> RuleFile:
    """Read the rules of a document, or all that is wrong with it."""
    report = Report(document.path, list(document.problems))
    nodes: list[Node] = []
    rules: list[Rule | None] = []
    allows: tuple[Allow, ...] = ()
    if not report.problems:
        top = Section("a rule file", document.root, KEYS, report)
        top.take("version", choice({VERSION: VERSION}), VERSION, VERSION)
        defaults = _defaults(top, report)
        allows = allow_list(top)
        nodes = _nodes(top, report)
        rules = [_rule(node, defaults, report) for node in nodes]
    return RuleFile(
        path=document.path,
        raw=document.raw,
        rules=tuple(rule for rule in rules if rule),
        allows=allows,
        ids=tuple(place for node in nodes if (place := _id_of(node))),
        problems=tuple(report.problems),
    )


def _defaults(top: Section, report: Report) -> Mapping[str, Entry]:
    entry = top.entries.get("defaults")
    if entry is None:
        return {}
    return Section("defaults", entry.node, DEFAULTS, report).entries


def _nodes(top: Section, report: Report) -> list[Node]:
    entry = top.entries.get("rules")
    if entry is None and "allow" in top.entries:
        return []
    if entry is None:
        top.needs("rules", "a list of rules, or [] for none")
    elif isinstance(entry.node.value, list):
        return entry.node.value
    else:
        report.add(entry, "rules must be a list of rules, or [] for none")
    return []


def _rule(node: Node, defaults: Mapping[str, Entry], report: Report) -> Rule | None:
    place = _id_of(node)
    name = f"rule {shown(place[0])}" if place else "a rule"
    if not isinstance(node.value, dict):
        report.add(
            node, f"{name} must be a mapping, such as {{id: ..., kind: {next(iter(KINDS))}}}"
        )
        return None
    kind = node.value.get("kind")
    if kind is None:
        report.add(node, f"{name} needs kind, such as {next(iter(KINDS))}")
        return None
    word = kind.node.value
    if not isinstance(word, str) or word not in KINDS:
        what = f"kind={shown(word)}" if isinstance(word, str) else "kind"
        close = suggestion(word, KINDS) if isinstance(word, str) else ""
        report.add(kind.node, f"{what}: this version knows {listed(KINDS)} only{close}")
        return None
    return KINDS[word].read(Section(name, node, KINDS[word].keys, report, defaults))


def _id_of(node: Node) -> tuple[str, int, int] | None:
    entry = node.value.get("id") if isinstance(node.value, dict) else None
    if entry is None or not isinstance(entry.node.value, str):
        return None
    return entry.node.value, entry.node.line, entry.node.column
