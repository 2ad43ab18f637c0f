# `make test` and `make demo` need nothing but Python 3.11: each builds .venv from the lock file first.
PYTHON ?= python3.11
BIN := .venv/bin
# On every core; the tests of one file stay together, because they share what is costly to make.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
CODE := tfrs_mmse beam serving benchmarks tests setup.py

.PHONY: setup check format docs test test-all demo quality lock

setup: .venv/.from-lock

.venv/.from-lock: requirements.lock
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

check: setup
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

docs: setup
	$(BIN)/python -m tfrs_mmse.config_docs > docs/config.md

test: setup
	$(PYTEST) $(PYTEST_ARGS)

test-all: setup
	$(PYTEST) -m '' $(PYTEST_ARGS)

demo: setup
	$(BIN)/python -m benchmarks.demo --output demo

# Hours; goes on where it stopped. QUALITY_ARGS=--quick takes minutes.
quality: setup
	$(BIN)/python -m benchmarks.quality $(QUALITY_ARGS)

# Needs uv (`pip install uv`). Names, versions and hashes only: no place that packages came from.
lock:
	uv pip compile setup.py --extra scann --extra dev --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock
