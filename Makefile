# One command each on a fresh machine: `make demo` shows Groundplane at work, `make test` proves it.
.PHONY: demo test lint bench format

VENV := .venv
RUN := $(VENV)/bin

$(VENV)/installed: pyproject.toml uv.lock
	./tools/install
	touch $@

demo: $(VENV)/installed
	$(RUN)/python tools/demo.py

test: lint
	$(RUN)/pytest

lint: $(VENV)/installed
	$(RUN)/ruff check src tests bench tools
	$(RUN)/ruff format --check src tests bench tools
	$(RUN)/pyright
	$(RUN)/lint-imports

format: $(VENV)/installed
	$(RUN)/ruff check --fix src tests bench tools
	$(RUN)/ruff format src tests bench tools

bench: $(VENV)/installed
	$(RUN)/python -m bench
