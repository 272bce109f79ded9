"""The rulebook: the rules of a folder of YAML files, checked as a whole, or every problem in them.

Nothing is taken from files of which one has a problem: a rulebook is new as a whole or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from governor.core.allowing import Allow
from governor.core.errors import ConfigError
from governor.core.routing import Routing
from governor.core.rules.shared import Rule
from governor.documents import Document, Problem, read_document
from governor.rulebook.files import ROUTING, digest, digest_of, find
from governor.rulebook.kinds import KINDS
from governor.rulebook.routing import RoutingFile, read_routing
from governor.rulebook.rulefile import RuleFile, read_rules

__all__ = ["KINDS", "Checked", "Problem", "RuleFile", "Rulebook", "check", "digest", "load"]

MAX_RULES: Final = 2_000
MAX_TOTAL_BYTES: Final = 2_000_000
MAX_SHOWN_PROBLEMS: Final = 100
"""How many problems an error names; `check` returns them all."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules and routing that were checked together.

    `digest` names the content of the `files` they are from, `contents` holds it, in that order.
    """

    rules: tuple[Rule, ...]
    routing: Routing
    allows: tuple[Allow, ...]
    digest: str
    files: tuple[Path, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in the files, and every problem, in the order of files and lines."""

    files: tuple[RuleFile, ...]
    routing: RoutingFile | None
    problems: tuple[Problem, ...]


def load(path: Path) -> Rulebook:
    """Return the rules of a folder or one file; raise ConfigError, one line for each problem."""
    checked = check([path])
    if checked.problems:
        lines = [str(problem) for problem in checked.problems[:MAX_SHOWN_PROBLEMS]]
        more = len(checked.problems) - len(lines)
        raise ConfigError("\n".join([*lines, *([f"and {more} more problems"] if more else [])]))
    by_path = {file.path: file.raw for file in checked.files}
    if checked.routing:
        by_path[checked.routing.path] = checked.routing.raw
    found = [file for file in find([path])[0] if file in by_path]
    return Rulebook(
        rules=tuple(rule for file in checked.files for rule in file.rules),
        routing=checked.routing.routing if checked.routing else Routing(),
        allows=tuple(allow for file in checked.files for allow in file.allows),
        digest=digest_of((file, by_path[file]) for file in found),
        files=tuple(found),
        contents=tuple(by_path[file] for file in found),
    )


def check(paths: Sequence[Path]) -> Checked:
    """Read folders and files as one rulebook and return what is in them and all that is wrong."""
    found, problems = find(paths)
    documents: list[Document] = []
    size = 0
    for path in found:
        document = read_document(path, "rule file")
        size += len(document.raw)
        if size > MAX_TOTAL_BYTES:
            problems.append(Problem(path, 0, 0, "with it the rule files are more than 2 MB in all"))
            break
        documents.append(document)
    files = [read_rules(each) for each in documents if each.path.name != ROUTING]
    problems += [problem for file in files for problem in file.problems]
    problems += _repeated(files)
    routing = _routing([each for each in documents if each.path.name == ROUTING], files, problems)
    return Checked(tuple(files), routing, tuple(sorted(set(problems))))


def _routing(
    documents: Sequence[Document], files: Sequence[RuleFile], problems: list[Problem]
) -> RoutingFile | None:
    """Read who is told, where it is said; once."""
    if not documents:
        return None
    first, *others = documents
    problems += [
        Problem(other.path, 0, 0, f"is a second one beside {first.path}; keep one")
        for other in others
    ]
    labels = {name for file in files for rule in file.rules for name in rule.labels}
    read = read_routing(first, sorted(labels))
    problems += read.problems
    return read


def _repeated(files: Sequence[RuleFile]) -> list[Problem]:
    """Return a problem for each id that a rule before it has, and for a rule too many."""
    problems = []
    first: dict[str, str] = {}
    named = [(file.path, *place) for file in files for place in file.ids]
    for path, name, line, column in named:
        place = f"{path}:{line}:{column}"
        if name in first:
            message = f"id={name!r}: is the id of the rule at {first[name]}, too; rename one"
            problems.append(Problem(path, line, column, message))
        first.setdefault(name, place)
    for path, _, line, column in named[MAX_RULES : MAX_RULES + 1]:
        message = f"is one rule more than {MAX_RULES}, the most of a rulebook"
        problems.append(Problem(path, line, column, message))
    return problems
