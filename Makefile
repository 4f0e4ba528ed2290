# `make demo` and `make test` set everything up themselves; all they need is Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
DEMO_STEPS ?= 12000
DEMO_OUT := runs/demo-$(shell date +%Y%m%d-%H%M%S)

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check format clean

demo: $(VENV)/.run  ## learn a real task within five minutes on two cores, and show how it went
	$(BIN)/foreplan train tdmpc2 dmc/cartpole-swingup --steps $(DEMO_STEPS) --eval-every 6000 --eval-episodes 3 --out $(DEMO_OUT)
	@ls $(DEMO_OUT)/plots/learning_curve.png $(DEMO_OUT)/videos/*.mp4 2>/dev/null || true

test: $(VENV)/.dev check  ## all that must pass
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'foreplan needs Python 3.11 or newer; name one with: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
