# The two commands of the README: make demo, make test. Both set up everything they need in .venv (and .jdk).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := $(CURDIR)/demo
ENGINE := spark
SIZE := medium
export JAVA_HOME = $(shell cat .venv/java_home 2>/dev/null)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup java demo test lint types unit quick docs lock bench clean

help:
	@echo "make demo [DATA=folder]  set up, then train the demo pipeline through Airflow; DATA: a MovieLens folder"
	@echo "make demo ENGINE=embedded  the same without Spark, and so without Java"
	@echo "make test                set up, then lint, types and all tests"
	@echo "make setup               only the environment in .venv"
	@echo "make java                a Java for Spark, where there is none"
	@echo "make lint                style, format, the layers of the code, and the docs' links and pages"
	@echo "make docs                docs and API pages as a site, in build/site"
	@echo "make types               mypy"
	@echo "make unit                all tests, without lint and types"
	@echo "make quick               the tests that start neither a JVM nor Airflow nor TensorFlow and are not slow"
	@echo "make bench [SIZE=small]  one table: time and memory beside peers, which it installs; small, medium or large"
	@echo "make lock                exact versions of everything, resolved anew"
	@echo "make clean               removes all that make made"

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11 to 3.13 is needed; say which with: make PYTHON=python3.11"; exit 1; }
	@echo "Setting up .venv: about 2 GB of packages, once. A few minutes."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# For Spark alone: one that is there, or one of the project's own.
java: setup
	@test -s .venv/java_home || $(BIN)/python tools/java.py > .venv/java_home

demo: $(if $(filter embedded,$(ENGINE)),setup,java)
	@$(BIN)/python tools/demo.py "$(DEMO)" --engine "$(ENGINE)" --movielens "$(DATA)"

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

types: setup
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --strict

unit: java
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# All of tests/text imports TensorFlow; without it no process waits for that.
quick: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not (slow or spark or airflow or tensorflow)" --ignore tests/text

bench: java .venv/bench
	$(BIN)/python benchmarks --size $(SIZE)

# pip knows dependency groups from 25.1 on. What requirements.lock has keeps its version.
.venv/bench: pyproject.toml requirements.lock .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock --group bench
	@touch $@

# Exact versions of everything, resolved anew; review the difference before committing it.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet -e '.[dev]'
	(grep '^#' requirements.lock; .venv-lock/bin/pip freeze --all --exclude-editable | grep -v -e '^pyspark-client==' -e '^pip==' -e '^setuptools==') > .venv-lock/lock
	mv .venv-lock/lock requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .jdk demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
