# For a newcomer: `make demo` runs the pipeline on this machine and judges it; `make test` tests it; `make up` makes a cluster.
.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
GATES := --phase foundation # of the cluster; GATES= judges the layers too
ENVIRONMENT ?= lab
CLUSTER := # --kind or --node: what `up` makes, whether Docker is here or not
.PHONY: help setup demo up down sync status gates local-up local-down local-status local-gates \
  admission pin-digests promote-check rules promote go-live conformance images images-scan images-publish secrets-scan pictures test test-servers unit lint types lock benchmark clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## the Python environment, from the locks
	@tools/bootstrap.sh

demo: setup ## ingest sample documents, ask three questions, run the gates, write the report
	@$(BIN)/ragctl demo

up: setup ## a Kubernetes cluster on this machine, synced by Flux from this checkout (KUBECONFIG_FILE: one of yours)
	@$(BIN)/ragctl cluster $(CLUSTER) up

down: ## remove it and everything it put on the machine
	@[ ! -x $(BIN)/ragctl ] || $(BIN)/ragctl cluster down

sync: setup ## publish the working tree to the cluster and wait until Flux has applied it
	@$(BIN)/ragctl cluster sync

status: setup ## what Flux has applied, and what it waits for
	@$(BIN)/ragctl cluster status

gates: setup ## judge the cluster, and write the report
	@$(BIN)/ragctl cluster gates $(GATES)

local-up: setup ## the five layers as processes on this machine
	@$(BIN)/ragctl up

local-down: ## stop them; nothing stays behind
	@[ ! -x $(BIN)/ragctl ] || $(BIN)/ragctl down

local-status: setup ## what runs, and where
	@$(BIN)/ragctl status

local-gates: setup ## every gate of these processes with its full samples, and the report
	@$(BIN)/ragctl gates

admission: setup ## every object of ENVIRONMENT, charts included, in a dry run by a throwaway API server
	@$(BIN)/python -m conformance.static.admission $(ENVIRONMENT)

pin-digests: setup ## the digest of every image and artifact of ENVIRONMENT, read from its registry
	@$(BIN)/python -m conformance.static.digests $(ENVIRONMENT)

promote-check: setup ## may REVISION go to production? REPORT must be its signed GO on ENVIRONMENT, by PUBLIC_KEY
	@$(BIN)/python -m conformance.promotion "$(or $(REPORT),report)" --revision "$(REVISION)" \
	  --environment "$(ENVIRONMENT)" --public-key "$(PUBLIC_KEY)" --hours "$(or $(HOURS),72)"

promote: setup ## the same as a pull request asks it: REVISION contains production, and its report is fetched
	@tools/promote.sh

rules: setup ## the alerts as objects of the Prometheus operator, after a change of observability/base/rules
	@$(BIN)/python -m conformance.static.prometheus_rules

go-live: setup ## every gate on a real cluster, at this commit; the report is signed
	@tools/go-live.sh

conformance: setup ## the lab on this machine: up, the foundation gates with every fault planted, down
	@tools/conformance.sh

images: ## every image, by docker; images-scan and images-publish follow
	@tools/images.sh build

images-scan: # SBOMs and known vulnerabilities, by trivy
	@tools/images.sh scan

images-publish: # push, sign keyless and attest, by docker and cosign
	@tools/images.sh publish

secrets-scan: setup ## the whole history of Git, searched for credentials
	@$(BIN)/python -m conformance.static.secrets

pictures: setup ## docs/pictures.md, drawn from the manifests
	@$(BIN)/python -m conformance.pictures

test: setup lint types unit ## every check and test that needs no cluster

test-servers: setup ## the tests against real Kafka, Elasticsearch and RabbitMQ, started for it
	@$(BIN)/pytest -q -m servers

lint:
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/yamllint -s .
	@$(BIN)/python -m conformance.static.workflows

types:
	@$(BIN)/mypy

unit:
	@tools/test.sh

lock: setup ## resolve every lock again
	@tools/lock.sh

benchmark: setup ## the ratios under benchmarks/, with a results file
	@$(BIN)/python -m benchmarks

clean: local-down down ## remove the environment and the state of this checkout (caches stay)
	@rm -rf .venv .state report
