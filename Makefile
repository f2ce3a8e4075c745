# Two commands do everything on a fresh machine: make app, make test.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: app test check setup lint golden screenshots

app: .venv/ready                ## starts the dashboard (and the model server behind it)
	$(BIN)/python -m streamlit run app/main.py

test: .venv/ready               ## runs the tests
	$(BIN)/python -m pytest

check: .venv/ready lint         ## format, lint, types, import contracts, tests with branch coverage: what CI runs
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

setup: .venv/ready              ## makes .venv and nothing else

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

screenshots: .venv/ready        ## takes the pictures in docs/images from the running page
	$(BIN)/python -m tests.app.screenshots docs/images

golden: .venv/ready             ## writes golden curves and frozen help texts anew; review the difference
	$(BIN)/python -m tests.train.golden
	STIMCORE_WRITE_FROZEN=1 STIMCORE_GOLDEN=write $(BIN)/python -m pytest -k "help or frozen"
