# The README's two commands, `make demo` and `make test`, and their undoing. Everything they make lies in .venv/ and build/.

PYTHON ?= python3
BIN := .venv/bin
SAMPLE := build/sample
STORE := build/demo
# Prefect's state stays in the folder, and nothing is reported to anybody.
export PREFECT_HOME := $(CURDIR)/build/prefect
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test install clean

demo: install
	test -e $(SAMPLE)/README.txt || $(BIN)/faceshards sample $(SAMPLE)
	$(BIN)/faceshards preprocess ffpp $(SAMPLE) --out $(STORE) --set frames.count=8
	$(BIN)/python -m storage.inspect $(STORE) --verify

test: install
	scripts/check
	$(BIN)/python -m pytest

install: .venv/installed build/prefect

build/prefect:
	mkdir -p $@

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python: got %d.%d, expected 3.11 or newer" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
