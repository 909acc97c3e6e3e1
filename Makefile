# `make demo` and `make test` do everything, the installation included.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# accelerate gives a process one thread unless told otherwise.
export OMP_NUM_THREADS ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/accelerate launch run_meta.py configs/quickstart.yaml

test: $(VENV)/installed lint
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,demo]'
	touch $@

clean:
	rm -rf $(VENV) outputs
