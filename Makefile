# Run `make help` for the list. Options for a command go in ARGS: make cervical-contrastive ARGS="--epochs 3 --seed 1"
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help setup test test-slow test-browser smoke lint bench notebooks readme sample clean

CERVICAL := finetune cost-sensitive contrastive compare-losses freeze-depth size-analysis tables audit explain predict report
LMF := train sweep tables audit explain predict report
MELANOMA := pretrain train ablation repeats multitask thresholds baselines tables audit explain predict report
FEEDBACK := baseline simulate search slices thresholds clipping tables serve replay audit explain predict report
STUDY_TARGETS := $(addprefix cervical-,$(CERVICAL)) $(addprefix lmf-,$(LMF)) $(addprefix melanoma-,$(MELANOMA)) $(addprefix feedback-,$(FEEDBACK))
.PHONY: $(STUDY_TARGETS) feedback-page

help:  ## this list
	@echo "usage: make TARGET [ARGS=\"options of the command\"]"
	@echo
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'
	@echo
	@echo "experiments (each is python -m STUDY COMMAND; ARGS=--help explains its options):"
	@for study in cervical lmf melanoma feedback; do echo "  $$study:"; \
	  for target in $(STUDY_TARGETS); do case $$target in $$study-*) echo "    make $$target";; esac; done; done

setup: $(VENV)/ready-dev  ## build .venv with everything but the peers of the benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: requirements.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/ready-dev: requirements-dev.txt requirements-jax.txt $(VENV)/ready
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/ready-bench: requirements-bench.txt $(VENV)/ready-dev
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

$(VENV)/ready-page: requirements-page.txt $(VENV)/ready
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-page.txt
	@touch $@

feedback-serve: | $(VENV)/ready-page

feedback-page: $(VENV)/ready-page  ## the page where a dermatologist corrects the model, on the drawn sample
	$(PY) -m feedback serve $(ARGS)

$(STUDY_TARGETS): | $(VENV)/ready
	@$(PY) -m $(firstword $(subst -, ,$@)) $(subst $(firstword $(subst -, ,$@))-,,$@) $(ARGS)

test: $(VENV)/ready-dev  ## the fast tests (under 15 minutes on 2 cores)
	$(PY) -m pytest -n 2 --dist loadscope -m "not slow and not browser" $(ARGS)

test-slow: $(VENV)/ready-dev  ## grids, large networks, real data where it is present
	$(PY) -m pytest -m "slow" $(ARGS)

test-browser: $(VENV)/ready-dev $(VENV)/ready-page  ## drives the feedback page in an installed Chromium
	$(PY) -m pytest -m "browser" tests/feedback/page $(ARGS)

smoke: $(VENV)/ready  ## every experiment that exists, tiny, on the drawn sample
	$(PY) -m benchmarks.smoke $(ARGS)

lint: $(VENV)/ready-dev  ## ruff and the type checker
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/ready-bench  ## speed and memory, each beside a peer, equality first
	$(PY) -m benchmarks $(ARGS)

notebooks: $(VENV)/ready-dev  ## build and execute notebooks/*.ipynb from the scripts
	@for script in notebooks/*.py; do echo "$$script"; \
	  PYTHONPATH=. $(VENV)/bin/jupytext --quiet --to ipynb --execute "$$script" || exit 1; done

readme: $(VENV)/ready  ## write the README's table from the files under results/
	$(PY) -m common.report.overview results README.md

sample: $(VENV)/ready  ## draw every embedded data set into .cache/samples
	$(PY) -m common.data.sample

clean:  ## remove caches and runs (asks nothing; results/ stays)
	rm -rf .cache runs .pytest_cache .ruff_cache .mypy_cache notebooks/*.ipynb
