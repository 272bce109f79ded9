"""Adapters translate between the outside systems and the core; they do not decide."""
