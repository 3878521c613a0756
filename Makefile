# Two commands for a newcomer: `make demo` runs the platform on this machine and judges it; `make test` tests it.
.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
.PHONY: help setup demo up down status gates test unit lint types lock benchmark clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## the Python environment, from the locks
	@tools/bootstrap.sh

demo: setup ## ingest sample documents, ask three questions, run the gates, write the report
	@$(BIN)/ragctl demo

up: setup ## start the five layers on this machine
	@$(BIN)/ragctl up

down: ## stop them; nothing stays behind
	@[ ! -x $(BIN)/ragctl ] || $(BIN)/ragctl down

status: setup ## what runs, and where
	@$(BIN)/ragctl status

gates: setup ## every gate of this environment with its full samples, and the report
	@$(BIN)/ragctl gates

test: setup lint types unit ## every check and test that needs no cluster

lint:
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/yamllint -s .

types:
	@$(BIN)/mypy

unit:
	@tools/test.sh

lock: setup ## resolve every lock again
	@tools/lock.sh

benchmark: setup ## the ratios under benchmarks/, with a results file
	@$(BIN)/python -m benchmarks

clean: down ## remove the environment and the state of this checkout (caches stay)
	@rm -rf .venv .state report
