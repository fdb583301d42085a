# Run `make help` for the list. Options for a command go in ARGS: make cervical-contrastive ARGS="--epochs 3 --seed 1"
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help setup test test-slow test-browser smoke stress lint bench notebooks readme sample clean

STUDIES := cervical lmf melanoma feedback
.PHONY: feedback-page house paper-table-3

help:  ## this list
	@echo "usage: make TARGET [ARGS=\"options of the command\"]"
	@echo
	@grep -hE '^[a-z][a-z0-9-]*:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'
	@echo
	@echo "experiments: make STUDY-COMMAND is python -m STUDY COMMAND; ARGS=--help explains its options"
	@for study in $(STUDIES); do echo; echo "  make $$study-…"; \
	  if [ -x $(PY) ]; then $(PY) -m $$study --help | sed -n '/^  [a-z]/p' | cut -c1-150; else echo "    (after make setup)"; fi; done

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

$(VENV)/ready-ray: requirements-ray.txt requirements-jax.txt $(VENV)/ready
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
	$(PY) -c "import jax" 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -r requirements-jax.txt
	@touch $@

GPUS_PER_CELL ?= 0.25
paper-table-3: $(VENV)/ready-ray  ## Table III at the paper's size on this machine's GPUs: DATA=/data/SIPaKMeD (docs/clusters.md)
	@test -d "$(DATA)" || { echo "DATA=$(DATA): no such folder; expected that of SIPaKMeD" >&2; exit 2; }
	KERAS_BACKEND=jax $(PY) -m cervical tables --dataset sipakmed --data-dir "$(DATA)" --methods contrastive --precision mixed_bfloat16 \
	  --engine ray --address local --gpus-per-cell $(GPUS_PER_CELL) --run-dir results/cervical/table-3-paper-size $(ARGS)
	$(PY) -m common.report.overview results README.md

feedback-serve: | $(VENV)/ready-page

feedback-page: $(VENV)/ready-page  ## the page where a dermatologist corrects the model, on the drawn sample
	$(PY) -m feedback serve $(ARGS)

# Every command of a study is a target: make lmf-train.
$(addsuffix -%,$(STUDIES)): | $(VENV)/ready
	@$(PY) -m $(firstword $(subst -, ,$@)) $* $(ARGS)

test: $(VENV)/ready-dev  ## the fast tests (under 12 minutes on 2 cores)
	$(PY) -m pytest -n 2 --dist loadscope -m "not slow and not browser" $(ARGS)

test-slow: $(VENV)/ready-dev  ## grids, large networks, real data where it is present
	$(PY) -m pytest -m "slow" $(ARGS)

test-browser: $(VENV)/ready-dev $(VENV)/ready-page  ## drives the feedback page in an installed Chromium
	$(PY) -m pytest -m "browser" tests/feedback/page $(ARGS)

smoke: $(VENV)/ready  ## every experiment that exists, tiny, on the drawn sample
	$(PY) -m benchmarks.smoke $(ARGS)

COUNT ?= 20
stress: $(VENV)/ready  ## kills, Ctrl-C and corrupted run folders, COUNT of each (20: under two hours)
	$(PY) -m benchmarks.stress --count $(COUNT) $(ARGS)

lint: $(VENV)/ready-dev  ## ruff and the type checker
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/ready-bench  ## speed and memory, each beside a peer, equality first
	$(PY) -m benchmarks $(ARGS)

house: $(VENV)/ready  ## size and order of the code, each beside its bound
	@$(PY) -m benchmarks.house

notebooks: $(VENV)/ready-dev  ## build and execute notebooks/*.ipynb from the scripts
	@for script in notebooks/*.py; do echo "$$script"; \
	  PYTHONPATH=. $(VENV)/bin/jupytext --quiet --to ipynb --execute "$$script" || exit 1; done

readme: $(VENV)/ready  ## write the README's table of printed tables from results/
	$(PY) -m common.report.overview results README.md

sample: $(VENV)/ready  ## draw every embedded data set into .cache/samples
	$(PY) -m common.data.sample

clean:  ## remove caches and runs (asks nothing; results/ stays)
	rm -rf .cache runs .pytest_cache .ruff_cache .mypy_cache notebooks/*.ipynb
