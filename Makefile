# make serve    a server on http://localhost:8080 with the bundled model and avatars
# make test     every test that needs no GPU, but the slow ones
# make slow     those: minutes each, one takes 14 GB of disk and 7 GB of memory
# make style    ruff and the import contracts        make types    mypy --strict
# make clean    removes the environment and what tools left behind
#
# PYTHON, VENV, TORCH and ARGS may be set: make serve ARGS="--port 9000"

PYTHON ?= python3
VENV ?= .venv
# Installed first, so that the range in pyproject.toml does not pull a newer and larger build.
TORCH ?= torch==2.13.0
ARGS ?=

bin := $(VENV)/bin
pip := $(bin)/python -m pip install --quiet --disable-pip-version-check

.PHONY: serve test slow style types clean
.DELETE_ON_ERROR:

serve: $(VENV)/.serve
	$(bin)/lipwire serve $(ARGS)

test: $(VENV)/.test
	$(bin)/python -m pytest -m "not gpu and not slow" $(ARGS)

slow: $(VENV)/.test
	$(bin)/python -m pytest -m "slow and not gpu" --timeout 3600 $(ARGS)

style: $(VENV)/.test
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/lint-imports

types: $(VENV)/.test
	$(bin)/mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(bin)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Lipwire needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps make a second call start at once; both installs share one environment.
$(VENV)/.serve: pyproject.toml | $(bin)/python
	@echo "installing Lipwire into $(VENV), about a minute"
	$(pip) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(bin)/python
	@echo "installing Lipwire and its test tools into $(VENV), a few minutes"
	$(pip) "$(TORCH)"
	$(pip) --editable ".[test]"
	@touch $@ $(VENV)/.serve
