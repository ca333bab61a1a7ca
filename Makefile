# Needs make and Python 3.11 or newer; everything else goes into .venv, once.
#   PYTHON=/path/to/python   the interpreter for .venv
#   PIP_ARGS="..."           more arguments for pip, for example a mirror or CPU-only torch (README "On a laptop")
#   ARGS="..."               more arguments for `tidecast demo`, pytest or the benchmarks
#   ONLY=name SCALE=10       one fault test of `make faults`, and ten times as large; ARGS="--list" names them
#   JOBS=6                   test processes: six wherever memory allows, for half of the tests wait for a server

VENV := .venv
BIN := $(VENV)/bin
AUDIT := .venv-audit
LOCK := .venv-lock
ROOM = $(shell awk '/^MemAvailable/ { n = int($$2 / 2500000); print (n < 2 ? 2 : n > 6 ? 6 : n) }' /proc/meminfo 2>/dev/null)
JOBS ?= $(if $(findstring -k,$(ARGS))$(findstring tests/,$(ARGS)),2,$(or $(ROOM),4))
MODERN := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$each >/dev/null 2>&1 && $$each $(MODERN) && echo $$each && break; done)

.PHONY: help install run test faults check bench docs reference audit lock sbom kafka clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-9s %s\n", $$1, $$2 }'

install: $(VENV)/.installed ## make .venv with tidecast in it; its commands are in .venv/bin

run: $(VENV)/.installed ## forecast real data on this machine: the demo, until Ctrl-C
	$(BIN)/tidecast demo $(ARGS)

test: export PYTHONDONTWRITEBYTECODE =  # else each test process compiles every test: 8 s of CPU
test: $(VENV)/.installed-test ## run every test; what cannot run here says why
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

faults: $(VENV)/.installed-test ## kill, freeze and cut everything, and print what came of it; ONLY=name SCALE=10
	$(BIN)/python -m tests.faults $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(ARGS)

check: $(VENV)/.installed-test ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test ## measure, as JSON lines
	$(BIN)/python -m tests.bench $(ARGS)

reference: $(VENV)/.installed-test ## write docs/reference/ from the code
	$(BIN)/python -m tests.reference

docs: $(VENV)/.installed-docs ## build docs/ as a site, in site/; a broken link or anchor fails
	$(BIN)/properdocs build

audit: $(AUDIT)/.installed ## look every pin up among known vulnerabilities; what cannot be looked up fails
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

lock: $(LOCK)/.installed ## pin what the image installs, with hashes, from constraints.txt
	echo 'setuptools>=77' | $(LOCK)/bin/uv pip compile pyproject.toml - --extra all -c constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --no-header --quiet -o $(LOCK)/all.lock
	awk '/^[a-z]/ { file = /^(torch|triton|nvidia-|cuda-)/ ? "deploy/torch.lock" : "deploy/requirements.lock" } \
		{ print > file }' $(LOCK)/all.lock

sbom: $(LOCK)/.installed ## list what the image installs as sbom.cdx.json (CycloneDX)
	cat deploy/requirements.lock deploy/torch.lock | $(LOCK)/bin/cyclonedx-py requirements - --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-format JSON -o sbom.cdx.json

kafka: ## start Apache Kafka on 127.0.0.1:9092 (needs Java 17 and Maven, or KAFKA_HOME)
	deploy/kafka/kafka.sh $(ARGS)

clean: ## remove .venv, caches and the demo's directory
	rm -rf $(VENV) $(AUDIT) $(LOCK) sbom.cdx.json site tidecast-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find tidecast models pipeline jobs tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "tidecast needs Python 3.11 or newer and found none." \
		"Install one, or say which: make run PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" $(MODERN) || { echo "$(PYTHON) is older than Python 3.11." \
		"Install a newer one, or say which: make run PYTHON=/path/to/python" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing tidecast into $(VENV), once; the download takes a few minutes"
	$(BIN)/python -m pip install --quiet --upgrade $(PIP_ARGS) 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[all]' --group test
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --group docs
	@touch $@

$(LOCK)/.installed: | $(BIN)/python
	$(BIN)/python -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet $(PIP_ARGS) 'uv==0.13.9' 'cyclonedx-bom==7.5.0'
	@touch $@

$(AUDIT)/.installed: | $(BIN)/python
	$(BIN)/python -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet $(PIP_ARGS) 'pip-audit==2.10.1'
	@touch $@
