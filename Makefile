# make study: set up and run the whole default study.  make test: set up and test.  make lab: JupyterLab.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: study stages test lab lint notebooks sample readme lock

# DVC runs one stage at a time. Stages that need nothing of each other, JOBS at once with one thread each, take a
# third less CPU time than one after the other on all cores. The cores are shared: a stage that starts processes has
# cores / JOBS of them. By itself dvc waits 3 s for another dvc to write what it has done; on a slow disk or
# processor that is too short.
JOBS ?= 2
WORKERS = $$(( ($$(getconf _NPROCESSORS_ONLN) + $(JOBS) - 1) / $(JOBS) ))
at_once = dvc stage list --name-only | grep -E '^($(1))@' \
	| OMP_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=$(WORKERS) xargs -P $(JOBS) -n 1 dvc --wait-for-lock repro -s

study: $(READY)
	dvc repro -q $$(dvc stage list --name-only | grep '^inventory@')
	dvc status -q $$(dvc stage list --name-only | grep -v '^inventory@') || $(MAKE) stages
	@echo "The report: file://$(CURDIR)/reports/html/index.html"

stages:
	dvc repro clean
	$(call at_once,prepare)
	$(call at_once,train|shuffled)
	$(call at_once,baselines)
	$(call at_once,label_noise)
	$(call at_once,compare|localise|explore)
	dvc repro

test: $(READY) lint
	pytest -q
	pytest -q --nbval notebooks/

lab: $(READY)
	jupyter lab notebooks

lint: $(READY)
	ruff check .
	ruff format --check .

# The committed outputs of the notebooks: the small run, top to bottom.
notebooks: $(READY)
	CUDA_VISIBLE_DEVICES= jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

# What is in data/sample, at most 1 MB: small prepared fields, and a slice of the default study after `make study`.
sample: $(READY)
	rm -rf data/sample
	milcnn clean
	milcnn run prepare sample
	milcnn sample

# The README's numbers and figure 1, from summary.csv and the figures of the last run.
readme: $(READY)
	milcnn results

# A new lock, from what pyproject.toml asks for today.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q -e '.[dev]'
	build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

$(READY): requirements.lock pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@
