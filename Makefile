# Two commands for a newcomer: `make demo` runs the platform on this machine and judges it; `make test` tests it.
.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
.PHONY: help setup demo up down status gates lab-up lab-down lab-sync lab-status admission test unit lint types lock benchmark clean

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

lab-up: setup ## a Kubernetes cluster on this machine (root), synced by Flux from this checkout
	@$(BIN)/ragctl cluster up

lab-down: ## remove it and everything it put on the machine
	@[ ! -x $(BIN)/ragctl ] || $(BIN)/ragctl cluster down

lab-sync: ## publish the working tree to the cluster and wait until Flux has applied it
	@$(BIN)/ragctl cluster sync

lab-status: ## what Flux has applied, and what it waits for
	@$(BIN)/ragctl cluster status

admission: setup ## every object of the lab, charts included, in a dry run by a throwaway API server
	@$(BIN)/python -m conformance.static.admission lab

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

clean: down lab-down ## remove the environment and the state of this checkout (caches stay)
	@rm -rf .venv .state report
