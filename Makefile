# The project's commands. Needs Python >= 3.11, make and the package registry; nothing else.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# The environment is renewed when the lock or the project's metadata change, and only then.
STAMP  := $(VENV)/.locked-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

# One computing thread in each of two test processes: on two cores faster than one process with two.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

.PHONY: help demo test test-all check format bench clean

help:  ## show this list
	@echo "make TARGET, where TARGET is one of:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1@\2/' | column -t -s@ 2>/dev/null \
	  || grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "surefast needs Python >= 3.11, and $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing the locked versions into $(VENV) (once; some minutes, torch is large) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@rm -f $(VENV)/.locked-*
	@touch $@

demo: $(STAMP)  ## train a classifier of real handwritten digits (under 2 minutes) and show what came out
	@$(BIN)/surefast demo

test: $(STAMP)  ## the tests that a change must pass (under 6 minutes on 2 cores)
	$(PYTEST)

test-all: $(STAMP)  ## all tests, the slow ones too
	$(PYTEST) -m "not gpu"

check: $(STAMP)  ## ruff (lint and format), mypy in strict mode, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## put the source into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## measure the loop and the image pipeline against hand-written PyTorch
	$(BIN)/python -m benchmarks

clean:  ## remove the environment, caches and what the demo wrote
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache surefast.egg-info
