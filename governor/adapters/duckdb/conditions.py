"""Which usage is meant, as conditions in SQL."""

from governor.core.scopes import Condition, Scope


def scope_sql(scope: Scope) -> list[str]:
    """Return the conditions of a scope in SQL."""
    return [_condition_sql(condition) for condition in scope.conditions]


def _condition_sql(condition: Condition) -> str:
    column = f'"{condition.dimension}"'
    parts = []
    if condition.values:
        listed = ", ".join(_text(value) for value in sorted(condition.values))
        parts.append(f"{column} IN ({listed})")
    parts += [f"{column} GLOB {_text(pattern)}" for pattern in condition.patterns]
    found = " OR ".join(parts) or "false"
    return f"NOT coalesce({found}, false)" if condition.negated else f"({found})"


def is_sql(name: str, value: str | None) -> str:
    """Return the condition that a dimension has a value; None for events that do not say."""
    return f'"{name}" IS NULL' if value is None else f'"{name}" = {_text(value)}'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
