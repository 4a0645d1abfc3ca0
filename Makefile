PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# files are UTF-8 and notebooks run in .venv, whatever the locale is and whatever kernels the machine has
export PYTHONUTF8 := 1
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help setup demo study test lab lint notebooks sample readme screenshot gpu-check lock
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(READY) ## set up, nothing else: .venv

demo: $(READY) ## set up, run one small study in a few minutes, print three numbers and what to open
	milcnn demo

# DVC runs one stage at a time. Here JOBS stages that need nothing of each other run at once, with one thread each: that
# takes a third less CPU time than one after the other on all cores.
JOBS ?= 2

study: $(READY) ## set up, run the studies of params.yaml, print where the report is
	milcnn study --jobs $(JOBS)
	@echo "The report: file://$(CURDIR)/reports/html/index.html"

test: $(READY) lint ## set up, lint, unit tests, the committed outputs of the notebooks
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 pytest -q
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 JUPYTER_PATH= OMP_NUM_THREADS=1 pytest -q -p nbval.plugin --nbval notebooks/

lab: $(READY) ## JupyterLab on the notebooks
	jupyter lab notebooks

lint: $(READY) ## style, types, and that imports point down the list of rooms
	ruff check .
	ruff format --check .
	lint-imports
	mypy

notebooks: $(READY) ## run the notebooks anew, so that their committed outputs are fresh
	CUDA_VISIBLE_DEVICES= JUPYTER_PATH= OMP_NUM_THREADS=1 jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb

sample: $(READY) ## cut data/sample (at most 1 MB) from the last run
	rm -rf data/sample
	milcnn clean
	milcnn run prepare sample
	milcnn sample

readme: $(READY) ## numbers and figures of README.md and docs/results.md from the last run
	milcnn readme

screenshot: $(READY) ## docs/explorer.png, from the last run; needs Chromium
	python -m tests.explore.screenshot simulated

gpu-check: ## does a GPU compute what the CPU does, and how fast: benchmarks/results/gpu_check-<card>.json; no set-up
	$(PYTHON) benchmarks/gpu_check.py

lock: ## pin anew the newest versions that pyproject.toml allows
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q -e '.[dev]'
	build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

# A torch of the right version that is already in .venv stays, such as a CPU build.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 14))' 2> /dev/null || \
		{ echo "make: needs Python 3.11 (3.11.5 or later), 3.12 or 3.13; name one by 'make PYTHON=python3.12'." >&2; exit 1; }
	@test -d .venv || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "make: this Python cannot make a virtual environment; install its venv package." >&2; exit 1; }
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@
