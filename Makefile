# Each target makes .venv by itself where it is missing. `make demo` and `make test` are the two
# commands of the README; `make check` is the gate of every commit.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo check test bench bench-detect soak planted format lock clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(READY)  ## run the main job with nothing else installed
	@$(BIN)/governor demo

check: $(READY)  ## format, lint, types, import contracts, core tests; at most 90 s
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 -m "not slow" tests/unit

test: $(READY)  ## every test, on the embedded broker and on Apache Kafka
	$(BIN)/pytest -q -n 2 tests/unit
	$(BIN)/pytest -q -n 2 --dist loadfile tests/contract tests/e2e

bench: $(READY)  ## speed and memory, as ratios within one run
	$(BIN)/python tests/bench/ingest.py
	$(BIN)/python tests/bench/prices.py
	$(BIN)/python tests/bench/acting.py
	$(BIN)/python tests/bench/rules.py
	$(BIN)/python tests/bench/gate.py
	$(BIN)/python tests/bench/gate.py beside
	$(BIN)/python tests/bench/gate.py many
	$(BIN)/python -m tests.bench.reports

bench-detect: $(READY)  ## detection beside three textbook methods, with seeds; 10 minutes
	$(BIN)/python -m tests.bench.detect

soak: $(READY)  ## the long campaigns at full size
	GOVERNOR_TEST_SIZE=full $(BIN)/pytest -q -m soak --timeout 7200

planted: $(READY)  ## plant bugs in turn, and show the tests that go red
	$(BIN)/python tests/planted.py

format: $(READY)  ## put the code in its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)  ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/python -m piptools compile --quiet --upgrade --generate-hashes --allow-unsafe \
		--strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --extra demo --extra dev --extra charts --extra redis --extra tokens \
		--output-file requirements.lock \
		pyproject.toml

clean:  ## remove what can be made again
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("governor needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
