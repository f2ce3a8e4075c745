# Two commands do everything on a fresh machine: make app, make test.
PYTHON ?= python3
BIN := .venv/bin
# Processes that share the tests. Tests start servers, trainings and browsers and wait for them: two left two cores idle for a
# quarter of the time. Browsers compute beside them: with four, pages are slow and nothing is gained.
WORKERS ?= 3
PARALLEL = -n $(WORKERS) --dist loadfile
# Images of continuous integration often forbid Python to keep compiled modules. Hundreds of processes of one test run would
# compile the same modules, torch's included, again and again: a quarter of the processor time.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: app class test slow soak gpu check coverage setup lint format random docs golden screenshots lock sbom release

app: .venv/serving              ## start the dashboard and the model server behind it (installs no torch and no test tools)
	$(BIN)/python -m streamlit run app/main.py

class: .venv/serving           ## the same for a class: everybody in this network can join; class view shows the address and its QR code
	$(BIN)/python -m stimcore.dashboard --class

test: .venv/ready               ## run the tests, in as many processes as WORKERS says
	$(BIN)/python -m pytest $(PARALLEL)

slow: .venv/ready               ## run the tests that take minutes, one after the other: some of them measure times
	$(BIN)/python -m pytest -m "slow and not gpu"

soak: .venv/ready               ## keep a server under mixed load for 30 minutes while bundles change and workers are killed
	$(BIN)/python -m tests.serve.soak --minutes 30

# A machine with a GPU has a Python with torch of its own, and often no network: nothing is installed.
GPU_JSON ?= gpu.json
gpu:                            ## check and measure everything on a GPU, in at most 8 minutes, with the Python that has torch
	PYTHONPATH=. $(PYTHON) -m stimcore.bench gpu --json $(GPU_JSON) --markdown docs/gpu.md

check: .venv/ready lint         ## check format, lint, types and import contracts, then run the tests: what CI runs
	$(BIN)/python -m pytest $(PARALLEL)

coverage: .venv/ready           ## run the tests and show which lines and branches none of them reaches (takes half as long again)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term-missing:skip-covered

lint: .venv/ready               ## check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready             ## format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

random: .venv/ready             ## run the property tests on fresh random examples (make test always draws the same ones)
	$(BIN)/python -m pytest -m "hypothesis and not slow and not gpu" --hypothesis-profile=random

docs: .venv/ready               ## write the API reference, made from the docstrings, to site-docs/
	$(BIN)/pdoc --docformat google --no-show-source --output-directory site-docs stimcore

setup: .venv/ready              ## create .venv with everything in it and do nothing else

# not compiled: Python compiles the tenth of all modules that are used when it first imports them
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# The runtime for networks: the one that is installed, else with the CUDA libraries that it wants where the NVIDIA driver answers,
# and the plain one elsewhere. Looked up when a recipe runs, because onnxruntime and onnxruntime-gpu overwrite each other's files.
ORT = $(shell ls -d .venv/lib/python*/site-packages/onnxruntime_gpu-*.dist-info >/dev/null 2>&1 && echo onnxruntime-gpu \
	|| (nvidia-smi >/dev/null 2>&1 && echo 'onnxruntime-gpu[cuda,cudnn]') || echo onnxruntime)

# What the dashboard and the model server need.
.venv/serving: requirements-app.txt requirements-serve.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	sed -n '/^onnxruntime-gpu/{s/^onnxruntime-gpu\([^;]*\).*/$(ORT)\1/p;d;};/^onnxruntime/d;p' requirements-serve.txt > .venv/serving.txt
	$(PIP) -r .venv/serving.txt -r requirements-app.txt
	$(PIP) --no-deps --editable .
	touch $@

# All of it. onnxruntime and onnxruntime-gpu are two builds of one package, so that the first leaves before the second comes.
.venv/ready: .venv/serving requirements.txt requirements-dev.txt
	$(BIN)/python -m pip uninstall --quiet --disable-pip-version-check --yes onnxruntime
	$(PIP) -r requirements.txt -r requirements-dev.txt
	touch $@

screenshots: .venv/ready        ## take the pictures in docs/images from the running page
	$(BIN)/python -m tests.app.screenshots docs/images

golden: .venv/ready             ## rewrite frozen help texts, golden curves and generated tables; review the difference
	STIMCORE_GOLDEN=write $(BIN)/python -m pytest -m "golden and not gpu"

# Exact versions with hashes of what the containers install, on every platform and from Python 3.11 on.
lock: .venv/ready               ## renew the lock files in locks/ from the requirements
	for name in serve app train; do \
		case $$name in train) source=requirements.txt;; *) source=requirements-$$name.txt;; esac; \
		$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-emit-find-links --custom-compile-command "make lock" --output-file locks/$$name.txt $$source || exit 1; \
	done

sbom: .venv/ready               ## write what the lock files hold as CycloneDX to dist/sbom-*.json
	mkdir -p dist
	for name in serve app train; do \
		$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
			--output-file dist/sbom-$$name.json locks/$$name.txt || exit 1; \
	done

release: .venv/ready            ## build wheel and sdist with checksums in dist/, and try the wheel in an empty environment
	$(BIN)/python -m tests.release
