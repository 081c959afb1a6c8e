# The same commands for people and for CI: plain make and /bin/sh.
#
#   make demo        installs the lean package and draws an image with the built-in model
#   make check       format, lint, types, import rules
#   make measure     lengths of functions and files, held to their limits
#   make test        the default, export and parity tests
#   make test-full   the full-size architectures too: minutes and gigabytes
#   make bench       measures, and appends rows to bench/results/
#   make bench-peers measures sdrt and its peers at full size: 45 GB of disk, two hours
#   make clean       removes what the others made
#
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
PROMPT ?= a large red circle on a white background
BENCHES = $(filter-out bench/recording.py bench/two_trees.py,$(wildcard bench/*.py))

NEW_VENV = $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	"sdrt needs Python 3.11 or newer; name one: make PYTHON=python3.12")' && $(PYTHON) -m venv

.PHONY: demo check measure test test-full bench bench-peers clean

demo: .venv-demo/installed
	.venv-demo/bin/sdrt run demo "$(PROMPT)" -o demo.png --steps 20 --seed 7
	@echo "The image is $(CURDIR)/demo.png"

check: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python tools/words.py

measure:
	$(PYTHON) tools/measure.py

test: .venv/installed
	.venv/bin/python -m pytest -m "not full and not gpu"

test-full: .venv/installed
	.venv/bin/python -m pytest -m "not gpu"

bench: .venv/installed
	@set -e; for program in $(BENCHES); do echo "$$program"; .venv/bin/python $$program; done

bench-peers: .venv/installed
	.venv/bin/python bench/peers
	.venv/bin/python bench/peers/report.py

clean:
	rm -rf .venv .venv-demo build dist demo.png bench/scratch
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: what stands in an environment is as new as the files that say what belongs there.

.venv/requirements: requirements/check.txt requirements/test.txt
	rm -rf .venv
	$(NEW_VENV) .venv
	@echo "Installing the tools and the libraries that sdrt is tested with, once (1 to 5 GB)"
	.venv/bin/python -m pip install --quiet --no-compile -r requirements/check.txt -r requirements/test.txt
	touch $@

.venv/installed: .venv/requirements pyproject.toml
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv-demo/installed: pyproject.toml $(shell find runtime engines export -type f ! -name '*.pyc')
	test -x .venv-demo/bin/python || { $(NEW_VENV) .venv-demo; }
	.venv-demo/bin/python -m pip install --quiet --no-compile .
	touch $@
