# Two commands need no set-up: `make run` (the main job) and `make test`. `make help` lists the others.
CORPUS ?= data/mini
PYTHON ?= python3
ready := .venv/.ready
export OPENBLAS_NUM_THREADS ?= 1
bin := .venv/bin

.PHONY: run up test test-real lint bench slurm-up slurm-down verify picture clean help

run: $(ready)          ## the main job: fold 02 if needed, the warm start, its verdict
	$(bin)/gated run --corpus '$(CORPUS)'

up: $(ready)           ## Prefect server, web page and every deployment, until Ctrl-C
	$(bin)/gated up --corpus '$(CORPUS)'

test: $(ready)         ## the fast tests
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2

test-real: $(ready)    ## with the real Slurm, the Prefect server and the browser, two files at a time
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 --dist loadfile -m 'slurm or prefect or browser' --durations=10 $(ONLY)

lint: $(ready)         ## style, types, import contracts
	$(bin)/ruff check . && $(bin)/ruff format --check . && $(bin)/mypy && $(bin)/lint-imports

bench: $(ready)        ## the CPU benchmarks, under ten minutes (HOW=--smoke: one)
	$(bin)/python -m benchmarks.all $(HOW)

slurm-up:              ## a real Slurm on this machine (root only for apt)
	slurm_templates/lab/slurm-up.sh

slurm-down:            ## stop it and wipe its state
	slurm_templates/lab/slurm-down.sh --wipe

verify: $(ready)       ## check the hash chain of every audit log in artifacts/
	$(bin)/gated verify artifacts

picture: $(ready)      ## docs/architecture.svg, drawn from the code's own imports
	$(bin)/python docs/architecture.py

$(ready): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(bin)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(ready)

clean:                 ## everything that can be made again
	rm -rf .venv .prefect data/mini build *.egg-info

help:                  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 13
