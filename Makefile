# `make up` shows Shoal at work on this machine, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin
WORKERS ?= $(shell nproc)
ARGS ?=

.PHONY: help install up down test test-long check bench format

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: ## make the environment (.venv) from the lock
	@.ci/install

up: install ## start a cluster on this machine, run an example on it, say what to try next
	@$(PY)/shoal up $(ARGS)

down: ## stop that cluster and leave nothing behind
	@if [ -x $(PY)/shoal ]; then $(PY)/shoal down $(ARGS); fi

test: install ## run all the tests (installs what they need if it can; ARGS go to pytest)
	@.ci/test -m "not long" $(ARGS)

test-long: install ## soaks and big seeds
	@.ci/test -m long --timeout 1800 $(ARGS)

check: install ## the inner loop: lint, format, types, import rules, dependencies, unit tests
	@.ci/check

bench: install ## figures beside their yardsticks, to benchmarks/results.md
	@$(PY)/python -m benchmarks $(ARGS)

format: install ## put every file into form
	@$(PY)/ruff check --fix-only . ; $(PY)/ruff format .
