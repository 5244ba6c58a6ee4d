# Every target works on a fresh clone: the first thing that needs it makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo check format test tools jre bench bench-quick docs proto clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Make .venv with everything installed, versions pinned
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Modelyard needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

demo: setup ## Train, publish, serve, call, deploy a second version, roll back
	$(BIN)/modelyard demo $(ARGS)

format: setup ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup ## Format, lint, types, import layers, unit and docs tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 --dist worksteal tests/unit tests/docs

test: setup tools ## Run every test
	$(BIN)/pytest -q -n 2 --dist worksteal tests

# The load generator is native and comes from the system's packages; without it its tests say so.
tools:
	@command -v wrk >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq wrk >/dev/null; } \
	  || echo "wrk is missing: install it to run the benchmarks"

# One of the servers that the benchmarks measure against is written in Java.
jre:
	@command -v java >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq default-jre-headless >/dev/null; } \
	  || echo "java is missing: TorchServe will be left out of the benchmarks"

bench: setup tools jre ## Measure against ten servers; 25 minutes; writes benchmarks/results/
	$(BIN)/python -m benchmarks

bench-quick: setup tools ## The forest against FastAPI and the limits, in two minutes; writes nothing
	$(BIN)/python -m benchmarks --quick

docs: setup ## Make the generated pages of docs/reference anew
	$(BIN)/python -m docs.generate

proto: setup ## Make the descriptor of the gRPC protocol anew
	$(BIN)/python -m modelyard.api.grpc.generate

clean: ## Remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
