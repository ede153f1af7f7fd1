# `make` alone lists what there is. Needed: make, and Python 3.11 or newer with venv; everything else is set up in .venv, .venv-3.* and .otp.

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SHELL  := /bin/sh
ARGS   ?=
SEEDS  ?= 1000
FIRST  ?= 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help docs docs-tables faults demo docker-demo image elixir-image cookie docker shell test check unit coverage format hooks pythons dist otp conformance sim mutants bench erlang engine clean

help:           ## this list
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/run.stamp          ## three nodes meet, share a group, lose one and take it back, for real
	@$(BIN)/erlmesh demo $(ARGS)

docker-demo: $(VENV)/run.stamp image  ## the same in containers: paused, killed, cut off, joined by others; then all is removed
	@$(BIN)/erlmesh demo --docker $(ARGS)

image: $(VENV)/run.stamp         ## the image localhost/erlmesh:dev, for Docker; without a registry its base is made here
	@tools/image.sh $(BIN)/python

elixir-image:   ## the image localhost/erlmesh-elixir:dev, a real Elixir node for compose.yaml
	@tools/elixir_image.sh

cookie:         ## a new secret in docker/secret/cookie, for compose.yaml, if there is none
	@tools/cookie.sh

shell: $(VENV)/run.stamp         ## a prompt on a node of your own: make shell ARGS='--name a@127.0.0.1 --cookie secret'
	@$(BIN)/erlmesh shell $(ARGS)

test: $(VENV)/docs.stamp erlang engine check  ## everything: style, types, units, real Erlang and Elixir, real faults, containers
	@tools/test.sh all $(BIN)/python $(ARGS)

check: $(VENV)/dev.stamp         ## format, lint, spelling, workflows, types and the floors of the architecture: seconds
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/pre-commit validate-config
	$(BIN)/zizmor --offline --quiet --strict-collection .github .pre-commit-config.yaml
	$(BIN)/mypy
	$(PYTEST) tests/test_architecture.py

unit: $(VENV)/dev.stamp          ## the tests of the pure parts: make unit ARGS='-n auto'
	$(PYTEST) tests/unit $(ARGS)

coverage: $(VENV)/dev.stamp      ## the same, with a report of the lines that they do not run
	$(PYTEST) tests/unit --cov=erlmesh --cov-report=term-missing:skip-covered $(ARGS)

format: $(VENV)/dev.stamp        ## puts the code into the project's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

hooks: $(VENV)/dev.stamp         ## has git check each commit and its message
	$(BIN)/pre-commit install

dist: $(VENV)/dev.stamp          ## the distributions for a release, in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

docs: $(VENV)/docs.stamp          ## the documentation, in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

docs-tables: $(VENV)/run.stamp   ## the tables of options and commands in docs/reference, from the code
	$(BIN)/python tools/docs_tables.py
	$(BIN)/python tools/docs_commands.py

pythons: $(VENV)/dev.stamp       ## the unit tests on each other Python, 3.11 to 3.14, that is here or comes from Debian
	@tools/test.sh pythons $(BIN)/python $(ARGS)

otp: $(VENV)/dev.stamp erlang    ## interop with OTP 23, 25, 27 and 29, each test on each
	$(PYTEST) tests/otp --every-otp $(ARGS)

sim: $(VENV)/dev.stamp           ## random scenarios on simulated clusters: make sim SEEDS=1000 FIRST=0; SEED=7 replays one
	@PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS)) $(ARGS)

conformance: $(VENV)/dev.stamp erlang  ## OTP as the judge: what it sees of a node must be what it sees of a BEAM
	$(PYTEST) tests/otp/test_conformance_otp.py tests/otp/test_conformance_lifecycle_otp.py tests/otp/test_conformance_hostile_otp.py --every-otp $(ARGS)

faults: $(VENV)/dev.stamp erlang  ## real faults on real nodes, at length, and docs/reference/faults.md written anew (root; some minutes)
	$(PYTEST) tests/faults --long --table docs/reference/faults.md $(ARGS)

mutants: $(VENV)/dev.stamp       ## runs the scenarios against mutants and prints what kills each
	@$(BIN)/python tests/simulation/run_mutants.py $(ARGS)

docker: $(VENV)/dev.stamp        ## the tests with containers alone, on the Docker Engine of this machine
	$(PYTEST) tests/docker $(ARGS)

bench: $(VENV)/dev.stamp erlang  ## erlmesh beside the BEAM, in turns, in one run: a table, and bench/latest.json
	$(BIN)/python -m bench $(ARGS)

erlang:         # Erlang, Elixir and what real faults need, from the system where that is allowed; else says what is missing
	@tools/erlang.sh
	@tools/faults.sh

engine:         # a Docker Engine, started where that is allowed; else says what is missing
	@tools/engine.sh

clean:          ## forgets what was built and fetched
	rm -rf $(VENV) $(VENV)-3.* .otp .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build docker/wheelhouse
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment for everything. run.stamp: enough to use erlmesh; dev.stamp: also what tests and checks need.
$(VENV)/bin/python:
	@python=$$(tools/python.sh) && "$$python" -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	@echo "setting up $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[shell]'
	@touch $@

$(VENV)/docs.stamp: pyproject.toml $(VENV)/dev.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

# Another Python, for `make pythons`: only what tests/unit needs. It has no pip of its own where it comes from Debian.
$(VENV)-3.%/unit.stamp: pyproject.toml tools/python_of.py | $(VENV)/dev.stamp
	@python=$$($(BIN)/python tools/python_of.py 3.$*) && echo "setting up $(@D) ..." && "$$python" -m venv --clear --without-pip $(@D)
	@$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --editable '.[shell]' --group unit
	@touch $@
