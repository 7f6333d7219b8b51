# Needs python3 (3.11 or newer), its venv module and make; everything else is installed into $(VENV).
#
#   make suites    validate the models in suites/models        BACKEND=tensorrt_rtx  ARGS='--trt-model mnist_cnn'
#   make test      run the harness's own tests                 ARGS='-m "not slow"'
#   make zoo       fetch the models that are not committed; `make suites` then validates them too
#   make lint      ruff and mypy

VENV ?= .venv
PYTHON ?= python3
BACKEND ?=
ARGS ?=

bin := $(VENV)/bin
extra_of_tensorrt := tensorrt
extra_of_tensorrt_rtx := rtx
extra := $(extra_of_$(BACKEND))
installed := $(VENV)/.installed$(if $(extra),-$(extra))

.DEFAULT_GOAL := suites
.PHONY: suites test zoo lint clean

suites: $(installed)
	$(bin)/python -m pytest suites/ $(if $(BACKEND),--trt-backend=$(BACKEND)) $(ARGS)

test: $(VENV)/.installed-dev
	$(bin)/python -m pytest tests/ $(ARGS)

zoo: $(VENV)/.installed-zoo
	$(bin)/trt-harness fetch suites/models

lint: $(VENV)/.installed-dev
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy --strict

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# An older pip knows no dependency groups.
$(bin)/python:
	$(PYTHON) -m venv $(VENV)
	$@ -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(bin)/python
	$(bin)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(bin)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(bin)/python -m pip install --quiet --editable '.[$*]'
	touch $@
