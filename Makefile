# make demo         mines phantom patients out of an archive of its own into ./demo, trains a small detector on them
#                   and draws what it finds in a patient it has not seen: nothing else is needed
# make test         lint and all tests, side by side (.ci/checks)
# make lint         ruff, mypy --strict, import contracts
# make coverage     the core's line coverage, without the real data beside the checkout
# make experiments  the long experiments: the whole DeepLesion replay, three archives, kills, a real viewer, all that
#                   models are held to
# make bench        the whole job against plain scripts that do the same; detectors beside one another
# make docs         writes the pages that are generated from schemas/
# make clean        removes the environment, caches and what demo and bench wrote

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=

.PHONY: demo test lint coverage experiments bench docs clean system

demo: $(VENV)/ready-tool
	rm -rf demo
	$(BIN)/mine demo --out demo $(DEMO_FLAGS)

test: $(VENV)/ready-test system
	PYTEST_FLAGS="$(PYTEST_FLAGS)" .ci/checks

lint: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(VENV)/ready-test
	$(BIN)/python -m pytest -q -m "not real" tests/deeplesion_miner \
	  --cov=deeplesion_miner --cov-report=term-missing:skip-covered --cov-fail-under=98

experiments: $(VENV)/ready-test system
	.ci/experiments $(BIN)/python

bench: $(VENV)/ready-bench
	$(BIN)/python benchmarks/import_job.py $(BENCH_FLAGS)

docs: $(VENV)/ready-test
	$(BIN)/python docs/generate.py

system:
	@.ci/install || echo "tests that need what is not installed skip, with a word"
	@.ci/viewer || echo "the viewer's test skips, with a word"

clean:
	rm -rf $(VENV) .viewer demo build dist benchmarks/results .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .coverage .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ready-tool: pyproject.toml constraints.txt
	PYTHON=$(PYTHON) .ci/venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e '.[models]'
	touch $@

$(VENV)/ready-test: pyproject.toml constraints.txt | $(VENV)/ready-tool
	$(PIP) install --quiet -c constraints.txt -e '.[models,models-more,test]'
	touch $@

$(VENV)/ready-bench: benchmarks/requirements.txt | $(VENV)/ready-test
	$(PIP) install --quiet -c constraints.txt -r benchmarks/requirements.txt
	touch $@
