# Every target runs in .venv, which the first one makes; see `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Two test processes with one thread each; more only where there are more cores and memory.
TEST_WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest
DISTRIBUTED := -n $(TEST_WORKERS) --dist worksteal

.PHONY: help setup demo test test-slow test-gpu lint types bench golden mutants docs wheel clean

help: ## Show this list
	@echo "usage: make TARGET   (the first one installs everything into $(VENV))"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(INSTALLED) ## Install metta and its development tools into .venv (again, when a dependency changed)

# Installs once per change of the two files that say what to install. PYTHON=... chooses another interpreter.
$(INSTALLED): pyproject.toml constraints.txt
	@if ! $(PIP) --version >/dev/null 2>&1; then \
	  python=; \
	  for candidate in $(PYTHON) python3.11 python3.12 python3; do \
	    if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	        2>/dev/null; then python=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: metta needs Python 3.11 or 3.12 with its venv module, and found none" \
	      "(install python3.11 and python3.11-venv, or name one: make PYTHON=/path/to/python3.11)" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$python" --version)."; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo "Installing metta and its development tools; this takes minutes the first time."
	@$(PIP) install -c constraints.txt -e '.[dev,s3,schedulefree,wandb]'
	@touch $@

demo: $(INSTALLED) ## Train a policy on navigation/simple, then compare it with random and scripted play
	$(BIN)/metta train --config demo --run demo
	$(BIN)/metta eval train_dir/demo --env navigation/simple --episodes 100

test: lint types ## Lint, types, and every test that is neither slow nor in need of a GPU
	$(PYTEST) $(DISTRIBUTED) -q

test-slow: $(INSTALLED) ## The tests that take minutes: learning, packaging
	$(PYTEST) $(DISTRIBUTED) -m 'slow and not gpu'

test-gpu: $(INSTALLED) ## The tests that need CUDA
	$(PYTEST) -m gpu

lint: $(INSTALLED) ## Rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Static types
	$(BIN)/mypy

bench: $(INSTALLED) ## Measure speed and memory: one JSON line per figure
	$(BIN)/python -m benchmarks

golden: $(INSTALLED) ## Record the golden numbers anew and show what changed
	$(BIN)/python tests/golden/record.py

mutants: $(INSTALLED) ## Make the listed deliberate mistakes one by one; each must turn a test red
	$(BIN)/python tests/golden/mutations.py

docs: $(INSTALLED) ## Write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

clean: ## Remove what make made; runs in train_dir/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
