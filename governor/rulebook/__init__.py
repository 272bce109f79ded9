"""The rulebook: the rules of a folder of YAML files, checked as a whole, or every problem in them.

Nothing is taken from files of which one has a problem: a rulebook is new as a whole or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from governor.core.errors import ConfigError
from governor.core.rules.shared import Rule
from governor.documents import Problem, read_document
from governor.rulebook.files import digest, digest_of, find
from governor.rulebook.kinds import KINDS
from governor.rulebook.rulefile import RuleFile, read_rules

__all__ = ["KINDS", "Checked", "Problem", "RuleFile", "Rulebook", "check", "digest", "load"]

MAX_RULES: Final = 2_000
MAX_TOTAL_BYTES: Final = 2_000_000
MAX_SHOWN_PROBLEMS: Final = 100
"""How many problems an error names; `check` returns them all."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules that were checked together.

    `digest` names the content of the `files` they are from, `contents` holds it, in that order.
    """

    rules: tuple[Rule, ...]
    digest: str
    files: tuple[Path, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in the files, and every problem, in the order of files and lines."""

    files: tuple[RuleFile, ...]
    problems: tuple[Problem, ...]


def load(path: Path) -> Rulebook:
    """Return the rules of a folder or one file; raise ConfigError, one line for each problem."""
    checked = check([path])
    if checked.problems:
        lines = [str(problem) for problem in checked.problems[:MAX_SHOWN_PROBLEMS]]
        more = len(checked.problems) - len(lines)
        raise ConfigError("\n".join([*lines, *([f"and {more} more problems"] if more else [])]))
    return Rulebook(
        rules=tuple(rule for file in checked.files for rule in file.rules),
        digest=digest_of((file.path, file.raw) for file in checked.files),
        files=tuple(file.path for file in checked.files),
        contents=tuple(file.raw for file in checked.files),
    )


def check(paths: Sequence[Path]) -> Checked:
    """Read folders and files as one rulebook and return what is in them and all that is wrong."""
    found, problems = find(paths)
    files: list[RuleFile] = []
    size = 0
    for path in found:
        document = read_document(path, "rule file")
        size += len(document.raw)
        if size > MAX_TOTAL_BYTES:
            problems.append(Problem(path, 0, 0, "with it the rule files are more than 2 MB in all"))
            break
        files.append(read_rules(document))
    problems += [problem for file in files for problem in file.problems]
    problems += _repeated(files)
    return Checked(tuple(files), tuple(sorted(set(problems))))


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
