# Two commands do everything: `make demo` shows the main job, `make test` passes the tests.
# Each sets up what it needs (setup.sh).
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: demo test check bench weakenings setup packages clean
demo: setup
	@$(PY) -m lockgate demo

test: setup packages check
	@./setup.sh tap $(VENV) || echo "warning: frida could not be installed: the tests of lockgate tap are skipped"
	@$(PY) -m pytest -q -rsR --reruns 1

check: setup
	@$(VENV)/bin/ruff check . && $(VENV)/bin/mypy
	@$(PY) -m proxy.schema --check docs/policy.schema.json
	@./setup.sh windows || echo "warning: the Windows resolution could not be checked (package index not reachable?)"

bench: setup packages
	@$(PY) bench/load.py
	@$(PY) -m bench.capture

weakenings: setup packages
	@$(PY) tests/weakenings.py

setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml setup.sh
	@./setup.sh venv $(VENV)

packages:
	@./setup.sh packages

clean:
	rm -rf $(VENV) build *.egg-info .ruff_cache .mypy_cache .pytest_cache
