# demo: set up and run the main job    test: set up and pass the tests    soak: the slow tests
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test soak lint bench docs-recipe clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("mmgnn_dist needs Python 3.11 or later: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/mmgnn data prepare sample --to shards/sample
	$(BIN)/mmgnn train launch/demo.yaml

# three workers on two cores: what waits for Slurm and for Ray runs beside what computes, each on one core
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/.ready
	$(BIN)/python -m pytest -m 'not slow and not gpu' -n 3 --no-loadscope-reorder \
	  --budgets tests/budgets.toml

soak: $(VENV)/.ready
	$(BIN)/python -m pytest -m 'slow'

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	$(BIN)/mmgnn data prepare sample --to shards/bench data.rows_per_shard=128
	$(BIN)/mmgnn bench loader --shards shards/bench
	$(BIN)/mmgnn bench train --shards shards/bench

docs-recipe: $(VENV)/.ready
	$(BIN)/mmgnn recipe --markdown > docs/recipe.md

clean:
	rm -rf $(VENV) shards runs
