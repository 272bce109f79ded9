"""The DuckDB file: one owner, one writer, one transaction a batch."""
