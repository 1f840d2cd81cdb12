# `make demo` and `make test` are all one needs; both do their own set-up. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# checkov pins old versions of what the rest needs new ones of, so it lives by itself.
CHECKOV := .venv-checkov
CHECKOV_READY := $(CHECKOV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup up demo recover reconcile replay doctor test unit integration e2e bench check format token client fuzz requirements clean

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install what is pinned into .venv (every other target does it by itself)

$(READY): requirements-dev.txt .python-version
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || \
		{ echo "Atelier needs Python 3.13: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

$(CHECKOV_READY): requirements-checkov.txt $(READY)
	@$(BIN)/python -m venv --clear --without-pip $(CHECKOV)
	@VIRTUAL_ENV=$(CHECKOV) $(BIN)/uv pip install --quiet --require-hashes -r requirements-checkov.txt
	@touch $@

up: $(READY) ## Start the local cloud and keep it up until Ctrl-C
	@$(BIN)/python -m local.up

demo: $(READY) ## Walk the main job on a local cloud of its own; the media go to demo-output/
	@$(BIN)/python -m local.demo

test: $(READY) ## All tests: unit, integration, end to end, faults
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest tests -n 2 --dist loadfile

unit: $(READY) ## The tests that need no cloud
	@$(BIN)/python -m pytest tests/unit

bench: $(READY) ## Measure speed and memory against what is promised (docs/BENCHMARKS.md)
	@$(BIN)/python -m benchmarks

check: $(READY) $(CHECKOV_READY) ## Lint, types, template
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/cfn-lint template.yaml
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(BIN)/sam validate --lint
	@$(CHECKOV)/bin/checkov --config-file .checkov.yaml
	@$(BIN)/python -m pytest -q tests/unit/test_architecture.py

format: $(READY) ## Let ruff put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# make -s token SUB=carol SCOPE=studio TTL=3600
SUB ?= alice
SCOPE ?= studio
TTL ?= 3600
token: $(READY) ## Print a JWT for the local cloud that is up (SUB, SCOPE, TTL)
	@$(BIN)/python -m local.tokens "$(SUB)" "$(SCOPE)" "$(TTL)"

STACK ?=
recover: $(READY) ## Look for predictions that no job has settled, locally or on AWS (STACK=name)
	@$(BIN)/python -m local.recover "$(STACK)"

reconcile: $(READY) ## Recompute the balances of every account that is due, locally or on AWS (STACK=name)
	@$(BIN)/python -m local.reconcile "$(STACK)"

replay: $(READY) ## Write down what the audit has missed, locally or on AWS (STACK=name)
	@$(BIN)/python -m local.replay "$(STACK)"

doctor: $(READY) ## Check a deployed stack, the local one or on AWS (STACK=name)
	@$(BIN)/python -m local.doctor "$(STACK)"

client: $(READY) ## Generate a Python client and TypeScript types into client/
	@$(BIN)/python -m local.clients

fuzz: $(READY) ## Schemathesis over every operation, 5,000 requests and more (a few minutes)
	@ATELIER_FUZZ=thorough $(BIN)/python -m pytest -s tests/e2e/test_schemathesis.py

COMPILE = uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-emit-index-url --no-header
requirements: $(READY) ## Pin the requirements anew from the .in files
	@$(BIN)/$(COMPILE) --upgrade requirements-dev.in -o requirements-dev.txt
	@cd layers/dependencies && ../../$(BIN)/$(COMPILE) -c ../../requirements-dev.txt requirements.in -o requirements.txt
	@cd layers/media && ../../$(BIN)/$(COMPILE) -c ../../requirements-dev.txt requirements.in -o requirements.txt
	@$(BIN)/$(COMPILE) --upgrade requirements-checkov.in -o requirements-checkov.txt

clean: ## Remove everything that was made here
	@rm -rf $(VENV) $(CHECKOV) .aws-sam .local demo-output client .mypy_cache .ruff_cache .pytest_cache .hypothesis
