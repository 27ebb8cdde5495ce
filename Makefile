# Environments are made when a target needs them, and again when their requirements change.

PYTHON ?= python3
CORE := .venv/core/bin
TEST_GROUPS := $(subst _,-,$(patsubst tests/%_group,%,$(wildcard tests/*_group)))
# Alone: servers are asked for ten times too much, and how long they take is looked at; nodes of Ray are lost by silence.
ALONE := serving ray
SOAK_MINUTES ?= 15

.DEFAULT_GOAL := help
# A test that calls make is no part of this one; and whatever a test starts would compile all that it imports.
unexport MAKEFLAGS PYTHONDONTWRITEBYTECODE
.PHONY: help FORCE bench-limits demo demo-s3 two-tower serve-demo matrix test test-all test-beside-others test-alone soak \
	bench bench-text bench-pictures bench-peers bench-ray check clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9<>-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make test-GROUP     one test group in its own environment: $(TEST_GROUPS)"
	@echo "  make soak-demo-s3   the demo on object storage in five storms, each with a minute of blackout"

demo: environment-demo  ## a real catalog into a published release, a change of 1 %, a search
	@.venv/demo/bin/python examples/demo/run_demo.py

demo-s3: environment-demo-s3  ## the same on object storage, with an S3 server that it starts and ends
	@.venv/demo-s3/bin/python tools/seaweedfs.py --data demo-s3/server --bucket demo \
		.venv/demo-s3/bin/python examples/demo/run_demo.py \
		--folder demo-s3 --store s3://demo/mill --again "make demo-s3"

two-tower: environment-tensorflow  ## train a TensorFlow model, publish two use cases, be stopped by a gate
	@.venv/tensorflow/bin/python examples/tensorflow-two-tower/run_example.py

serve-demo: environment-tensorflow  ## a search page over the two towers: type a word, drop a picture
	@[ -f two-tower/towers.yaml ] || .venv/tensorflow/bin/python examples/tensorflow-two-tower/run_example.py
	@.venv/tensorflow/bin/embedmill serve two-tower/towers.yaml

test: environment-core  ## the core tests
	@$(CORE)/python -m pytest --junitxml=build/reports/core.xml

test-%: environment-%
	@$(PYTHON) tools/debian.py $*
	@.venv/$*/bin/python -m pytest tests/$(subst -,_,$*)_group --junitxml=build/reports/$*.xml

test-all: test $(TEST_GROUPS:%=test-%)  ## the tests of every group

test-beside-others: test $(patsubst %,test-%,$(filter-out $(ALONE),$(TEST_GROUPS)))
test-alone: $(ALONE:%=test-%)

soak: environment-core  ## the large counts, part after part; a rerun goes on where the last one ended
	@more=75; while [ $$more -eq 75 ]; do \
		$(CORE)/python -m pytest --soak --timeout=1200 --soak-minutes=$(SOAK_MINUTES); more=$$?; \
	done; exit $$more

soak-%: environment-%
	@$(PYTHON) tools/debian.py $*
	@.venv/$*/bin/python -m pytest tests/$(subst -,_,$*)_group --soak --timeout=1200

bench: environment-core  ## every benchmark that needs no other libraries, at small sizes; says which missed a bound
	@missed=""; for file in $(wildcard benchmarks/[a-z]*.py); do \
		echo "== $$file"; $(CORE)/python -m benchmarks.$$(basename $$file .py) || missed="$$missed $$file"; \
	done; \
	[ -z "$$missed" ] || { echo "missed a bound, or failed:$$missed"; exit 1; }

LIMITS := peak text pictures stages refresh planning searching starting
bench-limits: environment-core environment-peers-text environment-torch  ## docs/limits.md: all that has a bound, at full size; hours, on an idle machine
	@mkdir -p build/bench/findings
	@for name in $(LIMITS); do \
		$(MAKE) --no-print-directory build/bench/findings/$$name.json; sleep 90; \
	done  # until the load of the last one is no longer taken for other work
	@$(CORE)/python -m benchmarks.page $(LIMITS:%=build/bench/findings/%.json) --into docs/limits.md

build/bench/findings/text.json: FORCE
	-@.venv/peers-text/bin/python -m benchmarks.text --json > $@
build/bench/findings/%.json: FORCE
	-@$(CORE)/python -m benchmarks.$* $(if $(filter refresh planning searching pictures,$*),--full) --json > $@
FORCE:

matrix: environment-core environment-torch environment-convert environment-tensorflow environment-triton  ## real models on every runtime: are the vectors equal, what does each cost?
	@$(CORE)/python -m benchmarks.matrix

check: environment-core  ## lint, format, types, layers, lengths: all of them, then the verdict
	@export PATH="$(CURDIR)/$(CORE):$$PATH"; failed=""; \
	for check in "ruff check --quiet" "ruff format --check --quiet" "mypy" "lint-imports --no-logo" \
			"python tools/check_lengths.py"; do \
		echo "== $$check"; $$check || failed="$$failed [$$check]"; \
	done; \
	[ -z "$$failed" ] || { echo "check failed:$$failed"; exit 1; }

bench-text: environment-peers-text  ## texts to vectors on disk, beside sentence-transformers, fastembed and Ray Data
	@.venv/peers-text/bin/python -m benchmarks.text

bench-pictures: environment-core environment-torch  ## EfficientNet-Lite0 over JPEGs, beside decoding and model alone
	@$(CORE)/python -m benchmarks.pictures

bench-peers: environment-core environment-peers-infinity  ## `embedmill serve` beside infinity, its bare encoder and bare FAISS
	@$(CORE)/python -m benchmarks.peers

bench-ray: environment-ray  ## two nodes of a Ray cluster beside two local workers, and what Ray takes itself
	@$(PYTHON) tools/debian.py ray
	@.venv/ray/bin/python -m benchmarks.on_ray

clean:  ## remove all that make has made: environments, reports, caches, the demo's output
	rm -rf .venv build demo demo-s3 two-tower efficientnet-lite0 .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment-%:
	@$(PYTHON) -m tools.environment $*
