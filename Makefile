# The two commands to know: `make demo` and `make test`. All of them set up .venv from the lock by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements.lock
# Also where it is set: tests start hundreds of processes, and each would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test check e2e observability bench chaos sabotages fuzz docs site dist image lock format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    six evaluation Jobs, told live, on this machine alone"
	@echo "make test    every test that needs no cluster; PROCESSES=6"
	@echo "make check   format, lint, types, import contracts, documentation"
	@echo "make site    the documentation, in site/"
	@echo "make e2e     the end-to-end tests against the current kubeconfig context"
	@echo "make bench   the benchmark table"
	@echo "make observability: dashboard and alerts against a real Prometheus"
	@echo "make fuzz    coverage-guided fuzzing of every decoder; SECONDS=600 altogether"
	@echo "make chaos   the fault run against the current kubeconfig context; JOBS=500 FAULTS=40 SEED=1"
	@echo "make sabotages: whether the fault run finds five mistakes that were made on purpose"

setup: $(READY)

# Hashes are checked: what runs here is what was locked. hatchling comes from the lock too, hence no build isolation.
$(READY): $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup
	@$(BIN)/jobcast demo

# What runs the tests; CI has one that tries what failed once more (.ci/twice).
PYTEST ?= $(BIN)/python -m pytest

# More processes than most machines have cores: tests wait more than they compute.
PROCESSES ?= 6
test: setup
	$(PYTEST) -n $(PROCESSES) --dist worksteal -m "not cluster and not chaos and not prometheus"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/generate.py --check
	@$(MAKE) --no-print-directory site

# The image that is installed is jobcast:dev, or JOBCAST_IMAGE. What measures times has the machine to itself.
e2e: setup
	$(PYTEST) -m "cluster and alone" tests/e2e
	$(PYTEST) -n 4 --dist worksteal -m "cluster and not alone"

# Wants Debian's package `prometheus`, which brings promtool; a service of it need not run.
observability: setup
	@command -v promtool && command -v prometheus || { echo "Debian's package prometheus is needed"; exit 1; }
	$(PYTEST) -m prometheus tests/observability

bench: setup
	@$(BIN)/python -m benchmarks

# More in CHAOS, for example CHAOS="--devcluster", or the commands that only the owner of a cluster knows:
# CHAOS="--restart-apiserver 'systemctl restart kube-apiserver'".
JOBS ?= 500
FAULTS ?= 40
SEED ?= 1
chaos: setup
	@$(BIN)/python -m chaos --jobs $(JOBS) --faults $(FAULTS) --seed $(SEED) $(CHAOS)

# Five mistakes, and none: whether the fault run finds what it is there for. A quarter of an hour.
sabotages: setup
	$(PYTEST) -m chaos tests/chaos

# atheris has an environment of its own: it is no part of the lock, and has no wheel for every Python.
FUZZ := .venv-fuzz
SECONDS ?= 600
fuzz: $(FUZZ)/.ready
	@$(FUZZ)/bin/python -m fuzz $(SECONDS)

$(FUZZ)/.ready: $(LOCK)
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	@touch $@

docs: setup
	$(BIN)/python docs/generate.py

# The documentation as a site, in site/. Not with --quiet: warnings that are not shown are not counted either. MkDocs and its theme have an environment of their own: nobody else needs them.
SITE := .venv-docs
site: $(SITE)/.ready
	@said=$$(NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict 2>&1) || { echo "$$said"; exit 1; }

$(SITE)/.ready: requirements-docs.lock
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

# Wheel, sdist and the image's bill of materials, for a release.
dist: setup
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m release.sbom > dist/jobcast.cdx.json

# With the version and the commit on it. BUILD="podman build" for whoever has no docker.
BUILD ?= docker build
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' jobcast/__init__.py)
image:
	$(BUILD) --tag jobcast:$(VERSION) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One lock for everything: celery, kombu and others pin each other. Universal, so that it serves every Python and platform.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" \
		--all-extras --group dev pyproject.toml --output-file $(LOCK)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --constraint $(LOCK) \
		--extra controller --extra worker --extra cli pyproject.toml --output-file requirements-image.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --group docs --output-file requirements-docs.lock

clean:
	rm -rf $(VENV) $(FUZZ) $(SITE) site .pytest_cache .mypy_cache .ruff_cache .hypothesis .demo dist
