# Everything HelixFlow's developers run. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt lock bench soak clean

help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-8s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp per lock file, so that an unchanged lock costs nothing.
$(VENV)/.%: requirements/%.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing requirements/$*.txt into $(VENV) (once, and when the lock changes) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/$*.txt
	@touch $@

setup: $(VENV)/.dev ## Make .venv with everything for development
run: $(VENV)/.run ## Start the whole of HelixFlow on this machine
	@exec $(BIN)/python manage.py up $(ARGS)

test: $(VENV)/.dev ## Run the tests (ARGS="-k name" to choose)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev ## Lint, types, import contract, migrations, deploy check
	@$(BIN)/python -m tests.checks $(ARGS)

fmt: $(VENV)/.dev ## Format Python and templates
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	git ls-files '*.html' | xargs -r $(BIN)/djade --target-version 5.2

lock: $(VENV)/.dev ## Make the lock files anew from pyproject.toml
	@set -e; compile="$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet"; \
	$$compile -o requirements/runtime.txt; \
	$$compile --extra embedded -c requirements/runtime.txt -o requirements/run.txt; \
	$$compile --extra embedded --group dev -c requirements/run.txt -o requirements/dev.txt

bench: $(VENV)/.dev ## Measure the data plane beside nginx, in one run
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.dev ## Run the long randomised tests (ARGS="--seed N" to replay)
	@$(BIN)/python -m tests.soak $(ARGS)

clean: ## Remove the virtual environment and caches (your data in .helixflow stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
