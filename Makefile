# make demo        the whole main job on sample data
# make test        the fast tests, at most ten minutes on two cores
# make test-all    every test
# make test-paths  the fast tests as on a processor with AVX2 alone, then on plain torch
# make lint        style, types, direction of imports
# make bench       every benchmark; figures go to benchmarks/results
# make wheel       dist/: the sdist, and a wheel with the native path inside
# make clean       away with what was built, .venv included
#
# On Linux the package index serves torch for CUDA, some gigabytes. For the CPU build:
#   make PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" test

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?=
BIN := .venv/bin
NATIVE := src/promptgraft/kernels/native
BENCHMARKS := train_step kernels many_prompts mixed_batch int8 panda_job compare_job scaling estimate demo language_models \
	search gpu

# Keeps torch and numpy from what a processor can do beyond AVX2; a processor without AVX2 tests plain torch twice.
AVX2_ALONE := PROMPTGRAFT_NATIVE=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 \
	OPENBLAS_CORETYPE=Haswell

.PHONY: demo test test-all test-paths lint bench wheel venv clean

demo: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: venv
	$(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_FLAGS)

test-all: venv
	$(BIN)/python -m pytest -n 2 $(PYTEST_FLAGS)

test-paths: venv
	$(AVX2_ALONE) $(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_FLAGS)
	PROMPTGRAFT_NATIVE=0 $(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_FLAGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: venv
	set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done
	$(BIN)/python scripts/performance_page.py > docs/performance.md

wheel: venv
	rm -f dist/promptgraft-*
	$(BIN)/python -m hatchling build -d dist

venv: .venv/.ready .venv/.native

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; name a Python, 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) scripts/before_setup.py "$(PIP_FLAGS)" "$(or $(MAKECMDGOALS),demo)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(if $(wildcard $@),--quiet) $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

# The installation compiles the native path; here it says what was left out, and compiles again what has changed.
.venv/.native: $(NATIVE)/build.py $(wildcard $(NATIVE)/*.cpp $(NATIVE)/*.h) | .venv/.ready
	$(BIN)/python $(NATIVE)/build.py
	touch $@

clean:
	rm -f $(NATIVE)/*.so
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
