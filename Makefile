# What can be done here. `make` alone lists it. Every target makes its own virtual environment first, once.

PYTHON ?= python3
VENV ?= .venv
# The versions that are installed: constraints.txt, or constraints-oldest.txt to try the oldest that we promise to work with.
CONSTRAINTS ?= constraints.txt
PORT ?= 8000
# In the files' order: by their numbers of tests, the few and slow ones would come last and leave a worker idle.
PYTEST ?= -n 2 --dist loadscope --no-loadscope-reorder
RUN ?=
NAME ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(notdir $(CONSTRAINTS))
SITE := _build/html
# Beside it, a smaller environment with what Colab ships, in which tests/house/test_older_hosts.py runs the book.
COLAB := $(VENV)-colab
export OLDER_HOST := $(COLAB)

export CONSTRAINTS
# A folder that holds the data sets under the paths of data/registry.txt; without it they are downloaded when first used.
ifdef TIEDLIB_DATA
override TIEDLIB_DATA := $(or $(shell cd "$(TIEDLIB_DATA)" && pwd),$(error TIEDLIB_DATA=$(TIEDLIB_DATA) is no folder))
export TIEDLIB_DATA
endif

.DEFAULT_GOAL := help
.PHONY: help install book check pdf serve test lint format wheel homework reproduce bench constraints address clean
.DELETE_ON_ERROR:

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1@/' | awk -F@ '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## the virtual environment, with the exact versions of constraints.txt

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PYTHON=$(PYTHON) is Python %d.%d; at least 3.11 is needed" % sys.version_info[:2])'
	test -x "$(BIN)/python" || "$(PYTHON)" -m venv "$(VENV)"
	rm -f "$(VENV)"/.installed-*
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c "$(CONSTRAINTS)" -e '.[book,test]'
	touch "$@"

# PyTorch is that of the environment above: another 700 MB would prove nothing more.
$(COLAB)/.installed: constraints-colab.txt pyproject.toml tools/older_host.py | $(INSTALLED)
	"$(BIN)/python" -m tools.older_host "$(COLAB)"

# A page shows what the library, the records and the claims said when it was made: when one of them has changed, every page is
# written again, and those notebooks are executed again that depend on what changed (tools/execute.py).
book: $(INSTALLED)  ## the book and the wheel beside it, in _build/html; a warning is an error
	@mkdir -p _build
	@{ find tiedlib data book/claims book/homework $(CONSTRAINTS) -type f ! -name '*.pyc' -exec cksum {} + | sort; \
	   echo "data: $(TIEDLIB_DATA)"; "$(BIN)/python" -VV; } > _build/.inputs.new
	@cmp -s _build/.inputs.new _build/.inputs || rm -rf _build/.doctrees $(SITE)
	@# the chapters' matrices are small: a second thread gains little, and two notebooks are executed at a time
	OMP_NUM_THREADS=1 "$(BIN)/python" -m tools.execute
	OMP_NUM_THREADS=1 "$(BIN)/jupyter-book" build -W --keep-going . || { rm -rf _build/.doctrees; exit 1; }
	@mv _build/.inputs.new _build/.inputs
	@$(MAKE) --no-print-directory wheel
	@rm -rf $(SITE)/dist && mkdir -p $(SITE)/dist && cp dist/*.whl $(SITE)/dist/
	@echo "The book is in $(SITE)/index.html: open that file in a browser, or run 'make serve'."

# One chapter alone: its cells, its page with those of the deeper and the notes pages, its tests. Links to other chapters lead nowhere.
check: $(INSTALLED)  ## one chapter alone, NAME=dropout: style, types, tests, notebooks, and its page, whose path is printed
	@test -n "$(NAME)" && test -f "book/$(NAME).ipynb" || { echo "NAME=$(NAME) is no chapter; write make check NAME=dropout" >&2; exit 2; }
	"$(BIN)/python" -m tools.check "$(NAME)"

# The pages and what Sphinx remembers of them have a folder of their own; the executed notebooks are those of `make book`.
pdf: book  ## the whole book as one PDF, in _build/pdf; needs an installed Chromium or Chrome
	@rm -rf _build/print && mkdir -p _build/print/_build _build/.jupyter_cache
	@ln -s ../../.jupyter_cache _build/print/_build/.jupyter_cache
	OMP_NUM_THREADS=1 "$(BIN)/jupyter-book" build -W --keep-going --builder singlehtml --path-output _build/print .
	"$(BIN)/python" -m tiedlib.lab.page.pdf _build/print/_build/singlehtml _build/pdf/bells-and-whistles.pdf \
	  --licence "The text and pictures are licensed under CC BY 4.0, the code under the MIT licence."

wheel: $(INSTALLED)  ## the library as a wheel, in dist
	@rm -rf dist
	"$(BIN)/python" -m build --wheel --no-isolation --outdir dist . > /dev/null

serve: book  ## the book on a web server of this machine, PORT=8000
	"$(BIN)/python" -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

lint: $(INSTALLED)  ## style and types
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check --quiet .
	"$(BIN)/mypy"

format: $(INSTALLED)  ## write the style
	"$(BIN)/ruff" check --fix-only --quiet .
	"$(BIN)/ruff" format .

test: lint book $(COLAB)/.installed  ## everything that can fail: lint, types, the strict build, unit tests, every notebook, the browser
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest --nbval-lax $(PYTEST)  # two workers, two cores: a thread each

homework: wheel  ## a course in _build/homework: for students, graders, teachers; SECRET="…" for the hidden checks, EDITION=name
	"$(BIN)/tiedlib" homework build --masters book/homework --out _build/homework --wheel dist/*.whl \
	  $(if $(SECRET),--secret "$(SECRET)") $(if $(EDITION),--edition "$(EDITION)")

reproduce: $(INSTALLED)  ## the recorded runs again, hours: RUN=NAME for one of them
	"$(BIN)/tiedlib" reproduce $(RUN)

bench: book  ## training step, batched grids, every chapter, the built book in a browser: half an hour, on a quiet machine
	"$(BIN)/python" benchmarks/training_step.py
	"$(BIN)/python" benchmarks/training_step.py --growth --blocks 3 --seconds 0.5
	"$(BIN)/python" benchmarks/grid.py
	"$(BIN)/python" benchmarks/chapters.py --out _build/chapters.json
	"$(BIN)/python" benchmarks/page.py --out _build/page.json

constraints:  ## find the newest versions that fit pyproject.toml and pin them in constraints.txt
	"$(PYTHON)" -m tools.constraints

address:  ## the repository's public address, and the notebooks' first cell: URL=https://github.com/owner/name sets it, URL= clears it
	"$(PYTHON)" tools/address.py $(if $(filter undefined,$(origin URL)),,"$(URL)")

clean:  ## remove what was built; the virtual environment stays
	rm -rf _build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
