# EasyPay. `make` alone lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help run test check format bench bench-find bench-cache bench-work breadth bench-books growth recovery faults kills year plans wheel lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ printf "  make %-10s", $$2; $$1 = $$2 = ""; print }'

run: $(VENV)/.run ## Start database, simulator and gateway on this machine (ARGS="--port 9000")
	@echo "Other commands, in another terminal: $(BIN)/easypay --help"
	@exec $(BIN)/easypay up $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS="tests/api -k refund")
	@tests/interop/install-node
	@tests/install-servers
	@exec $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types, code and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/contracts.py
	$(BIN)/lint-imports --verbose > $(VENV)/contracts.log 2>&1 || { cat $(VENV)/contracts.log; exit 1; }

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure payments per second and CPU per payment (ARGS="--help")
	@PYTHON=$(BIN)/python exec bench/run $(ARGS)

bench-find: $(VENV)/.dev ## Measure how fast payments are found among 10 million (ARGS="--data DIR --keep")
	@exec $(BIN)/python -m easypay_bench.finding $(ARGS)

bench-cache: $(VENV)/.dev ## Measure what the caches save, with and without Valkey (ARGS="--help")
	@exec $(BIN)/python -m easypay_bench.caching $(ARGS)

bench-work: $(VENV)/.dev ## Measure queued payments, the feed and webhooks (ARGS="--help")
	@exec $(BIN)/python -m easypay_bench.work $(ARGS)

growth: $(VENV)/.dev ## Measure the simulator with a million transactions (ARGS="--transactions 50000")
	@exec $(BIN)/python -m easypay_bench.growth $(ARGS)

SEEDS := 100
FIRST := 0
JOBS := 2

faults: $(VENV)/.dev ## Run shops, faults and kills by random seeds; check every outcome (SEEDS=1000 ARGS="--replay 7")
	@PYTHONPATH=tests exec $(BIN)/python -m faults.seeds --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS) $(ARGS)

TIMES := 1
NEW :=

breadth: $(VENV)/.dev ## Run the random tests with more examples than in the suite (TIMES=10 NEW=1)
	@EASYPAY_BREADTH=$(TIMES) EASYPAY_HYPOTHESIS=$(if $(NEW),random,repeatable) exec $(BIN)/python -m pytest -m breadth $(ARGS)

ROUNDS := 100

kills: $(VENV)/.dev ## Kill gateways, workers and PostgreSQL at random under load; check that all happened once (ROUNDS=500 ARGS="--replay 7")
	@PYTHONPATH=tests exec $(BIN)/python -m faults.kills --rounds $(ROUNDS) --first $(FIRST) --jobs $(JOBS) $(ARGS)

DAYS := 365
SEED := 1

year: $(VENV)/.dev ## Live a year of a shop with faults; every cent that settled must be explained (DAYS=365 SEED=1)
	@EASYPAY_YEAR_DAYS=$(DAYS) EASYPAY_YEAR_SEED=$(SEED) exec $(BIN)/python -m pytest -n 0 tests/reconciliation/test_year.py $(ARGS)

bench-books: $(VENV)/.dev ## Measure the reconciliation of one large batch (ARGS="--transactions 100000")
	@PYTHONPATH=tests exec $(BIN)/python -m reconciliation.measure $(ARGS)

plans: $(VENV)/.dev ## Measure every statement on 200,000 payments over 120 months; renew docs/database.md (ARGS="--keep")
	@PYTHONPATH=tests:tests/db exec $(BIN)/python -m plans $(ARGS)

wheel: $(VENV)/.run ## Build dist/easypay-*.whl for pipx, uv or pip
	@rm -rf build dist
	@$(PIP) wheel --no-index --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build; echo "Built $$(ls dist/*.whl)"

# Exact versions and their hashes, for every platform, without addresses. Needs uv.
COMPILE := uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links --quiet

recovery: $(VENV)/.dev ## Measure how fast lost replies are resolved (ARGS="--lost 100000")
	@exec $(BIN)/python -m easypay_bench.recovery $(ARGS)

lock: ## Renew the dependency locks (UP=--upgrade for newer versions)
	$(COMPILE) $(UP) --output-file requirements.lock
	$(COMPILE) $(UP) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## Remove build results; keep the data in .easypay
	rm -rf $(VENV) .interop build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON=/path/to/python sets the interpreter; otherwise tools/python chooses one.
$(VENV)/bin/python:
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$(tools/python); \
	[ -n "$$python" ] || { echo "make: EasyPay needs Python 3.11 or newer, but none was found; set PYTHON=/path/to/python" >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: EasyPay needs Python 3.11 or newer; $$python is older" >&2; exit 1; }; \
	echo "Making $(VENV) with $$("$$python" --version), $$python"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "make: Python's venv module is incomplete; on Debian: apt-get install python3-venv" >&2; exit 1; }

# The locks pin everything, including setuptools, so that nothing unpinned is fetched.
$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing from requirements.lock"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing from requirements-dev.lock"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.run
