# Two commands: `make run` does the main job, `make test` passes the tests. Each makes the environment if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch comes first and exactly as locked: asked for in any other way, pip may fetch a CUDA build of several gigabytes.
TORCH := torch==2.13.0

.PHONY: run test docs slow wheel postgres ray bench simulate verify lock clean
run: $(VENV)/installed
	$(BIN)/attnsearch run --space cbam_variants --trials 30 --confirm 0.67 $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# Starts a server of its own from Debian's postgresql; skips with a sentence where there is none.
postgres: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[postgres]"
	$(BIN)/python -m pytest -rs -m slow tests/test_postgres.py $(ARGS)

# A cluster of two nodes in a network namespace of its own (root, `unshare`): nodes killed and stopped, jobs a second.
ray: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[ray]" psutil
	unshare -n $(BIN)/python -m benchmarks.speed.ray_cluster --out results/ray.json $(ARGS)

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q
	@echo "site/index.html"

# What takes minutes: insertions into the networks of torchvision and timm where they are installed, fuzzing, faults.
slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow $(ARGS)

# The wheel in an environment of its own, with every example and the notebook, each in an empty folder.
wheel: $(VENV)/installed-dev
	$(BIN)/python -m pytest -rs -m slow tests/test_wheel.py $(ARGS)

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.speed.throughput $(ARGS)

simulate: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.statistics.simulate $(ARGS)
	$(BIN)/python -m benchmarks.statistics.searches
	$(BIN)/python -m benchmarks.statistics.places
	$(BIN)/python -m benchmarks.statistics.stopping

# One random training of each study under results/ again; ARGS="--files FOLDER" names images and checkpoints of your own.
verify: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.verify $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("attnsearch needs Python 3.11 or newer, this is %s: make PYTHON=python3.11" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)

$(VENV)/installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# The locked versions: what pip resolves the ranges of pyproject.toml to, in a fresh environment.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet $(TORCH)
	.lock/bin/python -m pip install --quiet ".[dashboard]"
	.lock/bin/python -m pip freeze --exclude attnsearch | sed 's/+cpu$$//' > requirements.txt
	.lock/bin/python -m pip install --quiet ".[dashboard,onnx,dev]"
	.lock/bin/python -m pip freeze --exclude attnsearch | sed 's/+cpu$$//' > requirements-dev.txt
	rm -rf .lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist
