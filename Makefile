# Everything is installed into .venv, at the versions of constraints.txt; nothing outside this folder is touched.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on
# pip has no hash to compare for a folder: the package itself is installed apart from what it needs
EDITABLE := $(INSTALL) --no-deps --no-build-isolation -e .
SEED ?= 1
SECONDS ?= 120
MINUTES ?= 1.5
CLUSTER ?= 1
SEEDS ?= 300
FROM ?= 1
EDGES ?= 20 50 100
# Tests start hundreds of processes. Where the environment forbids to keep compiled modules, as images of continuous
# integration often do, each process would compile ours again: a quarter of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: traces demo demo-incremental test test-fast test-long test-mixed test-clients matrix test-frameworks proofs quality split-mnist check bench many-edges chaos fuzz fuzz-input topics crds kustomize exit-codes locks advisories format clean

demo: .venv/.demo  ## set up and run the demo
	$(BIN)/heliograph demo $(ARGS)

demo-incremental: .venv/.demo  ## set up and run the demo of incremental learning
	$(BIN)/heliograph demo incremental $(ARGS)

# the inner loop; tests that start processes or import a framework are left out by their fixtures (tests/conftest.py)
UNIT := $(addprefix tests/,core bus/contract bus/test_connection_url.py bus/traces compat coordinator edge_agent workers \
    lib/inference lib/test_federated.py lib/test_frameworks.py local/test_split.py simulations/virtual/test_loop.py \
    simulations/virtual/test_network.py)

# Tests wait for processes more than they compute: three at once keep two cores busy.

# the files with tests of a marker: collecting all others takes longer than some of these tests
marked = $(shell grep -rlw "mark.$(1)" tests --include="test_*.py")

test-fast: .venv/.dev  ## the unit tests, in less than a minute: no brokers, no processes, no frameworks
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=fast -m "not process and not framework and not long and not quality and not mixed" $(UNIT) $(ARGS)

test: .venv/.dev  ## set up and pass the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not long and not quality and not mixed and not clients and not matrix" $(ARGS)

test-long: .venv/.dev  ## pass the tests that take long: kills at every step, takeovers, floods, attacks, whole demos
	$(BIN)/python -m pytest -n 3 --dist load -m long $(call marked,long) $(ARGS)

quality: .venv/.dev  ## check accuracies and times: examples and scenarios against their figures
	$(BIN)/python -m pytest -n 2 -m quality $(call marked,quality) $(ARGS)

split-mnist: .venv/.dev  ## learn Split-MNIST with each strategy, 2,000 steps a task, against published figures; some 6 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality.split_mnist $(ARGS)

test-mixed: .venv/.dev  ## test the previous release and this one in one cluster; needs this repository's whole history
	$(BIN)/python -m pytest -m mixed tests/mixed_versions $(ARGS)

test-clients: .venv/.dev build/clients/.installed  ## run the tests of clients in JavaScript: in Node, and on a page in Chromium where that is installed
	$(BIN)/python -m pytest -m clients $(call marked,clients) $(ARGS)

matrix: .venv/.matrix  ## run the transports' tests on brokers in containers: a NATS cluster, mosquitto, EMQX; without Docker it is reported as not run
	$(BIN)/python -m pytest -n 2 --dist loadfile -m matrix $(wildcard tests/bus/test_*.py) $(ARGS)

test-frameworks: .venv/.frameworks  ## run the tests that need PyTorch, TensorFlow and JAX, none skipped
	HELIOGRAPH_REQUIRE_FRAMEWORKS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "framework and not quality" tests/lib tests/frameworks \
	    tests/workers/test_served_files.py tests/end_to_end/test_served_files.py tests/test_examples.py \
	    $(addprefix tests/field/,test_asking_a_model.py test_checking_a_script.py test_models_that_do_not_average.py \
	    test_tensors_of_all_kinds.py) $(ARGS)

# Fuzzing and test-mixed need one core each. The frameworks come last: no other proof is to find them installed.
proofs: export HELIOGRAPH_REQUIRE_MOSQUITTO := 1
proofs: .venv/.dev  ## pass what takes longer than .ci/run has time for: test-long, test-mixed, test-clients, fuzz, chaos, test-frameworks; needs the whole history
	$(MAKE) test-long
	fuzzed=$$(mktemp); nice $(MAKE) fuzz SEEDS=120 >"$$fuzzed" 2>&1 & fuzz=$$!; trap 'kill "$$fuzz" 2>/dev/null || true' EXIT; \
	    $(MAKE) test-mixed || exit 1; \
	    passed=0; wait "$$fuzz" || passed=$$?; cat "$$fuzzed"; trap - EXIT; exit "$$passed"
	$(MAKE) chaos SEED=1 MINUTES=1
	$(MAKE) test-clients
	$(MAKE) test-frameworks

check: .venv/.dev  ## check lint, types and the imports between packages
	$(BIN)/ruff check .
	$(BIN)/mypy -p heliograph -p benchmarks -p upkeep
	$(BIN)/lint-imports --no-cache

bench: .venv/.dev  ## measure Heliograph and its peers; fail if a target is missed or a figure is worse
	$(BIN)/python -m benchmarks $(ARGS)

many-edges: .venv/.dev  ## run EDGES edges on this machine, and measure time and memory
	$(BIN)/python -m benchmarks.many_edges $(EDGES) $(ARGS)

chaos: .venv/.dev  ## inject random faults, drawn from SEED, into real processes for MINUTES
	$(BIN)/python -m heliograph.simulations.faults --seed $(SEED) --minutes $(MINUTES) --cluster $(CLUSTER)

traces: .venv/.dev  ## record the golden traces again
	$(BIN)/python -m heliograph.simulations.check.golden tests/traces $(ARGS)

fuzz: .venv/.dev  ## inject random faults in virtual time for SEEDS seeds; shrink failures
	$(BIN)/python -m heliograph.simulations.fuzz --seeds $(SEEDS) --from $(FROM) $(ARGS)

fuzz-input: .venv/.dev  ## give hostile inputs to every reader and to a live cluster for SECONDS; minimise failures
	$(BIN)/python -m heliograph.simulations.input_fuzz --seconds $(SECONDS) --seed $(SEED) $(ARGS)

topics: .venv/.dev  ## write topics.md again
	$(BIN)/heliograph topics --markdown > topics.md

crds: .venv/.dev  ## write the custom resource definitions in deploy/crds again
	$(BIN)/heliograph crds deploy/crds

kustomize: .venv/.dev  ## write the bases in deploy/kustomize again, from the chart
	$(BIN)/python -m upkeep.kustomize deploy/kustomize

exit-codes: .venv/.dev  ## write the pages in docs/exit-codes again
	$(BIN)/heliograph help exit-codes --markdown > docs/exit-codes/README.md
	for code in 0 1 2 3 4 5 6 7 130; do $(BIN)/heliograph help $$code --markdown > docs/exit-codes/$$code.md; done

# each set with what the package itself is built with; uv knows no variable of pip
locks: .venv/.dev  ## lock what images, `demo` and `dev` install: pyproject.toml and constraints.txt, with the hash of each file
	for set in agent cloud demo dev matrix; do \
	    $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | $(BIN)/uv pip compile pyproject.toml - --extra $$set -c constraints.txt --universal --python-version 3.11 \
	        --generate-hashes --no-header --quiet --no-config -o locks/$$set.txt $${PIP_INDEX_URL:+--default-index "$$PIP_INDEX_URL"} || exit 1; \
	done

advisories: .venv/.dev  ## compare the pinned versions with public advisories; asks a service
	$(BIN)/python -m upkeep.advisories $(ARGS)

format: .venv/.dev
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "heliograph needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 1; }
	@echo "making .venv"
	@$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml locks/demo.txt | .venv/bin/python
	@echo "installing heliograph and the demo's packages (numpy, scikit-learn): about 150 MB"
	$(INSTALL) --require-hashes -r locks/demo.txt
	$(EDITABLE)
	@touch $@

.venv/.dev: pyproject.toml locks/dev.txt | .venv/bin/python
	@echo "installing heliograph with its development tools"
	$(INSTALL) --require-hashes -r locks/dev.txt
	$(EDITABLE)
	@touch $@ .venv/.demo

.venv/.matrix: pyproject.toml locks/matrix.txt | .venv/.dev
	@echo "installing testcontainers"
	$(INSTALL) --require-hashes -r locks/matrix.txt
	@touch $@

# where there is no npm the tests report what is missing
build/clients/.installed: tests/data/field/clients/package-lock.json
	@mkdir -p build/clients
	cp tests/data/field/clients/package.json tests/data/field/clients/package-lock.json build/clients
	@if command -v npm >/dev/null; then npm ci --prefix build/clients --ignore-scripts --no-audit --no-fund && touch $@; \
	    else echo "npm is not installed: clients in JavaScript are not tested"; fi

.venv/.frameworks: pyproject.toml constraints.txt | .venv/.dev
	@echo "installing PyTorch, TensorFlow and JAX: about 2.5 GB, and several more if pip finds no CPU build of PyTorch"
	@echo "and what examples and extras need (Lightning, Transformers, PEFT, Flax, XGBoost, pandas, River, MLflow): about 350 MB"
	$(INSTALL) -c constraints.txt -e ".[torch,tensorflow,examples,image,onnx,tflite,drift,mlflow]"
	@touch $@
