# The same commands for people and for CI: plain make and /bin/sh.
#
#   make demo        installs the lean package and draws an image with the built-in model
#   make check       format, lint, types, import rules, words
#   make measure     lengths of functions and files, held to their limits
#   make test        the default and build tests, and those of checkpoints (test-lean) and, in a
#                    second process, those with torch (test-torch): the other export, and parity tests
#   make test-newest the export and parity tests with what pip brings today
#   make test-lowest the lean, export and parity tests with the oldest that pyproject.toml allows
#   make test-python the default tests with the lean package, for another Python: PYTHON=python3.13
#   make test-full   the full-size architectures too: minutes and gigabytes
#   make docs        refreshes the generated parts of the documentation, and builds its site
#   make faults      damages bundles, requests and files, kills commands: up to fifteen minutes
#   make soak        10,000 requests from 16 threads, each compared with itself alone: 20 minutes
#   make bench       measures, and appends rows to bench/results/
#   make bench-peers measures sdrt and its peers at full size: 45 GB of disk, two hours
#   make dist        builds the wheel and the sdist, and tries both on each Python found
#   make clean       removes what the others made
#
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
PROMPT ?= a large red circle on a white background
LEAN = .venv-lean-$(notdir $(PYTHON))
# Without modules, a search, and programs that compare with something that must be given.
BENCHES = $(filter-out bench/recording.py bench/timed_runs.py bench/checkouts.py bench/full_size_models.py \
	bench/forecast_%.py bench/two_trees.py bench/upsampling.py bench/vae.py bench/request_lifetime.py \
	bench/openvino_graph.py,$(wildcard bench/*.py))

NEW_VENV = $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	"sdrt needs Python 3.11 or newer; name one: make PYTHON=python3.12")' && $(PYTHON) -m venv

.PHONY: demo check measure test test-lean test-torch test-newest test-lowest test-python test-full
.PHONY: docs faults soak bench bench-peers dist clean

demo: .venv-demo/installed
	.venv-demo/bin/sdrt run demo "$(PROMPT)" -o demo.png --steps 20 --seed 7
	@echo "The image is $(CURDIR)/demo.png"

check: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/python tools/words.py
	.venv/bin/python tools/faults.py

measure:
	$(PYTHON) tools/measure.py

# Two processes, which print one after the other (if this make can) as soon as they end. To end
# together, the first also takes the tests of checkpoints: [!c]* is all else in tests/export. Bytecode is
# kept even where the environment says not to: without it a short process mostly compiles.
test-lean test-torch: export PYTHONDONTWRITEBYTECODE =

test: .venv/installed
	@echo "Running test-lean and test-torch: minutes"
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-lean test-torch

test-lean: .venv/installed
	.venv/bin/python -m pytest -q -o cache_dir=.pytest_cache/lean \
		--ignore-glob 'tests/export/[!c]*' --ignore tests/parity -m "not full and not gpu"

test-torch: .venv/installed
	.venv/bin/python -m pytest -q -o cache_dir=.pytest_cache/torch \
		tests/export tests/parity --ignore tests/export/checkpoints -m "not full and not gpu"

test-newest: .venv-newest/installed
	.venv-newest/bin/python -m pytest -q -rs tests/export tests/parity -m "not full and not gpu"

# The samplers are numpy, and compared with the pinned diffusers: an older one has other options and last
# digits. The warnings are of old libraries in newer ones: diffusers 0.36 in torch, matplotlib 3.8 in pyparsing.
test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest -q -rs -m "not build and not full and not gpu" \
		--ignore-glob "*/parity/test_s*_live.py" \
		-W "ignore:CUDA is not available" -W ignore::DeprecationWarning

test-python: $(LEAN)/installed
	$(LEAN)/bin/python -m pytest -q -rs \
		-m "not export and not parity and not build and not full and not gpu"

test-full: .venv/installed
	.venv/bin/python -m pytest -m "not gpu"

docs: .venv-docs/installed
	.venv-docs/bin/python tools/docs.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "The site is $(CURDIR)/site/index.html"

faults: .venv/installed
	.venv/bin/python bench/fuzzing

soak: .venv/installed
	.venv/bin/python bench/soak

bench: .venv/installed
	@set -e; for program in $(BENCHES); do echo "$$program"; .venv/bin/python $$program; done

bench-peers: .venv/installed
	.venv/bin/python bench/peers
	.venv/bin/python bench/peers/savings.py
	.venv/bin/python bench/peers/report.py

dist: .venv-release/installed
	.venv-release/bin/python tools/dist.py

clean:
	rm -rf .venv .venv-demo .venv-docs .venv-release .venv-newest .venv-lowest .venv-lean-*
	rm -rf build dist site demo.png bench/scratch
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: what stands in an environment is as new as the files that say what belongs there.

.venv/requirements: requirements/check.txt requirements/test.txt requirements/pytest.txt requirements/data.txt
	rm -rf .venv
	$(NEW_VENV) .venv
	@echo "Installing the tools and the libraries that sdrt is tested with, once (1 to 5 GB)"
	.venv/bin/python -m pip install --quiet --no-compile -r requirements/check.txt -r requirements/test.txt
	.venv/bin/python -m pip install --quiet --no-compile --no-deps -r requirements/data.txt
	touch $@

.venv/installed: .venv/requirements pyproject.toml
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv-newest/installed: requirements/newest.txt requirements/pytest.txt requirements/data.txt pyproject.toml
	rm -rf .venv-newest
	$(NEW_VENV) .venv-newest
	.venv-newest/bin/python -m pip install --quiet --no-compile -r $< --editable '.[export]'
	.venv-newest/bin/python -m pip install --quiet --no-compile --no-deps -r requirements/data.txt
	touch $@

.venv-lowest/installed: requirements/lowest.txt requirements/pytest.txt requirements/data.txt pyproject.toml tools/lowest.py
	rm -rf .venv-lowest
	$(NEW_VENV) .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --no-compile -r $< --editable . \
		$$(.venv-lowest/bin/python tools/lowest.py export openvino plot annotate)
	.venv-lowest/bin/python -m pip install --quiet --no-compile --no-deps -r requirements/data.txt
	touch $@

$(LEAN)/installed: requirements/pytest.txt pyproject.toml
	rm -rf $(LEAN)
	$(NEW_VENV) $(LEAN)
	$(LEAN)/bin/python -m pip install --quiet --no-compile -r $< --editable .
	touch $@

.venv-release/installed: requirements/release.txt
	rm -rf .venv-release
	$(NEW_VENV) .venv-release
	.venv-release/bin/python -m pip install --quiet --no-compile -r $<
	touch $@

.venv-demo/installed: pyproject.toml $(shell find runtime engines export -type f ! -name '*.pyc')
	test -x .venv-demo/bin/python || { $(NEW_VENV) .venv-demo; }
	.venv-demo/bin/python -m pip install --quiet --no-compile .
	touch $@

.venv-docs/installed: requirements/docs.txt pyproject.toml
	rm -rf .venv-docs
	$(NEW_VENV) .venv-docs
	.venv-docs/bin/python -m pip install --quiet --no-compile -r requirements/docs.txt --editable .
	touch $@
