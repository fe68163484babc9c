# demo: set up and run the main job    test: set up and pass the tests    soak: the slow tests and chaos    docs: the site
# chaos: random faults on jobs of a dev cluster, as root:  make chaos SECONDS=3600 SEED=7
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test soak chaos lint bench docs docs-recipe clean

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps open_clip_torch
	$(BIN)/python -m pytest -m 'slow'
	$(MAKE) chaos

chaos: $(VENV)/.ready
	nice -n 10 $(BIN)/python tests/chaos/chaos.py --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	$(BIN)/mmgnn data prepare sample --to shards/bench data.rows_per_shard=128
	$(BIN)/mmgnn bench loader --shards shards/bench
	$(BIN)/mmgnn bench train --shards shards/bench

# broken links, unresolved references and missing pictures are errors
docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file tools/site/mkdocs.yml

docs-recipe: $(VENV)/.ready
	$(BIN)/mmgnn recipe --markdown > docs/recipe.md

clean:
	rm -rf $(VENV) shards runs
