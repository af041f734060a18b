# SPDX-License-Identifier: GPL-2.0-or-later
# make run    sets up, checks the spec and compares it with the storage daemon
# make test   sets up and runs the whole test suite, several tests at a time
# make quick  the tests that need no daemon, without the slow ones: a minute or two
# make lint   types, style and import contracts
# make bench  the measurements
# make lock   pins the newest versions that pyproject.toml allows
# make test-newest  the fast tests with the newest and the lowest versions that it allows
# make test-lowest  with the lowest alone

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 1
# Twice as many workers as cores (tests/conftest.py), because many tests wait; 0: one after the other.
WORKERS ?= auto

.PHONY: run test quick lint bench lock test-newest test-lowest setup clean

run: setup
	@$(BIN)/reopencheck check --examples 150 --seed $(SEED)
	@if command -v qemu-storage-daemon >/dev/null; then \
	  $(BIN)/reopencheck diff --qemu qemu-storage-daemon --examples 300 --seed $(SEED) --report out/report; \
	else \
	  echo "No qemu-storage-daemon: the spec was checked alone."; \
	  echo "To compare it with a real one: apt-get install qemu-utils qemu-system-common"; \
	fi

test: setup
	@command -v qemu-storage-daemon >/dev/null || { \
	  echo "The test suite needs a daemon: apt-get install qemu-utils qemu-system-common" >&2; exit 2; }
	@command -v qemu-system-x86_64 >/dev/null || { \
	  echo "The test suite needs a system emulator: apt-get install qemu-system-x86" >&2; exit 2; }
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --durations 10 --durations-min 2

quick: $(VENV)/.installed
	$(BIN)/python -m pytest --ignore tests/real -m 'not slow' --numprocesses logical

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.pace
	$(BIN)/python -m benchmarks.data

lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --upgrade --quiet \
	  --custom-compile-command 'make lock' --output-file requirements.lock

test-newest: setup
	@.ci/test-newest $(BIN)/python $(BIN)/uv highest lowest-direct

test-lowest: setup
	@.ci/test-newest $(BIN)/python $(BIN)/uv lowest-direct

setup: $(VENV)/.installed
	@.ci/install-daemon

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What the lock pins, and nothing else; then the project, for which nothing is fetched.
$(VENV)/.installed: pyproject.toml requirements.lock .ci/make-venv
	@.ci/make-venv $(PYTHON) $(VENV)
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
