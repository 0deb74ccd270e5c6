# Every chore of this repository, the same here and in CI. It needs python3 (3.11 or newer, with venv) and make.
#   make run ARGS="--port 9000"        ARGS go to `weighbridge serve`
#   make test ARGS="tests/domain -x"   ARGS go to pytest

PYTHON ?= python3
BENCH ?= ../shared/bench
ROUNDS ?= 3
ENGINE ?= ../shared/docker
IMAGE ?= weighbridge
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
UV := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config --custom-compile-command "make lock"
LOCKS := requirements.txt requirements-postgres.txt requirements-image.txt requirements-build.txt requirements-dev.txt requirements-deploy.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-image check bench image dist sbom lock clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## the gateway; with the mock upstream behind it unless an upstream key is set somewhere
	@demo=; ! $(BIN)/weighbridge config check 2>&1 | grep -q "no upstream key" || demo=--demo; \
	exec $(BIN)/weighbridge serve $$demo $(ARGS)

test: $(VENV)/.dev $(VENV)/.deploy ## the tests
	@exec $(BIN)/python -m pytest -q -n 2 $(ARGS)

test-long: $(VENV)/.dev $(VENV)/.deploy ## the tests, the long ones too, with many more examples of every law
	@exec $(BIN)/python -m pytest -q -n 2 -m "not bench and not image" --hypothesis-profile=long --timeout=1800 $(ARGS)

check: $(VENV)/.dev ## style, types, floors, dependencies, documents
	@echo "ruff: style"
	@$(BIN)/ruff check --quiet --output-format=concise .
	@$(BIN)/ruff format --quiet --check . || { echo "Not formatted; $(BIN)/ruff format . mends it:"; $(BIN)/ruff format --check .; }
	@echo "mypy: types"
	@$(BIN)/mypy --no-error-summary
	@echo "import-linter: floors"
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { printf '%s\n' "$$out"; exit 1; }
	@echo "deptry: dependencies"
	@out=$$($(BIN)/deptry --no-ansi . 2>&1) || { printf '%s\n' "$$out"; exit 1; }
	@echo "pytest: documents and house rules"
	@$(BIN)/python -m pytest -q --no-header tests/docs

bench: $(VENV)/.installed ## CPU per call and per event, beside nginx and Envoy (takes long)
	@[ -f "$(BENCH)/run.sh" ] || { echo "The harness is not in $(BENCH); say where it is: make bench BENCH=folder" >&2; exit 1; }
	@exec sh "$(BENCH)/run.sh" $(ROUNDS) $(ARGS)

image: ## the container image
	@exec docker build --tag $(IMAGE) --build-arg REVISION=$$(git describe --always --dirty 2>/dev/null || echo unknown) $(ARGS) .

test-image: $(VENV)/.dev $(VENV)/.deploy ## the image, the compose files, the alert rules and the systemd unit, run; starts an engine with the scripts in ENGINE where none runs
	@exec sh deploy/docker/with-engine.sh "$(ENGINE)" $(BIN)/python -m pytest -q -m image tests/deploy $(ARGS)

dist: $(VENV)/.locked sbom ## wheel, sdist, list of components and checksums, in dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build -d dist
	@cp sbom.cdx.json dist/
	@cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

sbom: ## the list of components of what is installed (CycloneDX), from the locks alone, in sbom.cdx.json
	@$(PYTHON) tools/sbom.py requirements.txt $(wildcard requirements-image.txt) > sbom.cdx.json

lock: $(VENV)/.dev ## choose the newest versions anew and lock them by hash
	@echo "Locking $(LOCKS)"
	@$(UV) --upgrade pyproject.toml --output-file requirements.txt
	@$(UV) --upgrade pyproject.toml --extra postgres --constraint requirements.txt --output-file requirements-postgres.txt
	@$(UV) --upgrade pyproject.toml --all-extras --constraint requirements-postgres.txt --output-file requirements-image.txt
	@$(UV) --upgrade --group build --constraint requirements.txt --output-file requirements-build.txt
	@$(UV) --upgrade pyproject.toml --extra postgres --extra redis --group dev --constraint requirements-postgres.txt --output-file requirements-dev.txt
	@$(UV) --upgrade --group deploy --constraint requirements-dev.txt --output-file requirements-deploy.txt

clean: ## forget the virtual environment and everything tools left behind
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Weighbridge needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# The stamps say what is installed. Everything comes hash-checked from the locks; the project itself is then built
# with what is there, so that this last step asks no network.
$(VENV)/.locked: requirements.txt requirements-build.txt | $(BIN)/python
	@echo "Installing what the gateway needs"
	@$(PIP) --require-hashes -r requirements.txt -r requirements-build.txt
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what the tests and checks need"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.deploy: requirements-deploy.txt $(VENV)/.dev
	@echo "Installing what checks deploy/"
	@$(PIP) --require-hashes -r requirements-deploy.txt
	@touch $@
