# SPDX-License-Identifier: GPL-2.0-or-later
# make run    sets up, checks the spec and compares it with the storage daemon
# make test   sets up and runs the whole test suite
# make lint   types, style and import contracts
# make bench  the measurements

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 1

.PHONY: run test lint bench setup clean

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
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.pace
	$(BIN)/python -m benchmarks.data

setup: $(VENV)/.installed
	@.ci/install-daemon

$(VENV)/.installed: pyproject.toml .ci/make-venv
	@.ci/make-venv $(PYTHON) $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
