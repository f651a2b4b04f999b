# shopkeeper: `make` lists what there is.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Setting PYTHON picks the interpreter; ARGS is handed to the program behind `demo`, `lab`, `test` and `test-all`.
PYTHON ?=
ARGS ?=

BIN := .venv/bin
SETUP := .venv/.setup-done
SERVING_SETUP := .venv-serving/.setup-done
ENGINES_SETUP := .venv/.engines-done
NOTEBOOKS = $(wildcard notebooks/*.ipynb)
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --nbmake --nbmake-timeout=600 tests $(NOTEBOOKS)
SERVING_PYTEST = cd serving && ../.venv-serving/bin/python -m pytest tests

# Python 3.11 is what the pinned versions were tested with, so it is tried before newer ones.
define find_python
for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3); do \
  if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    python=$$(command -v $$candidate); break; \
  fi; \
done; \
if [ -z "$$python" ]; then \
  echo "error: no Python 3.11 or newer with the venv module found$(if $(PYTHON), as PYTHON=$(PYTHON))." \
    "Install one (Debian and Ubuntu: apt install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3" >&2; \
  exit 1; \
fi
endef

# $(call make_venv,folder): keeps a working environment, replaces a broken or half-made one
define make_venv
$(find_python); \
if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
  echo "== $(1): new virtual environment from $$python ($$($$python -V))"; \
  $$python -m venv --clear $(1); \
fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(SETUP) ## install everything into .venv, at the tested versions
	@echo "== .venv is ready; run programs as .venv/bin/shopkeeper, or: source .venv/bin/activate"

$(SETUP): pyproject.toml constraints.txt serving/pyproject.toml
	@$(call make_venv,.venv)
	@echo "== installing into .venv: about 2 GB, a few minutes the first time"
	@$(BIN)/python -m pip install -c constraints.txt -e ./serving -e ".[dev,notebooks]"
	@touch $@

$(SERVING_SETUP): constraints.txt serving/pyproject.toml
	@$(call make_venv,.venv-serving)
	@echo "== installing the serving package alone into .venv-serving: no torch there"
	@.venv-serving/bin/python -m pip install -c constraints.txt -e "./serving[test]"
	@touch $@

.PHONY: setup-engines
setup-engines: $(ENGINES_SETUP) ## also what engine=spark and logs in Postgres need (450 MB)

$(ENGINES_SETUP): $(SETUP)
	@$(BIN)/python -m pip install -c constraints.txt -e ".[spark,postgres]"
	@touch $@

.PHONY: demo
demo: setup ## the whole flow on real data: prepare, train, evaluate, export, serve one request
	$(BIN)/shopkeeper demo output=demo $(ARGS)

.PHONY: test
test: setup test-serving ## the tests of both distributions; serving's run without torch
	$(PYTEST) -m "not slow and not service" $(ARGS)

.PHONY: test-all
test-all: setup-engines test-serving ## also the tests marked slow or service, Spark's and Postgres' among them
	$(PYTEST) $(ARGS)

.PHONY: test-serving
test-serving: $(SERVING_SETUP)
	$(SERVING_PYTEST)

.PHONY: lint
lint: setup ## formatter, linter, import rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

.PHONY: check
check: lint test ## what to run before a commit: lint and the fast tests

.PHONY: lab
lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab $(ARGS) notebooks
