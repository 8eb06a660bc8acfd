# One command each on a fresh machine: `make demo` shows Groundplane at work, `make test` proves it.
.PHONY: demo test test-here test-cluster lint bench format

VENV := .venv
RUN := $(VENV)/bin

$(VENV)/installed: pyproject.toml uv.lock
	./tools/install
	touch $@

demo: $(VENV)/installed
	$(RUN)/python tools/demo.py

test: test-here test-cluster

# Two processes, that take whole files as they come: the longest are not the last.
test-here: lint
	$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/kubernetes

# One after the other: there is one registry that the cluster's nodes pull from.
test-cluster: $(VENV)/installed
	$(RUN)/pytest tests/kubernetes

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
