PYTHON ?= python3
BIN := .venv/bin
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate
COMPOSE = $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose) -p opentobuy -f deploy/docker-compose.yml
OWNER = $(COMPOSE) run --rm -T --no-deps otb
WORKERS := repayment-ingest settlement risk-scoring limit-release notifier lag-monitor console
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types imports unit integration simulate seeds planted mutate e2e engine dashboards-preview bench growth memory release audit train training schemas lock stack-up stack-status stack-down stack-reset up upgrade backup down ps logs pause resume clean

help: ## show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## make the virtual environment from the lock

.venv/ready: deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "setting up: installing locked Python packages (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## real repayments through real workers on real Kafka and PostgreSQL, told as a story
	@$(BIN)/otb demo

test: setup ## every test that needs nothing but this checkout
	@$(BIN)/python -m pytest

check: format lint types imports ## format, lint, types, import contracts and generated files; needs no server
	@$(BIN)/python -m services.cli.generate --check

format: setup ## is everything formatted?
	@$(BIN)/ruff format --quiet --check .

lint: setup ## ruff
	@$(BIN)/ruff check --quiet .

types: setup ## mypy --strict
	@$(BIN)/mypy --no-error-summary .

imports: setup ## the import contracts
	@$(BIN)/lint-imports --no-logo > .venv/imports.txt || (cat .venv/imports.txt; exit 1)

unit: setup ## the pure rules
	@$(BIN)/python -m pytest tests/unit tests/contract tests/architecture

integration: setup ## stores, loops and the stack on real servers
	@$(BIN)/python -m pytest tests/integration

simulate: setup ## play one seed of the simulated pipeline again: make simulate SEED=7, or SEED='0 1000'
	@$(BIN)/python -m tests.simulation $(SEED)

seeds: setup ## 10,000 seeds of the simulated pipeline: minutes of every core
	@$(BIN)/python -m pytest --seeds -m seeds tests/simulation/test_seeds.py

planted: setup ## does the simulated pipeline find each planted bug?
	@$(BIN)/python -m pytest --seeds -m seeds tests/simulation/test_planted_bugs.py

mutate: setup ## change the domains on purpose: does a test fail each time? (bounded; FILES='*/waterfall.py' for some)
	@$(BIN)/python -m tests.mutation $(if $(FILES),'$(FILES)')
	@$(BIN)/python -m tests.mutation.numbers $(if $(FILES),'$(FILES)')

e2e: setup ## the whole pipeline, killed and restarted
	@$(BIN)/python -m pytest tests/e2e

engine: setup ## the compose file on a container engine of its own (root on Debian 12; docker.io docker-compose debootstrap)
	@OTB_ENGINE=1 $(BIN)/python -m pytest tests/e2e/compose

dashboards-preview: setup ## pictures of the dashboards, of a real run, by Grafana's own components (Node.js, chromium, prometheus)
	@OTB_CI=1 $(BIN)/python -m pytest tests/e2e/test_watching.py --panels "$(CURDIR)/.otb/panels.json"
	@npm ci --silent --prefix tests/e2e/preview
	@node tests/e2e/preview/draw.mjs .otb/panels.json .otb/preview

bench: setup ## floor, two naive pipelines and ours, interleaved in one run
	@$(BIN)/python -m tests.benchmarks.pipeline --json .otb/bench.json

growth: setup ## cost of a repayment with a million inbox rows against none
	@$(BIN)/python -m tests.benchmarks.growth

memory: setup ## resident memory of each worker over 100,000 repayments
	@$(BIN)/python -m tests.benchmarks.memory

release: setup ## what takes minutes and is shown before a release, one line each
	@$(BIN)/python -m services.risk_training.simulator --repayments 400000 --seeds 3
	@$(BIN)/python -m pytest tests/e2e/test_crash.py --repayments 12000 --kills 40
	@$(BIN)/python -m pytest --release tests/e2e/test_upgrade.py tests/e2e/test_rotation.py tests/contract/test_image_arm64.py
	@OTB_ENGINE=1 $(BIN)/python -m pytest --release tests/e2e/compose
	@$(MAKE) --no-print-directory audit

