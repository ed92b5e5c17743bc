# Each target makes what it needs: .venv with pinned versions, on a Python >= 3.11 found on PATH.
#   PYTHON=/path/to/python3.12   build .venv on this one      VENV=dir   another place for it
#   ARGS="--model llama-3.1-8b"  more words for `flopwatt run`

VENV ?= .venv
ARGS ?= --suite quick
WORKERS ?= 2
INPUTS ?= 1000000
export VENV PYTHON

# Any Python can start the set-up, which then looks for the best one itself.
STARTER := $(or $(PYTHON),$(shell command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11))
SETUP = @test -n '$(STARTER)' || { echo 'no python3 found: install Python 3.11 or newer (apt install python3 python3-venv)' >&2; exit 2; }; \
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='$(CURDIR)/bench' '$(STARTER)' -m bootstrap
PY = $(VENV)/bin/python
# One thread a test process: torch would otherwise start as many threads as cores in each of them.
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)

.PHONY: run fleet setup-fleet test test-slow test-gpu check bench compiled fuzz clean results

run:
	$(SETUP) measure
	@$(VENV)/bin/flopwatt run $(ARGS)

# ARGS="--suite quick -o FOLDER"; needs more than `make run` does: Ray.
fleet: setup-fleet
	@$(VENV)/bin/flopwatt fleet run $(ARGS)

setup-fleet:
	$(SETUP) measure,fleet

test:
	$(SETUP) dev
	$(PYTEST) -m 'not slow and not gpu'

test-slow:
	$(SETUP) dev
	$(SETUP) consumers
	$(PYTEST) -m 'slow and not gpu' --timeout=900

test-gpu:
	$(SETUP) dev
	$(PY) -m pytest -m gpu

check:
	$(SETUP) dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	PYTHONPATH='$(CURDIR)/bench' $(PY) -m bootstrap.audit

# INPUTS: how many, over all readers of foreign input. Two processes; failing inputs are kept in fuzz-findings/.
fuzz:
	$(SETUP) dev
	$(PY) tests/fuzz/fuzz.py --inputs $(INPUTS)

bench:
	$(SETUP) dev
	@set -e; for script in bench/benchmarks/*.py; do echo "== $$script"; $(PY) "$$script"; done

# results/README.md, from the run files there and results/index.toml.
results:
	$(SETUP) dev
	PYTHONPATH=kernels:bench $(PY) -m flopwatt.analysis.results_index results

# What the compiler makes of every kernel configuration for sm_80, sm_90 and sm_100: minutes on two cores, no GPU.
compiled:
	$(SETUP) dev
	$(VENV)/bin/flopwatt tune --compile-only --target sm_80 --target sm_90 --target sm_100 --format markdown > COMPILED.part || test $$? -eq 1
	mv COMPILED.part kernels/COMPILED.md

# Measured runs (*.jsonl) stay.
clean:
	$(SETUP) remove
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv*" -type d -prune -exec rm -rf {} +
