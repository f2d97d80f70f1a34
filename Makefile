PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CC ?= cc

.PHONY: demo test test-long fuzz check format bench bench-peers install install-dev lock clean

demo: install
	$(BIN)/northbund demo

test: install-dev
	$(BIN)/pytest -q

test-long: install-dev
	$(BIN)/pytest -q -m slow --timeout 900

# FUZZ_SECONDS=60 in all; inputs that fail are kept under build/fuzz.
fuzz: install-dev
	$(BIN)/pip install --quiet --require-hashes -r requirements-fuzz.lock
	$(BIN)/python -m tests.fuzz

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install-dev
	$(BIN)/python -m tests.bench

# The same sum in other libraries, each in an environment of its own under build/peers (3 GB).
bench-peers: install-dev
	$(BIN)/python -m tests.bench.peers

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock pyproject.toml
	$(call prepare)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@$(BIN)/python -m compileall -q protocol mpc chain node
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml
	$(call prepare)
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@$(BIN)/python -m compileall -q protocol mpc chain node
	@touch $(VENV)/.installed $@

# fastecdsa, which libp2p needs, is compiled against GMP.
define prepare
	@echo '#include <gmp.h>' | $(CC) -E - >/dev/null 2>&1 || { \
	  echo "A C compiler with gmp.h is needed and missing. On Debian and Ubuntu:"; \
	  echo "  sudo apt-get install gcc libgmp-dev python3-dev python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; name it with: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
endef

# Writes both lock files anew from pyproject.toml; uv is needed for this alone.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo \
	  --generate-hashes --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --extra dev \
	  --generate-hashes --no-header --no-annotate -o requirements-dev.lock
	sed -n 's/^ *"\(atheris[^"]*\)".*/\1/p' pyproject.toml | uv pip compile - --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-fuzz.lock

clean:
	-test ! -x $(BIN)/northbund || $(BIN)/northbund demo --clean
	rm -rf build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