audit: setup ## list the image's packages (CycloneDX, .otb/sbom.json) and ask whether one has a known defect (network)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/audit.lock
	@mkdir -p .otb && $(BIN)/cyclonedx-py requirements deploy/image.lock --output-reproducible -o .otb/sbom.json
	@$(BIN)/pip-audit --requirement deploy/image.lock --require-hashes --disable-pip --progress-spinner off

training: setup ## what only training needs, from its own lock (LightGBM, NumPy)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/training.lock

train: training ## train the credit score on the file OTB_RISK_DATASET names; writes deploy/policy/models and credit.html
	@$(BIN)/otb risk train

schemas: setup ## write JSON Schema, AsyncAPI, the catalogue, topics and access rights again
	@$(BIN)/python -m services.cli.generate

lock: ## pin every Python package with its hashes again (needs uv)
	@$(LOCK) --extra dev pyproject.toml -o deploy/requirements.lock
	@$(LOCK) --extra training -c deploy/requirements.lock pyproject.toml -o deploy/training.lock
	@$(LOCK) --extra audit -c deploy/requirements.lock pyproject.toml -o deploy/audit.lock
	@$(LOCK) --extra image --extra tracing -c deploy/requirements.lock pyproject.toml -o deploy/image.lock

stack-up: setup ## start the embedded Kafka and PostgreSQL
	@$(BIN)/otb stack up

stack-status: setup ## what of the stack runs
	@$(BIN)/otb stack status

stack-down: setup ## stop the stack, keep its data
	@$(BIN)/otb stack down

stack-reset: setup ## stop the stack and remove its data
	@$(BIN)/otb stack reset

up: ## the whole system in containers: make secrets, build, start, wait until healthy, print the links
	@deploy/secrets.sh && $(COMPOSE) build migrate && $(COMPOSE) --profile obs up -d && $(COMPOSE) --profile obs logs --no-color ready

upgrade: ## the containers of this build in place of the older one's: workers stop before the schema moves
	@$(COMPOSE) build migrate && $(COMPOSE) stop $(WORKERS) && $(MAKE) --no-print-directory up

backup: ## copy the containers' database into books.dump, as of one instant
	@umask 077 && $(COMPOSE) exec -T postgres sh -c 'PGPASSWORD=$$(cat /run/secrets/otb_owner) pg_dump -h 127.0.0.1 -U otb_owner -Fc otb' > books.dump.part && mv books.dump.part books.dump

down: ## stop the containers, keep their data
	@$(COMPOSE) --profile obs --profile demo --profile tracing --profile registry down

ps: ## which containers run, and are they healthy?
	@$(COMPOSE) --profile obs --profile demo ps

logs: ## follow the containers' logs
	@$(COMPOSE) --profile obs --profile demo logs --follow --tail 100

pause: ## a container stands still, explained: make pause SERVICE=settlement ACTOR=ops_1 REASON=drill
	@$(OWNER) pause $(SERVICE) --actor $(ACTOR) --reason $(REASON) && $(COMPOSE) stop $(SERVICE)

resume: ## it goes on: make resume SERVICE=settlement ACTOR=ops_1 REASON=drill
	@$(OWNER) resume $(SERVICE) --actor $(ACTOR) --reason $(REASON) && $(COMPOSE) start $(SERVICE)

clean: ## remove every stack's data, containers, secrets and the virtual environment
	@! test -x $(BIN)/otb || $(BIN)/otb stack reset
	@! docker info > /dev/null 2>&1 || $(COMPOSE) --profile obs --profile demo --profile tools --profile tracing --profile registry down --volumes
	@rm -rf deploy/secrets
	@rm -rf .venv
