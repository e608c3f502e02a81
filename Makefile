# setup · demo · test · test-all · coverage · bench · clean. Everything runs from .venv; nothing is installed elsewhere.
PYTHON ?= python3.11
BIN := .venv/bin
# reinstall only when the requirements, not the code, have changed
STAMP := .venv/.setup-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all coverage bench lint clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## .venv with the tested versions (about 2 GB)
	@:

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; make setup PYTHON=/path/to/python3.11" >&2; exit 3; }
	@echo "installing into .venv (about 2 GB; minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f .venv/.setup-* && touch $@

demo: setup ## the whole chain on its own faces and avatars: a phone model and a report in minutes
	@$(BIN)/stylefactory run

test: setup ## fast tests and checks of style and types
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest

test-all: test ## every test, the slow ones (kills, schedules, whole chain) included
	@$(BIN)/python -m pytest -m slow

coverage: setup ## share of lines the fast tests run (work in other processes, as of DVC stages, is not seen)
	@$(BIN)/python -m pytest -q --cov=pipeline --cov=stages --cov-report=term:skip-covered

bench: setup ## measured figures and ratios in one table
	@$(BIN)/python -m tests.bench

lint: setup ## format the code and report what is left
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet . && $(BIN)/mypy --no-error-summary

clean: ## remove scratch and caches; data, models and reports stay
	@rm -rf work .pytest_cache .mypy_cache .ruff_cache htmlcov .coverage build dist
	@find pipeline stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
