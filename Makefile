# make demo       a comparison table, from a fresh checkout
# make check      what CI runs: lint, types and tests
# make test       the tests, offline
# make bench      speed next to other tools
# make check-gpu  the checks that need a CUDA device
# make docs       the documentation, in site/
# make pictures   the pictures in README, from a committed study
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS := .venv/.docs

.PHONY: demo test check lint bench check-gpu pictures docs docs-serve clean

demo: $(READY)
	$(BIN)/python -m bench.run -m method=lora,adapter,ia3 rank=1,4,8,64 protocol=quick protocol.steps=130

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

check: lint test

bench: $(READY)
	$(BIN)/python benchmarks/speed.py

check-gpu: $(READY)
	$(BIN)/python tools/check_gpu.py

pictures: $(READY)
	$(BIN)/python tools/pictures.py

docs: $(DOCS)
	$(BIN)/python tools/methods_page.py
	$(BIN)/zensical build --strict --clean

docs-serve: $(DOCS)
	$(BIN)/python tools/methods_page.py
	$(BIN)/zensical serve --dev-addr 127.0.0.1:8000

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $(DOCS)

clean:
	rm -rf site .venv .pytest_cache .mypy_cache .ruff_cache outputs
