# `make book` and `make test` are all a reader needs. Every target brings its own .venv.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/ready
# The one command that builds the book: every warning is an error, every reference must resolve.
BUILD := jupyter-book build -W --keep-going -n
BENCHMARKS = causal_attention kernel_crossover decoding triplets early_exit

.PHONY: help book site test lint format lock ids reseed reproducible bench chapter clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

book: $(READY)  ## build the whole site into _build/html
	@$(MAKE) --no-print-directory site
	@echo
	@echo "The book is built. Open $(CURDIR)/_build/html/index.html"

# The build alone, for whatever environment is on the PATH or in .venv.
site:
	PATH="$(BIN):$$PATH" $(BUILD) .

test: $(READY)  ## run all tests (they build the book first)
	$(BIN)/python -m pytest

lint: $(READY)  ## ruff, mypy, codespell, and the same for the chapters' cells
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tools/lint_cells.py

format: $(READY)  ## put code and the chapters' cells into ruff's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/python tools/lint_cells.py --fix

lock: $(READY)  ## compile requirements.txt from requirements.in
	$(BIN)/python tools/lock.py

ids: $(READY)  ## add new ids of claims and of the audit to their permanent lists, for good
	$(BIN)/python tools/ids.py

reseed: $(READY)  ## run every chapter over other seeds: SEEDS=20 CHAPTER=scaled_dot_product
	$(BIN)/python tools/reseed.py --seeds $(or $(SEEDS),20) $(CHAPTER)

reproducible: $(READY)  ## two clean builds in two places, compared byte by byte
	PATH="$(BIN):$$PATH" $(BIN)/python tools/reproducible.py $(if $(AGAINST),--against $(AGAINST))

bench: $(READY)  ## speed and memory against peers, for an idle machine: BENCH=causal_attention
	cd benchmarks && for name in $(or $(BENCH),$(BENCHMARKS)); do \
		$(BIN)/python $$name.py $(if $(QUICK),--quick) || exit 1; done

chapter: $(READY)  ## start a chapter: TOPIC=kernel_attention
	$(BIN)/python tools/new_chapter.py $(TOPIC)

clean:  ## remove what was built, the environment not included
	rm -rf _build
