# The README's two commands, `make demo` and `make test`, its measurements, `make bench`, and their undoing. Everything they
# make lies in .venv/ and build/.

PYTHON ?= python3
BIN := .venv/bin
SAMPLE := build/sample
STORE := build/demo
BENCH := build/bench
# A FaceForensics++ tree to measure on; without one the miniature is made, and says less.
CLIPS ?=
# Prefect's state stays in the folder, and nothing is reported to anybody.
export PREFECT_HOME := $(CURDIR)/build/prefect
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test test-long test-all coverage services bench install wheelhouse clean

demo: .venv/pipeline build/prefect
	test -e $(SAMPLE)/README.txt || $(BIN)/faceshards sample $(SAMPLE)
	$(BIN)/faceshards preprocess ffpp $(SAMPLE) --out $(STORE) --set frames.count=8
	$(BIN)/python -m storage.inspect $(STORE) --verify

# In two processes. With COVERAGE=1 the lines and branches that run are counted, in all processes; `make coverage` adds up.
PYTEST := $(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest --numprocesses 2 --dist loadfile

# Style, types, unit tests and the main flows from end to end.
test: install
	scripts/check
	$(PYTEST) -m 'not long' tests --ignore tests/e2e
	$(PYTEST) -m 'not long' tests/e2e

# The rest: every runner, deployments, clusters, benchmarks, the wheel.
test-long: install
	$(PYTEST) -m long tests

test-all: test test-long

coverage: install
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage json --quiet
	$(BIN)/python scripts/coverage

# PostgreSQL and Redis for the tests of a cluster, where they may be installed.
services:
	scripts/install-services

# Each benchmark prints its tables and leaves every figure in build/bench/: 15 minutes on two cores without a GPU.
bench: install
	mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.end_to_end --json $(BENCH)/end_to_end.json $(if $(CLIPS),--clips $(CLIPS))
	$(BIN)/python -m benchmarks.decode --json $(BENCH)/decode.json $(if $(CLIPS),--clips $(CLIPS))
	$(BIN)/python -m benchmarks.detect --json $(BENCH)/detect.json $(if $(CLIPS),--clips $(CLIPS))
	$(BIN)/python -m benchmarks.store --json $(BENCH)/store.json
	$(BIN)/python -m benchmarks.scale --json $(BENCH)/scale.json

install: .venv/installed build/prefect build/coverage

build/prefect build/coverage:
	mkdir -p $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python: got %d.%d, expected 3.11 or newer" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/pipeline

# What preprocessing needs, a part of the above. pip shows what it fetches, since that takes minutes.
.venv/pipeline: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[pipeline]'
	touch $@

# Every wheel of faceshards[all] for this machine's Python, to carry to machines without internet: docs/clusters.md.
wheelhouse: $(BIN)/python
	$(BIN)/python -m pip wheel --constraint constraints.txt --wheel-dir build/wheelhouse '.[all]'

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
