# Everything is run from .venv, which `setup` makes; every target that needs it asks for it.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
# Two workers: the tests start threads and processes of their own.
PYTEST := $(BIN)/python -m pytest -n 2

.PHONY: setup setup-browser run check test test-all test-browser lint type fmt tables lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --requirement requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	touch $@

# Debian's Chromium and a font to measure with; any Chromium or Chrome that is there already will do.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
setup-browser: $(STAMP)
	for name in chromium chromium-browser google-chrome; do command -v $$name && exit; done; \
	  $(ROOT) apt-get update --quiet && $(ROOT) env DEBIAN_FRONTEND=noninteractive \
	  apt-get install --quiet --yes --no-install-recommends chromium fonts-dejavu-core

run: $(STAMP)
	$(BIN)/meteor-bench run --method meteor --ratio 0.76

test: $(STAMP)
	$(PYTEST) -m "not slow and not browser"

# What `sweep --engine ray` needs besides, and its tests.
setup-ray: $(STAMP)
	$(BIN)/uv pip install --python $(BIN)/python --editable ".[ray]"

test-all: setup-ray
	$(PYTEST) -m "not browser"

# The HTML report in Chromium.
test-browser: setup-browser
	$(BIN)/python -m pytest -m browser tests/browser

# Whether accuracy, tokens, FLOPs or times of a small subset moved; `--update` accepts what it finds.
check: $(STAMP)
	$(BIN)/meteor-bench check --baseline results/reference/check.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

type: $(STAMP)
	$(BIN)/mypy

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The committed tables of the shipped model: results/reference/pocket.
tables: $(STAMP)
	$(BIN)/python scripts/reference_pocket.py
	$(BIN)/python scripts/readme.py

# Newer versions of everything; the lock holds names and versions, nothing else.
lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --upgrade --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock
