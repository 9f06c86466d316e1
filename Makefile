# The commands of this project. People and .ci/run call the same ones.
#
#   make demo     install the core (no torch) and mask bundled pictures, offline, on a CPU
#   make test     install everything and run the tests
#
# PYTHON chooses the interpreter (3.11 to 3.13), VENV the folder of the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
CLEAN := build/core

.DEFAULT_GOAL := help
.PHONY: help demo system install test test-slow lint format types docs docs-serve pictures bench wheel core

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# Stamps: an install is repeated when the project file or the pins change, not at every command.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/.core

demo: $(VENV)/.core  ## install the core and mask the bundled pictures: writes demo.png
	$(BIN)/ivm demo --output demo.png

system:  ## install the OpenGL library that renders tabletop scenes (Linux; needs root or sudo)
	@sh .ci/system

install: system $(VENV)/.dev  ## install the package with everything for development into .venv

# One process a core, each with a file of tests at a time; more threads than one would fight for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test: install  ## run the tests
	$(PYTEST)

test-slow: install  ## run the tests that take minutes, too
	$(PYTEST) -m "not gpu and not network"

lint: $(VENV)/.dev  ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev  ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.dev  ## show the documentation at 127.0.0.1:8000 while you write it
	$(BIN)/mkdocs serve

pictures: $(VENV)/.core  ## draw the picture sheet of the README
	mkdir -p build
	$(BIN)/ivm demo --output build/demo.png
	$(BIN)/python -c "from PIL import Image; Image.open('build/demo.png').save('docs/pictures/demo.webp', quality=80, method=6)"

bench: $(VENV)/.dev  ## measure speed, memory and size; prints a table
	$(BIN)/python runs/benchmark.py

wheel: $(VENV)/.dev  ## build the wheel into dist/
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

core: wheel  ## install the wheel alone in a clean environment, run the demo there, check its size
	rm -rf $(CLEAN) && $(PYTHON) -m venv $(CLEAN)
	$(CLEAN)/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd $(CLEAN) && bin/ivm demo --output demo.png
	$(CLEAN)/bin/ivm mask src/ivm/assets/coffee.jpg "the cup" --output $(CLEAN)/cup.png
	$(CLEAN)/bin/python runs/benchmark.py --only size --check
