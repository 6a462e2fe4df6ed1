# make help lists the targets. Everything works with Python 3.11+ and make alone.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check fast bench docs format clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: .venv/.demo ## a gateway, a store, three replicas of a sample service and a load trickle
	@$(BIN)/silence demo $(ARGS)

test: .venv/.test ## everything: lint, types, import rules, unit, agreement, system and browser tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/test.sh

check: .venv/.test ## format, lint, types, import rules and the fast tests; under a minute
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/check.sh

fast: .venv/.test ## the fast tests alone
	@$(BIN)/python -m pytest -q -m "not valkey and not system and not browser and not node"

bench: .venv/.test ## side by side with peers, into bench/RESULTS.md; about half an hour
	@sh scripts/bench.sh $(ARGS)

docs: .venv/.test ## write the generated reference pages and check every link and example
	@$(BIN)/python scripts/docs.py

format: .venv/.test ## rewrite the code in the house format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean: ## remove everything that make made
	rm -rf .venv .bench-venv .mypy_cache .ruff_cache .pytest_cache .hypothesis node_modules

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

.venv/.demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]' --group test
	@touch $@ .venv/.demo
