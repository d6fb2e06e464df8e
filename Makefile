# Two commands: `make demo` installs all and mirrors a real repository, `make test` installs all and runs the tests.
# Everything they write lies in this folder, caches and temporary files included.

PYTHON ?= python3
HERE := $(CURDIR)
VENV := $(HERE)/.venv
DEMO := $(HERE)/build/demo
PACKAGES := . $(wildcard example_plugins/*)

export PIP_CACHE_DIR := $(HERE)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1
export TMPDIR := $(HERE)/build/tmp

# Every dependency comes from a pinned list with hashes; the packages of this folder are built with the pinned backend.
PIP_PINNED := -m pip install --quiet --require-hashes --requirement
PIP_LOCAL := -m pip install --quiet --no-deps --no-build-isolation

.PHONY: demo test benchmark install clean

demo: $(DEMO)/venv/installed
	PATH="$(DEMO)/venv/bin:$$PATH" sh .ci/demo "$(DEMO)"

test: install
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

benchmark: install
	$(VENV)/bin/python -m benchmarks

install: $(VENV)/installed

$(VENV)/installed: .ci/constraints/development.txt pyproject.toml $(wildcard example_plugins/*/pyproject.toml)
	mkdir -p "$(TMPDIR)"
	$(PYTHON) -m venv "$(VENV)"
	$(VENV)/bin/python $(PIP_PINNED) .ci/constraints/development.txt
	$(VENV)/bin/python $(PIP_LOCAL) $(addprefix --editable ,$(PACKAGES))
	touch $@

$(DEMO)/venv/installed: .ci/constraints/runtime.txt pyproject.toml $(wildcard example_plugins/*/pyproject.toml)
	mkdir -p "$(TMPDIR)"
	$(PYTHON) -m venv "$(DEMO)/venv"
	$(DEMO)/venv/bin/python $(PIP_PINNED) .ci/constraints/runtime.txt
	$(DEMO)/venv/bin/python $(PIP_LOCAL) $(PACKAGES)
	touch $@

clean:
	rm -rf .venv .cache build
