# What a developer runs; `make` alone lists it. CI runs .ci/run.
.DEFAULT_GOAL := help
.PHONY: help venv format check unit test coverage docs bench

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

venv: $(BIN)/pytest  ## Create .venv with everything for development

$(BIN)/pytest: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

format: venv  ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: venv  ## Format, lint and types, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: venv  ## The unit tests alone: no sockets, no model, under a minute
	$(BIN)/python -m pytest -n auto tests/unit_tests

test: venv  ## All tests, with real servers and the embedded model (fetched once, 93 MB)
	$(BIN)/python -m pytest -n auto

coverage: venv  ## All tests, with the branches that they reach; twice as long
	$(BIN)/python -m pip install --quiet 'pytest-cov>=7'
	$(BIN)/python -m pytest -n auto --cov --cov-report=json:coverage.json --cov-report=term:skip-covered

docs: venv  ## Build the documentation's site into build/site; a warning fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: venv  ## Measure accuracy and speed of the embedded model; DATA is a directory of labelled texts
	$(BIN)/python benchmarks/embedded.py --data $(DATA)
