# Needs python3 (3.11 or newer), its venv module and make; everything else is installed into $(VENV).
#
#   make suites    validate the models in suites/models        BACKEND=tensorrt_rtx  ARGS='--trt-model mnist_cnn'
#   make test      run the harness's own tests                 ARGS='-m "not slow"'
#   make contact   try every feature of TensorRT that is used on a tiny network        BACKEND=tensorrt
#   make zoo       fetch the models that are not committed; `make suites` then validates them too
#   make lint      ruff, mypy and the import contracts
#   make spoil     some 400 faults in every model's engines: which pass? (an hour)     ARGS='--model detector'
#   make mutants   small changes to the modules that decide: which do no test notice? (half an hour)
#   make fuzz      100,000 hostile files (about an hour; for a nightly job)    CASES=2000  SEED=7

VENV ?= .venv
# Versions that are tested together; `make LOCK=` installs whatever pyproject.toml allows.
LOCK ?= -c requirements.lock
PYTHON ?= python3
BACKEND ?=
ARGS ?=
CASES ?= 100000
SEED ?= $(shell date +%Y%m%d)

bin := $(VENV)/bin
extra_of_tensorrt := tensorrt
extra_of_tensorrt_rtx := rtx
extra := $(extra_of_$(BACKEND))
installed := $(VENV)/.installed$(if $(extra),-$(extra))

.DEFAULT_GOAL := suites
.PHONY: suites test zoo lint fuzz spoil mutants clean contact

suites: $(installed)
	$(bin)/python -m pytest suites/ $(if $(BACKEND),--trt-backend=$(BACKEND)) $(ARGS)

test: $(VENV)/.installed-dev
	$(bin)/python -m pytest tests/ $(ARGS)

contact: $(installed)
	mkdir -p reports
	$(bin)/trt-harness doctor --try --save reports/first-contact.zip

zoo: $(VENV)/.installed
	$(bin)/trt-harness fetch suites/models

lint: $(VENV)/.installed-dev
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy --strict
	PYTHONPATH=. $(bin)/lint-imports

fuzz: $(VENV)/.installed-dev
	$(bin)/python -m tests.fuzz --cases $(CASES) --seed $(SEED) --folder .fuzz

spoil: $(VENV)/.installed-dev
	$(bin)/python -m benchmarks.spoil $(ARGS)

mutants: $(VENV)/.installed-dev
	$(bin)/python -m tests.mutants $(ARGS)

clean:
	rm -rf $(VENV) .fuzz build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

# An older pip knows no dependency groups.
$(bin)/python:
	$(PYTHON) -m venv $(VENV)
	$@ -m pip install --quiet --upgrade 'pip>=25.1'

# With `zoo`: models that another checkout fetched join every run, and read images.
$(VENV)/.installed: pyproject.toml requirements.lock | $(bin)/python
	$(bin)/python -m pip install --quiet $(LOCK) --editable '.[zoo]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(bin)/python -m pip install --quiet $(LOCK) --group dev
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(bin)/python -m pip install --quiet $(LOCK) --editable '.[$*]'
	touch $@
