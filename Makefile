# Targets a newcomer needs. Everything runs in .venv, made on the first call and reused afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-all slurm-test report-picture bench lint format clean

install: $(STAMP)

# Installed again only when what is to be installed has changed.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aceslm needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## the quickstart grid on the embedded model: real answers in minutes
	$(BIN)/aceslm prestage configs/quickstart.yaml
	$(BIN)/aceslm submit configs/quickstart.yaml --cluster local --wait

test: $(STAMP)  ## the default suite: offline, under three minutes on two cores
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: $(STAMP)  ## the default suite and the marked tests
	$(BIN)/python -m pytest -o addopts=

slurm-test: $(STAMP)  ## only the tests on a real Slurm, started for them (needs root and Debian's packages)
	$(BIN)/python -m pytest -o addopts= -m slurm tests/slurm

report-picture: $(STAMP)  ## the README's picture, of RUN=results/<run> (needs Chromium)
	$(BIN)/aceslm report $(RUN)
	$(BIN)/python tests/browser/picture.py $(RUN)/report.html tests/browser/report.png

bench: $(STAMP)  ## what engines, commands and launching cost (the last on a real Slurm against a bare sbatch --array)
	$(BIN)/aceslm prestage --model-id smollm2-135m-gguf
	$(BIN)/aceslm bench --baseline-repeats 1
	$(BIN)/python tests/bench_command.py
	$(BIN)/python tests/slurm/bench_submit.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## removes the environment; run directories stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
