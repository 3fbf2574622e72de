# Needs Python 3.11 or later, g++, make and perl; everything else is installed into .venv by pip.
#   make demo      Verilog for a MixPE layer, a real matrix and a real layer of experts through their RTL, lists of
#                  jobs through the accelerator, reports
#   make test      every check: lint, types, layering, golden models, RTL benches, proofs
#   make test-all  the same with what takes long
#   make docs      the documentation site, in build/docs/html
#   make bench     figures that must not get worse; speed of both simulators; area, speed and energy of the processing elements; a whole bitstream
#   make clean     removes what was built, not .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

export PATH := $(abspath $(BIN)):$(PATH)
# Two pytest workers share the machine; threads of NumPy's own would only get in their way.
export OPENBLAS_NUM_THREADS := 1

.PHONY: setup demo test test-all docs bench check clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

demo: $(READY)
	senbazuru gen mixpe --preset square --output build/demo
	senbazuru run
	senbazuru run --moe S3A3E8
	senbazuru board accelerator --preset tiny --port cosim

check: $(READY)
	ruff check
	ruff format --check
	mypy
	lint-imports

test: check
	mkdir -p build
	pytest -n 2 --dist loadgroup -m "not slow" --junitxml=build/test.xml

test-all: check
	mkdir -p build
	pytest -n 2 --dist loadgroup --junitxml=build/test.xml

docs: $(READY)
	$(BIN)/python -m scripts.docs

bench: $(READY)
	mkdir -p build
	$(BIN)/python -m scripts.history
	$(BIN)/python -m scripts.bench
	$(BIN)/python -m scripts.compare --json build/compare.json
	$(BIN)/python -m scripts.iso_area build/compare.json
	senbazuru synth mixpe --preset square --set weight=int4 core=booth --target asic --parts --per pe
	$(BIN)/python -m scripts.topk --json build/topk.json
	$(BIN)/python -m scripts.kmeans_cost --json build/kmeans.json
	senbazuru fpga accelerator --preset fracast --memory 8192 --board ulx3s-85f --clock 50

clean:
	rm -rf build .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
