.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := tests/mail tests/jobs tests/settings tests/graph tests/delivery tests/store tests/access tests/cloudevents \
  tests/telemetry tests/cli tests/doctor tests/test_client.py tests/test_django.py tests/test_render.py tests/test_renderer.py tests/test_templates.py
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## A virtual environment in .venv with everything in it, at the locked versions

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Send a few mails through a Redis, a sandbox and a worker of their own, and show each one's way
	@$(BIN)/postroom demo

dev: setup ## The same, but stays up and prints the addresses
	@$(BIN)/postroom dev

test: setup ## All tests, in parallel
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not world"

test-world: setup ## Tests with servers and clients that others ship, and long ones; what is missing is skipped
	$(BIN)/python -m pytest -n 2 --dist worksteal -m world

test-core: setup ## The tests of what all doors and workers share; PYTHON=python3.13 VENV=.venv-3.13 runs them on that one
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not world" $(CORE)

chaos: setup ## 10,000 mails while everything fails, then the balance; ARGS=--help tells more
	@$(BIN)/python -m tests.faults.chaos $(ARGS)

check: setup ## Format, lint, types, import contracts and the Lua library, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.lua_check

format: setup ## Put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

tables: setup ## Write the tables of docs/ that come from the code
	$(BIN)/python -m tests.docs.tables

lock: setup ## Lock newer versions of everything
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --quiet \
	  --extra api --extra smtp --extra curl --extra keyvault --extra sandbox pyproject.toml -o requirements/run.lock
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --quiet \
	  --group build -c requirements/run.lock -o requirements/build.lock
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --quiet \
	  --extra api --extra smtp --extra curl --extra keyvault --extra sandbox --group dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --quiet \
	  requirements/peers.in -c requirements/dev.lock -o requirements/peers.lock
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --quiet \
	  --extra sandbox --group bench pyproject.toml -c requirements/dev.lock -o requirements/bench.lock

check-peers: setup ## Microsoft's own SDK against the sandbox (an environment of its own: half a gigabyte)
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/dev.lock -r requirements/peers.lock
	$(VENV)-peers/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	$(VENV)-peers/bin/python -m pytest tests/peers

bench: $(VENV)-bench/.installed ## Figures beside those of alternatives, in a quarter of an hour; ARGS=--help tells more
	@$(VENV)-bench/bin/python -m bench $(ARGS)

bench-growth: $(VENV)-bench/.installed ## How cost grows with lanes, backlog, processes and size, in some minutes; ARGS=--quick tries it
	@$(VENV)-bench/bin/python -m bench.growth $(ARGS)

$(VENV)-bench/.installed: requirements/bench.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/bench.lock
	$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## Remove what was installed and built
	rm -rf $(VENV) $(VENV)-peers $(VENV)-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help setup demo dev test test-core test-world chaos check format tables lock check-peers bench bench-growth clean
