# Each target sets up what it needs in $(VENV), once; after that it needs no network.
#   make demo
#   make test ARGS="tests/store -k shard"
#   VENV=.venv313 PYTHON=python3.13 make test
VENV ?= .venv
PYTHON ?=
ARGS ?=

bin := $(VENV)/bin
python := $(bin)/python
pip := $(python) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
inputs := pyproject.toml constraints.txt
# The tests take turns on as many processes as there are cores, but memory is not endless.
workers := $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -le 4 ] || n=4; echo $$n)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-faults lint format types doctest docs pictures bench clean

help: ## this text
	@echo "make TARGET [ARGS=...] [VENV=.venv] [PYTHON=python3.x]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

# Stamps lie in the environment that they speak of, so that two environments never disturb each
# other. Extras contain one another (demo < test < dev), and a larger one stamps the smaller ones.
$(bin)/activate:
	@python=$$(.ci/find-python $(PYTHON)) && \
	echo "Making $(VENV) with $$($$python --version) ($$python)" && \
	$$python -m venv $(VENV)

$(VENV)/.demo: $(inputs) | $(bin)/activate
	@echo "Installing bluesky-zarr[demo] in $(VENV); this takes a minute or two, once"
	@$(pip) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(inputs) | $(bin)/activate
	@echo "Installing bluesky-zarr[test] in $(VENV); this takes a minute or two, once"
	@$(pip) --editable '.[test]'
	@touch $(VENV)/.demo $@

$(VENV)/.dev: $(inputs) | $(bin)/activate
	@echo "Installing bluesky-zarr[dev] in $(VENV); this takes a minute or two, once"
	@$(pip) --editable '.[dev]'
	@touch $(VENV)/.demo $(VENV)/.test $@

demo: $(VENV)/.demo ## a scan of the simulated beamline, from camera to picture
	$(bin)/bluesky-zarr demo $(ARGS)

test: $(VENV)/.test ## the tests, without the slow ones
	$(python) -m pytest -n $(workers) --dist worksteal $(ARGS)

test-slow: $(VENV)/.test ## the slow tests
	$(python) -m pytest -m slow $(ARGS)

test-faults: $(VENV)/.test ## kills, full disks, flipped bits, power cuts at their full numbers
	$(python) -m pytest -m faults tests $(ARGS)

lint: $(VENV)/.dev ## style, formatting, import layers
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/lint-imports

format: $(VENV)/.dev ## put the formatting right
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

types: $(VENV)/.dev ## type check
	$(bin)/pyright --pythonpath $(python)

doctest: $(VENV)/.test ## the examples in docstrings and pages
	$(python) -m pytest --doctest-modules --doctest-glob='*.md' --ignore-glob='docs/*.py' \
	    src docs README.md CONTRIBUTING.md $(ARGS)

$(VENV)/.docs: $(inputs) | $(bin)/activate
	@echo "Installing bluesky-zarr[docs] in $(VENV); this takes a minute or two, once"
	@$(pip) --editable '.[docs]'
	@touch $(VENV)/.demo $@

docs: $(VENV)/.docs ## the site, in docs/_build
	$(python) -m sphinx -W --keep-going --quiet -b html docs docs/_build $(ARGS)
	@! grep -rlE '<(script|link|img)[^>]* (src|href)="(https?:)?//' docs/_build --include='*.html' \
	    || { echo "These pages fetch something from a network"; exit 1; }

$(VENV)/.bench: $(inputs) | $(bin)/activate
	@echo "Installing bluesky-zarr[bench] in $(VENV); this takes a minute or two, once"
	@$(pip) --editable '.[bench]'
	@touch $(VENV)/.demo $(VENV)/.test $@

pictures: $(VENV)/.demo ## the pictures of the pages, anew
	@set -e; for file in $(filter-out %/common.py,$(wildcard docs/pictures/*.py)); do \
	    echo "== $$file"; $(python) $$file; \
	done

bench: $(VENV)/.bench ## the benchmarks, at their small sizes
	@set -e; for file in $(wildcard benchmarks/*.py); do \
	    echo "== $$file"; $(python) $$file $(ARGS); \
	done

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests devices plans benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
