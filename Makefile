# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-browser test-lowest canary check bench docs docs-build docs-serve \
	notebooks release release-check clean

# Every process that a test starts would compile the package, and what it imports, anew.
unexport PYTHONDONTWRITEBYTECODE

# A current pip first: the one that comes with a Python reads an index several times slower. torch
# next and pinned: a range would let pip take a build with gigabytes of GPU libraries. Python
# compiles what is imported when it is imported; compiling all at once takes two minutes.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/rdaam generate "a red circle and a blue square" --seed 3 \
		--box 9,65,58,115 --box 66,22,108,62 --out $(OUT)

# What needs a chromium of the system, and is skipped where there is none. Two at once: more of them
# starve each other. All other folders have no such test, and it takes a minute to see that.
IN_BROWSER := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/browser tests/viewer

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not browser"

# What takes minutes; a shorter test of the same thing is in `test`.
test-slow: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "slow and not browser"
	$(IN_BROWSER) -m "slow and browser"

test-browser: $(VENV)/installed
	$(IN_BROWSER) -m "browser and not slow"

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in out/site/html. Every example on its pages runs, and a broken link, a public name
# without a docstring or a page that is not in the navigation is an error.
docs: docs-build
	$(BIN)/python -m pytest -p no:cacheprovider tests/docs

docs-build: $(VENV)/installed
	$(BIN)/python -m benchmarks.write_site
	$(BIN)/zensical build --strict --clean

docs-serve: $(VENV)/installed
	$(BIN)/python -m benchmarks.write_site
	$(BIN)/zensical serve

# The lowest versions that pyproject.toml declares, in an environment under out/.
test-lowest: $(VENV)/installed
	$(BIN)/python -m release lowest

# The newest diffusers and transformers that the index has: which families moved.
canary: $(VENV)/installed
	$(BIN)/python -m release canary

# VERSION=0.1.0, and REPOSITORY=https://… where the project's address is still a placeholder.
release: $(VENV)/installed
	$(BIN)/python -m release prepare "$(VERSION)" --repository "$(REPOSITORY)"

release-check: $(VENV)/installed
	$(BIN)/python -m release check

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks --json out/bench/results.json --markdown out/bench/results.md

# Executes the notebooks and writes their outputs, as after a change of an embedded model.
notebooks: $(VENV)/installed
	$(BIN)/python examples/run_notebooks.py

clean:
	rm -rf $(VENV) out build dist *.egg-info
