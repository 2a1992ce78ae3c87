# make lab    set up and open the course in JupyterLab     (make lab ARGS="--no-browser --port 8890")
# make test   the same environment, then every check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: lab test

# uv installs the pinned set in seconds; pip is only used to fetch uv into the new environment.
$(VENV)/.lab: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.lab
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[test]"
	touch $@

lab: $(VENV)/.lab
	$(BIN)/streamlib lab $(ARGS)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)
