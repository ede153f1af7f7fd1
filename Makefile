# `make` without a target lists the targets. Required: make, and Python 3.11 or newer with venv. Everything else is installed in
# .venv, .venv-3.* and .otp.

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SHELL  := /bin/sh
ARGS   ?=
SEEDS  ?= 1000
FIRST  ?= 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# With cargo, each environment gets the native part. It is built again when its source changes, once for all environments.
CARGO  := $(if $(filter-out 0,$(ERLMESH_PURE)),,$(shell tools/native.sh --can-build && echo yes))
NATIVE := $(if $(CARGO),$(VENV)/native.stamp)
NATIVE_SOURCE := $(wildcard native/src/*.rs native/src/*/*.rs) native/Cargo.toml native/Cargo.lock native/pyproject.toml native/erlmesh_native.pyi

.PHONY: help docs docs-tables faults demo cep-demo docker-demo image elixir-image cookie certs docker shell test check unit coverage format hooks native fuzz soak leaks sanitize pythons dist otp conformance sim sim-shards mutants bench bench-growth erlang engine chromium browser map-picture clean

help:           ## print this list
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/run.stamp          ## run a demo: three nodes connect and share a group; one is killed and starts again; ARGS=--map shows it in a browser
	@$(BIN)/erlmesh demo $(ARGS)

cep-demo: $(VENV)/chart.stamp $(if $(findstring --docker,$(ARGS)),image)  ## run event processing on three nodes: they are killed, paused, cut off and stopped; draws a chart; ARGS='--help'
	@cd examples && ../$(BIN)/python -m cep.demo --out ../build $(ARGS)

docker-demo: $(VENV)/run.stamp image  ## run the demo in containers: pauses, kills, partitions and adds nodes; then removes everything; ARGS=--map
	@$(BIN)/erlmesh demo --docker $(ARGS)

image: $(VENV)/run.stamp         ## build the Docker image localhost/erlmesh:dev; without a registry, also its base image
	@tools/image.sh $(BIN)/python

elixir-image:   ## build the Docker image localhost/erlmesh-elixir:dev, an Elixir node for compose.yaml
	@tools/elixir_image.sh

cookie:         ## write a new cookie for compose.yaml to docker/secret/cookie, unless it exists
	@tools/cookie.sh

certs: $(VENV)/run.stamp         ## make a CA and certificates for compose.tls.yaml in docker/secret/certs, unless they exist
	@tools/certs.sh $(BIN)/python

shell: $(VENV)/run.stamp         ## start a node with a prompt: make shell ARGS='--name a@127.0.0.1 --cookie secret'
	@$(BIN)/erlmesh shell $(ARGS)

test: $(VENV)/docs.stamp erlang engine chromium check  ## run all checks and tests: style, types, units, real Erlang and Elixir, real faults, containers, a browser
	@tools/test.sh all $(BIN)/python $(ARGS)

check: $(VENV)/dev.stamp         ## check format, lint, spelling, workflows, types and the layers of the architecture; takes seconds
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
	@tools/native.sh --check
	$(PYTEST) tests/test_architecture.py

unit: $(VENV)/dev.stamp          ## run the unit tests: make unit ARGS='-n auto'
	$(PYTEST) tests/unit $(ARGS)

coverage: $(VENV)/dev.stamp      ## run the unit tests and report the lines that they do not cover
	$(PYTEST) tests/unit --cov=erlmesh --cov-report=term-missing:skip-covered $(ARGS)

format: $(VENV)/dev.stamp        ## format the code and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

hooks: $(VENV)/dev.stamp         ## install the git hooks that check each commit and its message
	$(BIN)/pre-commit install

native: $(VENV)/run.stamp        ## build the native part and install it into .venv; requires Rust's cargo
	@tools/native.sh --can-build || { tools/native.sh --why-not; exit 1; }
	@$(MAKE) --no-print-directory $(VENV)/native.stamp

dist: $(VENV)/dev.stamp          ## build the sdist and the wheel in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

docs: $(VENV)/docs.stamp          ## build the documentation in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

docs-tables: $(VENV)/run.stamp   ## write the tables of options and commands in docs/reference from the code
	$(BIN)/python tools/docs_tables.py
	$(BIN)/python tools/docs_commands.py
	$(BIN)/python tools/docs_limits.py
	$(BIN)/python tools/docs_metrics.py
	$(BIN)/python tools/docs_log_events.py

pythons: $(VENV)/dev.stamp       ## run the unit tests on each other Python from 3.11 to 3.14 that is installed or comes from Debian
	@tools/test.sh pythons $(BIN)/python $(ARGS)

otp: $(VENV)/dev.stamp erlang    ## run the interop tests, each on OTP 23, 25, 27 and 29
	$(PYTEST) tests/otp --every-otp $(ARGS)

sim: $(VENV)/dev.stamp           ## run random scenarios on simulated clusters: make sim SEEDS=1000 FIRST=0; SEED=7 replays one; BOTH=1 compares both builds
	@PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS) $(if $(BOTH),--both-builds)) $(ARGS)

sim-shards: $(VENV)/dev.stamp    ## run random scenarios of nodes that hold shards: make sim-shards SEEDS=2000 FIRST=0; SEED=7 prints one
	@PYTHONPATH=tests $(BIN)/python -m simulation.sharding $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS)) $(ARGS)

