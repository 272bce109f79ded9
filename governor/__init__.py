"""Governor keeps AI inference spend inside its budgets."""

__version__ = "0.1.0"
