## install  .venv with everything that demo and test need (a second run installs nothing)
## demo     simulate, reconstruct and show a crystal; without a display it runs under Xvfb
## test     the whole test-suite, real windows included
## lint     ruff, mypy, import contracts, plugin manifest
## docs     the pages in docs/ as HTML, into build/docs
## bench    the benchmark table of docs/, computed anew (hours)
## picture  the picture of the README, from the last demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Small volumes: more threads than this only wait for each other.
THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ "$$n" -gt 4 ] && echo 4 || echo "$$n")
# Where scripts/with-display.sh has to bring a display of its own, nobody would see the window.
HEADLESS := $(if $(DISPLAY)$(WAYLAND_DISPLAY),,$(if $(filter Linux,$(shell uname -s)),--headless))
# Passive: on a machine with other work, threads that spin while they wait cost ten times the time.
RUN := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(THREADS)} OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} \
  scripts/with-display.sh

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs bench picture

help:
	@sed -n 's/^## //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/system-libraries.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "napari-mep needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true);" \
	         "name another one: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	scripts/system-libraries.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,baselines,io,train,test]'
	touch $@

demo: install
	$(RUN) $(BIN)/napari-mep demo $(HEADLESS)

# The windows in a process of their own: what the others have loaded and left is not theirs.
test: install
	$(RUN) $(BIN)/python -m pytest tests --ignore=tests/widgets $(PYTEST_ARGS)
	$(RUN) $(BIN)/python -m pytest tests/widgets $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	QT_QPA_PLATFORM=offscreen $(BIN)/npe2 validate napari-mep

docs: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs
	@echo build/docs/index.html

bench: install
	$(BIN)/napari-mep benchmark -o runs/benchmark --limit 12 --workers 2 $(BENCH_ARGS)
	$(BIN)/napari-mep benchmark -o runs/prior --methods gradient,mep --workers 2 $(BENCH_ARGS)
	cp runs/benchmark/benchmark.md docs/benchmark.md
	cp runs/benchmark/benchmark.png docs/images/benchmark.png
	cp runs/prior/benchmark.md docs/benchmark-prior.md
	cp runs/prior/benchmark.png docs/images/benchmark-prior.png

picture: demo/screenshot.png
	mkdir -p docs/images
	$(BIN)/python -c "from PIL import Image; \
	  Image.open('$<').convert('RGB').quantize(160, kmeans=4).save('docs/images/demo.png', optimize=True)"
