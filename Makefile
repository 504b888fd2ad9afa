# Two commands need no set-up: `make run` (the main job) and `make test`. `make help` lists the others.
CORPUS ?= data/mini
PYTHON ?= python3
DOSES ?= 1e4
comma := ,
space := $() $()
ready := .venv/.ready
tenants := .venv/.tenants
export OPENBLAS_NUM_THREADS ?= 1
bin := .venv/bin
# Byte code is written as modules are first imported: most of what is installed never is.
pip := $(bin)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: run up ptycho concept concept-scan test test-real test-slow lint bench simulate slurm-up slurm-down verify picture clean help

run: $(ready)          ## the main job: fold 02 if needed, the warm start, its verdict
	$(bin)/gated run --corpus '$(CORPUS)'

up: $(ready)           ## Prefect server, web page and every deployment, until Ctrl-C
	$(bin)/gated up --corpus '$(CORPUS)'

ptycho: $(tenants)     ## dose and overlap in ptychography (DOSES="1e3 1e4 1e5"; one dose: minutes)
	$(bin)/gated run ptycho --plan '{"doses": [$(subst $(space),$(comma) ,$(strip $(DOSES)))]}'

test: $(tenants)         ## the fast tests
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2

test-real: $(tenants)    ## with the real Slurm, the Prefect server and the browser, two files at a time
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'slurm or prefect or browser' --durations=25 $(ONLY)

test-slow: $(tenants)    ## measured quality, from minutes to a quarter of an hour (ONLY=tests/denoise_core: a part)
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 -m slow --durations=10 $(ONLY)

lint: $(tenants)         ## style, types, import contracts
	$(bin)/ruff check . && $(bin)/ruff format --check . && $(bin)/mypy && $(bin)/lint-imports

bench: $(ready)        ## the CPU benchmarks, under ten minutes (HOW=--smoke: one)
	$(bin)/python -m benchmarks.all $(HOW)

concept: $(tenants)    ## a protein concept from windows to verdict and report, house model (MODEL=key or folder)
	$(bin)/gated run concept $(if $(MODEL),--set 'model=$(MODEL)')

concept-scan: $(tenants) ## FASTA=file: where the concept stands, by the CAV that `make concept` shipped
	$(bin)/gated run concept/scan --set 'fasta=$(FASTA)' $(if $(MODEL),--set 'model=$(MODEL)')

simulate: $(ready)     ## HISTORIES= seeded histories of a faulty site, network and disk, from SEED=
	OMP_NUM_THREADS=1 $(bin)/python -m benchmarks.simulator --histories $(or $(HISTORIES),2000) --seed $(or $(SEED),0)

slurm-up:              ## a real Slurm on this machine (root only for apt)
	slurm_templates/lab/slurm-up.sh

slurm-down:            ## stop it and wipe its state
	slurm_templates/lab/slurm-down.sh --wipe

verify: $(ready)       ## the house checked: logs, files, signatures, registry
	$(bin)/gated verify artifacts

picture: $(ready)      ## docs/architecture.svg, drawn from the code's own imports
	$(bin)/python docs/architecture.py

$(ready): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(pip) -r requirements.lock
	$(pip) --no-deps --no-build-isolation -e .
	touch $(ready)

$(tenants): $(ready) requirements-concept.lock requirements-ptycho.lock requirements-exports.lock
	$(pip) -r requirements-concept.lock
	$(pip) --no-deps -r requirements-ptycho.lock -r requirements-exports.lock
	touch $(tenants)

clean:                 ## everything that can be made again
	rm -rf .venv .prefect data/mini build *.egg-info

help:                  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 13
