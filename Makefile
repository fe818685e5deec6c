# make demo: set up and run the main job on data that the project paints itself.
# make test: set up and pass the tests.
# make docs: set up a small environment and write the site, docs/_build.
# PYTHON chooses the interpreter (3.11 to 3.13); on Windows use Git Bash or WSL, or see README.md for the commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
DOCS_BIN := $(VENV)-docs/$(notdir $(BIN))

.PHONY: setup demo test slow test-all browser pictures faults gpu reader lint docs lock lowest audit clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements-torch.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements-torch.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev,timm,download,app,tune,slides,rois,bioimageio]'
	touch $@

demo: setup
	$(BIN)/python train.py experiment=demo

# A process a core, each with one thread: several threads in each of several processes would wait for one another.
test: export OMP_NUM_THREADS = 1
test: setup
	$(BIN)/python -m pytest -m "not slow and not real and not browser and not faults and not inputs and not gpu" \
		-n auto --maxprocesses 4 --dist loadfile

# The slow ones of the same kinds: a quarter of an hour.
slow: export OMP_NUM_THREADS = 1
slow: setup
	$(BIN)/python -m pytest -m "slow and not real and not browser and not faults and not inputs and not gpu" \
		-n auto --maxprocesses 4 --dist worksteal

test-all: setup
	$(BIN)/python -m pytest

# The page in a real browser: needs Chromium, e.g. apt-get install chromium.
browser: setup
	$(BIN)/python -m pytest -m browser

# docs/pictures, of painted smears: needs Chromium as well.
pictures: setup
	$(BIN)/python docs/make_pictures.py

# Small disks are mounted, which only root may do, or who is root in a namespace of his own.
faults: export OMP_NUM_THREADS = 1
faults: setup
	$(if $(filter 0,$(shell id -u)),,unshare --map-root-user --mount) \
	$(BIN)/python -m pytest tests/faults tests/inputs tests/exporting -m "faults or inputs" -n 2 --dist worksteal

# Tests and rates on an NVIDIA GPU, docs/gpu.md: by the environment if it is made, else by PYTHON with a torch of its own.
# Neither stops the other. What they print, and the rates as JSON, go to the folder OUT.
OUT ?= outputs/gpu
gpu: SHELL = bash
gpu: export PYTHONUNBUFFERED = 1
gpu: export PYTHONPATH := $(CURDIR):$(PYTHONPATH)
GPU_PYTHON = $(if $(wildcard $(VENV)/.ready),$(BIN)/python,$(PYTHON))
gpu:
	@mkdir -p $(OUT); set -o pipefail; failed=0; \
	$(GPU_PYTHON) -m pytest tests/gpu -m gpu -W default -p no:cacheprovider 2>&1 | tee $(OUT)/tests.txt || failed=1; \
	$(GPU_PYTHON) tests/benchmarks/gpu.py --out $(OUT) 2>&1 | tee $(OUT)/rates.txt || failed=1; \
	exit $$failed

# The reader of the package and its card, by a GPU if there is one: trained on three sets, measured by leaving out each.
# KAGGLE, BARCELONA and CHULA are their folders; MORE has further settings, e.g. MORE=model.weights=FILE.
READER ?= outputs/reader
MORE ?=
SETS = data.sets={kaggle: $(KAGGLE), barcelona: $(BARCELONA), chula: {root: $(CHULA), group_regex: "([^/_]+)_[^/]*$$"}}
TRAIN_READER = $(GPU_PYTHON) train.py experiment=reader '$(SETS)' $(MORE)
reader:
	$(GPU_PYTHON) -m bloodcell audit data=kaggle data.root=$(KAGGLE)
	$(GPU_PYTHON) -m bloodcell audit data=imagefolder data.root=$(BARCELONA)
	$(TRAIN_READER) hydra.run.dir=$(READER)/run
	$(TRAIN_READER) -m data.leave_out=kaggle,barcelona,chula hydra.sweep.dir=$(READER)/laboratories
	$(GPU_PYTHON) -m bloodcell export $(READER)/run format=reader output=bloodcell/inference/reader.ckpt overwrite=true \
		laboratories=$(READER)/laboratories/leave_one_lab_out.csv

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, docs/_build/index.html: strict, and without a request. Its environment is small: it has no torch.
docs: $(VENV)-docs/.ready
	$(DOCS_BIN)/codespell
	$(DOCS_BIN)/sphinx-build -E -W -n --keep-going --quiet docs docs/_build
	@echo the site is docs/_build/index.html

$(VENV)-docs/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(DOCS_BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
		print(*project['optional-dependencies']['docs'], sep='\n'); \
		print(*(one for one in project['dependencies'] if one.startswith(('filelock', 'hydra-core', 'rich'))), sep='\n')" \
		> $(VENV)-docs/requirements.txt
	$(DOCS_BIN)/python -m pip install --quiet --requirement $(VENV)-docs/requirements.txt
	touch $@

# requirements-lock.txt: what this environment has of all that pyproject.toml asks for, with the hashes of its files.
lock: setup
	$(BIN)/python -m pip install --quiet 'uv>=0.8'
	$(BIN)/python -m pip freeze --all --exclude-editable > $(VENV)/installed.txt
	sed '/^#/!d' requirements-lock.txt > $(VENV)/lock.txt
	$(BIN)/uv --no-config pip compile pyproject.toml --all-extras --constraint $(VENV)/installed.txt \
		--python-version 3.11.5 --python-platform x86_64-manylinux_2_28 \
		--generate-hashes --no-header --no-annotate --quiet >> $(VENV)/lock.txt
	mv $(VENV)/lock.txt requirements-lock.txt

# The tests with the oldest releases that pyproject.toml allows, in an environment of its own. Warnings are no errors here:
# old releases warn of younger ones.
LOWEST := $(VENV)-lowest
lowest: export OMP_NUM_THREADS = 1
lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/$(notdir $(BIN))/python -m pip install --quiet 'uv>=0.8'
	$(LOWEST)/$(notdir $(BIN))/uv --no-config pip compile pyproject.toml --resolution lowest-direct --python-version 3.11 \
		$(addprefix --extra ,dev timm download app tune slides rois) --no-header --no-annotate --quiet > $(LOWEST)/lowest.txt
	$(LOWEST)/$(notdir $(BIN))/uv --no-config pip install --quiet --python $(LOWEST) --requirement $(LOWEST)/lowest.txt
	$(LOWEST)/$(notdir $(BIN))/uv --no-config pip install --quiet --python $(LOWEST) --no-deps --editable .
	$(LOWEST)/$(notdir $(BIN))/python -m pytest -W default -n auto --maxprocesses 4 --dist loadfile \
		-m "not slow and not real and not browser and not faults and not inputs and not gpu"

# Known vulnerabilities of these very releases; SECURITY.md explains those that there are.
audit: setup
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.9'
	$(BIN)/pip-audit --strict --requirement requirements-lock.txt --disable-pip --vulnerability-service pypi

clean:
	rm -rf $(VENV) $(VENV)-docs $(LOWEST) docs/_build
