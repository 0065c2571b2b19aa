# The targets of this project; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
WORKERS ?= 3

# Every process compiles what it imports once, and keeps to one thread, so that results are the same everywhere.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PLOOMBER_STATS_ENABLED ?= false
export KERAS_BACKEND ?= jax
export TEST_BEGAN := $(shell date +%s)

.PHONY: help setup run test lab dash lock check docs picture coverage interpreters soak soak-long bench profile hooks clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "ARGS is passed on: make run ARGS=\"-p label=fwd_ret_10 --experiment ten_days\""

setup:  ## make .venv from env/requirements.lock (milliseconds when nothing has changed)
	@env/setup

run: setup  ## the main job: ingest, features, train, backtest, publish
	@$(BIN)/mlfin run $(ARGS)

test: setup  ## every test but the slow ones and those of `make check`: the notebooks first, pytest last
	@echo "test: the lessons (nbdev-test)"
	@env/in-memory $(BIN)/nbdev-test --n-workers 2 --skip-folder-re '^([_.]|examples$$)'
	@echo "test: the tests (pytest)"
	@env/in-memory $(BIN)/python -m pytest -m "not slow and not long" --ignore tests/repo -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

lab: setup  ## JupyterLab on the notebooks
	@$(BIN)/mlfin lab $(ARGS)

dash: setup  ## the dashboards, on this machine only
	@$(BIN)/mlfin dash $(ARGS)

check: setup  ## the checks for people, pre-commit and CI: sync, layers, budgets, wheel, import times
	@env/check $(ARGS)

docs: setup  ## the documentation site from the executed notebooks, into _docs/ (ARGS=--no-execute: with the last outputs)
	@$(BIN)/python env/docs/build.py $(ARGS)

picture: setup  ## the README's picture of a verdict page, from a run
	@$(BIN)/python env/docs/picture.py

coverage: setup  ## the tests of `make test` with the package's line coverage
	@env/in-memory $(BIN)/python -m pytest -m "not slow and not long" --ignore tests/repo -n $(WORKERS) --dist loadscope \
	    --no-loadscope-reorder --cov mlfin --cov-report term:skip-covered $(ARGS)

interpreters:  ## import, lint and the fast unit tests on each Python from 3.11 to 3.13 that is here
	@env/interpreters $(ARGS)

soak: setup  ## the slow tier: slow tests and all benchmarks (writes tests/benchmarks/results.md)
	@$(BIN)/python env/soak $(ARGS)

soak-long: setup  ## hours: kills by the dozen, half-hour streams, memory, runs of 26 million bars
	@$(BIN)/python env/soak --long

bench: setup  ## the benchmarks that have peers, beside them: .bench is made of env/bench.lock (ARGS="lake serve")
	@env/bench $(ARGS)

profile: setup  ## where the time goes in the main job, an idle run and a request, into .mlfin/profiles/ (ARGS="run idle predict")
	@$(BIN)/python env/profile $(ARGS)

lock:  ## resolve the dependencies again (ARGS=--upgrade for the newest)
	@env/lock $(ARGS)

hooks: setup  ## let git run the checks before each commit and push
	@$(BIN)/pre-commit install --hook-type pre-commit --hook-type pre-push

clean:  ## remove caches, build products and what the tests left; every run stays
	@rm -rf build dist _proc _docs *.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache .mlfin/cache .mlfin/test reports/test
	@find . \( -name .venv -o -name .bench \) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv and .bench, and every run with its reports and data
	@rm -rf .venv .bench .mlfin
	@find reports -mindepth 1 ! -name README.md -delete
