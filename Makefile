# make lab    set the course up and open it in JupyterLab    (make lab ARGS="--no-browser --port 8890")
# make test   the same environment, then every check and test (make test ARGS="-k sse")
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# uv installs the pinned set in seconds. It does not read pip's settings: where it fails, pip tries with them.
# No --compile-bytecode: it would put off the first cell by more than it saves afterwards.
install = $(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt $(1) \
	|| $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(1)

.PHONY: help lab test
help:
	@head -n 2 Makefile

lab: $(VENV)/.lab
	@$(BIN)/python -m streamlib lab $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -n 4 --dist loadgroup $(ARGS)

$(VENV)/.lab: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
	  "The course needs Python 3.11 or newer as $(PYTHON). Another one: make lab PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo >&2 \
	  "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Setting up the course's environment in $(VENV). This happens once, and takes a minute or two."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(call install,-e .)
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	@$(call install,-e ".[test]")
	@touch $@
