# Each target sets up what it needs: make demo inspects a small night of images, make up starts the whole system on
# this machine, make test runs the fast tests.
PYTHON ?= python3
VENV := .venv
MOTO := .venv-moto
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MOTO_READY := $(MOTO)/.ready
PYTEST = $(BIN)/python -m pytest
PIP := pip install --quiet --disable-pip-version-check

.PHONY: help setup demo up down test test-slow test-ceph test-all lint format clean

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY)  ## Make the virtual environment .venv

# The stamp is written last: an environment without it died half way and is made anew.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(if $(wildcard $(READY)),,--clear) $(VENV) \
	  || { echo "python's venv is missing: apt install python3-venv"; exit 1; }
	@$(BIN)/$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

# moto brings its own boto3, which s3fs cannot share: an environment of its own.
$(MOTO_READY): infra/moto-requirements.txt
	@echo "setting up $(MOTO) (an S3 server for the tests) ..."
	@$(PYTHON) -m venv $(if $(wildcard $(MOTO_READY)),,--clear) $(MOTO)
	@$(MOTO)/bin/$(PIP) -r infra/moto-requirements.txt
	@touch $@

demo: $(READY)  ## Inspect a small made night with known defects, and measure the result
	$(BIN)/ssdnet sample demo/night
	$(BIN)/ssdnet evaluate demo/night --results demo/results

up: $(READY) $(MOTO_READY)  ## Start the whole system on this machine; make up UP="--prefect-port 4300" passes options
	$(BIN)/ssdnet up $(UP)

down: $(READY)  ## Stop it from another shell; make down DOWN="--home elsewhere" passes options
	$(BIN)/ssdnet down $(DOWN)

test: $(READY)  ## Run the fast tests
	$(PYTEST) -n 2 -m 'not slow'

# Three at a time on two cores: much of such a test is waiting for servers and workers to start and to end.
test-slow: $(READY) $(MOTO_READY)  ## Run the tests that fit real sizes or start servers
	SSDNET_REQUIRE_SERVERS=1 $(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m slow --durations 15 \
	  --durations-min 10 $$(grep -rl --include='test_*.py' 'mark\.slow' tests)

test-ceph: $(READY) $(MOTO_READY)  ## Run the S3 policy's tests against Ceph; apt-get install ceph-mon ceph-osd radosgw
	SSDNET_REQUIRE_CEPH=1 $(BIN)/python -m pytest tests/end_to_end/test_s3_policy.py

test-all: test test-slow  ## Run all tests

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove environments, caches and the demo
	rm -rf $(VENV) $(MOTO) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
