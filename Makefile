# Start with `make demo` and `make test`. Every target creates .venv from the lock file when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements.lock
# Unset it: tests start hundreds of processes, and without bytecode each would compile every import again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo demo-picture test check e2e observability bench chaos sabotages fuzz docs site dist image lock format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo           run six evaluation Jobs on this machine and show their events live"
	@echo "make test           run every test that needs no cluster; PROCESSES=6"
	@echo "make check          check format, lint, types, import contracts and documentation"
	@echo "make docs           write the generated pages, schemas and alert rules"
	@echo "make site           build the documentation site in site/"
	@echo "make demo-picture   record the demo as docs/demo.svg"
	@echo "make e2e            run the end-to-end tests on the cluster of the current kubeconfig context"
	@echo "make bench          print the benchmark table"
	@echo "make observability  test dashboard and alerts with a real Prometheus"
	@echo "make fuzz           fuzz every decoder, guided by coverage; SECONDS=600 in total"
	@echo "make chaos          run the fault run on the cluster of the current kubeconfig context; JOBS=500 FAULTS=40 SEED=1"
	@echo "make sabotages      check that the fault run finds seven deliberate bugs"

setup: $(READY)

# pip checks the hashes in the lock. hatchling comes from the lock too, so no build isolation is needed.
$(READY): $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup
	@$(BIN)/jobcast demo

# docs/demo.svg, the picture in README.md, from the real output of `make demo`.
demo-picture: setup
	$(BIN)/python docs/generators/picture.py

# CI replaces it by one that runs failed tests a second time (.ci/twice).
PYTEST ?= $(BIN)/python -m pytest

# More processes than cores: tests mostly wait.
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

# Installs the image jobcast:dev, or JOBCAST_IMAGE. Tests that measure times run first, without others beside them.
e2e: setup
	$(PYTEST) -m "cluster and alone" tests/e2e
	$(PYTEST) -n 4 --dist worksteal -m "cluster and not alone"

# Needs Debian's package `prometheus`, which includes promtool. Its service need not run.
observability: setup
	@command -v promtool && command -v prometheus || { echo "Debian's package prometheus is needed"; exit 1; }
	$(PYTEST) -m prometheus tests/observability

bench: setup
	@$(BIN)/python -m benchmarks

# CHAOS takes more options, for example CHAOS="--devcluster", or a command that only the owner of the cluster knows:
# CHAOS="--restart-apiserver 'systemctl restart kube-apiserver'".
JOBS ?= 500
FAULTS ?= 40
SEED ?= 1
chaos: setup
	@$(BIN)/python -m chaos --jobs $(JOBS) --faults $(FAULTS) --seed $(SEED) $(CHAOS)

# Runs the fault run with each of seven deliberate bugs, and once without. Takes twenty minutes.
sabotages: setup
	$(PYTEST) -m chaos tests/chaos

# atheris has its own environment: it is not in the lock, and not every Python has a wheel of it.
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

# Not with --quiet: MkDocs does not count warnings that it does not print. MkDocs has its own environment: nothing else needs it.
SITE := .venv-docs
site: $(SITE)/.ready
	@said=$$(NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict 2>&1) || { echo "$$said"; exit 1; }

$(SITE)/.ready: requirements-docs.lock
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

# For a release: wheel, sdist and the image's bill of materials.
dist: setup
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m release.sbom > dist/jobcast.cdx.json

# Labels the image with version and commit. Without docker: BUILD="podman build".
BUILD ?= docker build
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' jobcast/__init__.py)
image:
	$(BUILD) --tag jobcast:$(VERSION) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One lock for everything: celery, kombu and others pin each other. It is universal: one file for every Python and platform.
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
