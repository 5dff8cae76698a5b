# Every command of the project. Needs make, git and Python 3.11 or newer with venv; the rest comes from PyPI.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Which build of torch uv asks for where no find-links setting brings one: cpu, cu130, auto ...
TORCH_BACKEND ?= $(or $(UV_TORCH_BACKEND),cpu)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STARTED := $(shell date +%s)
# uv ignores pip's settings: hand find-links on, so that a wheel of torch that lies on this machine is taken.
FIND_LINKS = UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}"
BACKEND = $$([ -n "$$UV_FIND_LINKS$$PIP_FIND_LINKS" ] || echo --torch-backend $(TORCH_BACKEND))

# Where Python is told to write no bytecode, every process compiles torch and the rest anew: 25 CPU-seconds a start for 9.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := setup
.PHONY: setup demo demo-celery up test test-long chaos soak fuzz check audit bench constraints clean

setup: $(STAMP) ## the environment in .venv; a second run is instant

$(STAMP): pyproject.toml client/pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 or newer with venv: apt-get install -y make python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(FIND_LINKS) $(BIN)/uv pip install --quiet --python $(BIN)/python $(BACKEND) \
		-c constraints.txt --build-constraints constraints.txt -e ./client -e '.[worker]' --group dev
	@touch $@

demo: $(STAMP) ## fine-tune a small model, compress it over HTTP, run what comes back
	$(BIN)/python -m demo

demo-celery: $(STAMP) ## the same with throw-away PostgreSQL and Redis and two Celery workers
	$(BIN)/python -m demo --celery

up: $(STAMP) ## the service on this machine: SQLite, local files, one worker
	$(BIN)/ladapress up

test: $(STAMP) ## checks, then every suite; servers that the tests need are started and thrown away
	$(BIN)/python tests/suites.py --since $(STARTED)

test-long: $(STAMP) ## what takes minutes a test
	$(BIN)/python tests/suites.py --long

chaos: $(STAMP) ## a thousand jobs while workers, Redis and PostgreSQL are killed; LADAPRESS_CHAOS_SEED repeats a run
	$(BIN)/pytest -m chaos -v -s tests/chaos

soak: $(STAMP) ## five thousand jobs with few faults, some two hours; LADAPRESS_SOAK_JOBS says how many
	$(BIN)/pytest -m soak -v -s tests/chaos

fuzz: $(STAMP) ## ten thousand new requests against each database; LADAPRESS_FUZZ_SEED repeats a run
	$(BIN)/pytest -m fuzz -v -s tests/fuzz

check: $(STAMP) ## format, lint, types, architecture
	$(BIN)/python tests/suites.py checks

bench: $(STAMP) ## make bench DATA=folder TEACHER=folder: one JSON row per number that the README states
	$(BIN)/python -m bench $(if $(DATA),--data "$(DATA)") $(if $(TEACHER),--teacher "$(TEACHER)") $(ARGS)

constraints: $(STAMP) ## resolve every pin afresh but torch's, which is raised by hand; then run the tests
	grep '^torch==' constraints.txt > $(VENV)/torch.txt
	{ sed '/^[^#]/,$$d' constraints.txt; $(FIND_LINKS) $(BIN)/uv pip compile --quiet --upgrade --no-header \
		--no-annotate --python $(BIN)/python $(BACKEND) -c $(VENV)/torch.txt --extra worker --extra openvino --group dev \
		--no-emit-package ladapress pyproject.toml | sed 's/^\(torch==[^+]*\)+.*/\1/'; } > $(VENV)/constraints.txt
	cp $(VENV)/constraints.txt constraints.txt
	$(BIN)/python docker/lock.py
	$(BIN)/python docker/licences.py > docs/third-party.md

audit: $(STAMP) ## known vulnerabilities in what the images install
	$(BIN)/python docker/audit.py

clean: ## the environment, caches and builds; ladapress-data (your models and jobs) stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