conformance: $(VENV)/dev.stamp erlang  ## run the conformance tests: OTP compares what it observes of an erlmesh node and of a BEAM
	$(PYTEST) tests/otp/test_conformance_otp.py tests/otp/test_conformance_lifecycle_otp.py tests/otp/test_conformance_hostile_otp.py --every-otp $(ARGS)

faults: $(VENV)/dev.stamp erlang  ## run all faults on real nodes and write docs/reference/faults.md (root; some minutes)
	$(PYTEST) tests/faults --long --table docs/reference/faults.md $(ARGS)

fuzz: $(VENV)/dev.stamp          ## search for input that breaks a promise, and compare both builds: make fuzz SECONDS=60 SEED=7
	@PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(or $(SECONDS),10) $(if $(SEED),--seed $(SEED)) $(ARGS)
	@PYTHONPATH=tests $(BIN)/python -m fuzz.guided all --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/dev.stamp erlang   ## load and faults on a mesh of Python nodes and BEAMs, while resources are watched: make soak MINUTES=30
	@PYTHONPATH=tests $(BIN)/python -m soak --minutes $(or $(MINUTES),5) $(ARGS)

leaks: $(VENV)/dev.stamp         ## search for leaks in the native part over a million terms and messages, many faulty: ITEMS=
	@PYTHONPATH=tests $(BIN)/python -m fuzz.leaks --items $(or $(ITEMS),1000000)

sanitize: $(VENV)/dev.stamp      ## run the fuzzer with AddressSanitizer in the native part; requires cargo and gcc
	@tools/native.sh --sanitize $(BIN)/python $(or $(SECONDS),60)

mutants: $(VENV)/dev.stamp       ## run the scenarios against mutants and print what kills each mutant
	@$(BIN)/python tests/simulation/run_mutants.py $(ARGS)

docker: $(VENV)/dev.stamp        ## run the tests with containers on this machine's Docker Engine
	$(PYTEST) tests/docker $(ARGS)

browser: $(VENV)/dev.stamp erlang chromium  ## run the tests of the page of the map in Chromium
	$(PYTEST) tests/browser $(ARGS)

bench: $(VENV)/dev.stamp erlang  ## measure erlmesh and a BEAM in turns (minutes): ARGS='--quick --contenders pure --only calls'; writes bench/latest.json
	$(BIN)/python -m bench $(ARGS)

bench-growth: $(VENV)/dev.stamp  ## measure how the cost of groups and of the mesh grows; prints tables, writes bench/growth.json
	$(BIN)/python -m bench.growth $(ARGS)

erlang:         # install Erlang, Elixir and the tools for tests/faults as root; otherwise print what is missing
	@tools/erlang.sh
	@tools/faults.sh
	@tools/promtool.sh

engine:         # with CI=true, install and start a Docker Engine; otherwise print what is missing
	@tools/engine.sh

map-picture: $(VENV)/dev.stamp erlang chromium  ## make the pictures of the map in the README and in the guide to incidents with real nodes
	$(BIN)/python tools/map_picture.py docs/images/map.webp
	PYTHONPATH=tests/otp:tests/faults $(BIN)/python tools/incident_pictures.py docs/images

chromium:       # install Chromium as root; otherwise print what is missing
	@tools/browser.sh

clean:          ## remove everything that was built or fetched
	rm -rf $(VENV) $(VENV)-3.* .otp .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build native/target docker/wheelhouse
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment serves all targets. run.stamp: the packages to run erlmesh. dev.stamp: also those for tests and checks.
$(VENV)/bin/python:
	@python=$$(tools/python.sh) && "$$python" -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python $(NATIVE)
	@echo "setting up $(VENV) ..."
	@$(if $(CARGO),,tools/native.sh --why-not)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[shell,certs,web]'
	@touch $@

$(VENV)/chart.stamp: $(VENV)/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'matplotlib>=3.9'
	@touch $@

build/native.stamp: $(NATIVE_SOURCE) tools/native.sh | $(VENV)/bin/python
	@tools/native.sh --build $(BIN)/python
	@touch $@

$(VENV)/native.stamp: build/native.stamp | $(VENV)/bin/python
	@tools/native.sh --install $(BIN)/python $(BIN)/python
	@touch $@

$(VENV)/docs.stamp: pyproject.toml $(VENV)/dev.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

# Another Python, for `make pythons`, with the packages of tests/unit only. A Python from Debian has no pip of its own.
$(VENV)-3.%/packages.stamp: pyproject.toml tools/python_of.py | $(VENV)/dev.stamp
	@python=$$($(BIN)/python tools/python_of.py 3.$*) && echo "setting up $(@D) ..." && "$$python" -m venv --clear --without-pip $(@D)
	@$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --editable '.[shell,certs]' --group unit
	@touch $@

$(VENV)-3.%/unit.stamp: $(VENV)-3.%/packages.stamp $(if $(CARGO),build/native.stamp)
	@$(if $(CARGO),tools/native.sh --install $(BIN)/python $(@D)/bin/python)
	@touch $@

.PRECIOUS: $(VENV)-3.%/packages.stamp
