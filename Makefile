# Everything a person or CI does here is a target of this file; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
CODE := core/src gateway/src gateway/entry_points.py operator/src sandbox-image/src tests scripts charts/corral/files

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.complete ## make .venv with the pinned dependencies and the corral command
	@$(BIN)/python -m compileall -q core/src gateway/src operator/src sandbox-image/src

.venv/.complete: requirements.lock pyproject.toml core/pyproject.toml gateway/pyproject.toml operator/pyproject.toml sandbox-image/pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) scripts/setup.sh
	@touch $@

.PHONY: run
run: setup ## run the sample tasks, each in its own sandbox, and show their results
	@$(BIN)/corral doctor --brief
	@$(BIN)/corral run -f k8s/samples

.PHONY: test
test: setup ## run the checks and the whole test suite, with coverage
	@$(MAKE) --no-print-directory lint verify
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --format=text | tail -n 40

GATEWAY_BY_USER := tasks.py files.py host_access.py serve.py audit_unwritable.py

.PHONY: test-sandbox
test-sandbox: setup ## run only the tests that start sandboxes, of the gateway those to which it matters who runs it
	@$(BIN)/pytest tests/contract tests/integration --ignore-glob='tests/integration/gateway/test_*' $(PYTEST_ARGS)
	@$(BIN)/pytest $(addprefix tests/integration/gateway/test_,$(GATEWAY_BY_USER)) $(PYTEST_ARGS)

.PHONY: lint
lint: setup ## formatting, lint, types, layers
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports

.PHONY: format
format: setup ## format the code and apply the safe fixes
	@$(BIN)/ruff check --quiet --fix $(CODE) || true
	@$(BIN)/ruff format --quiet $(CODE)

.PHONY: generate
generate: setup ## write the generated files (CRDs, tool reference) from the models
	@$(BIN)/python scripts/generate.py

.PHONY: verify
verify: setup ## fail if a generated file is not what the models say
	@$(BIN)/python scripts/generate.py --check

.PHONY: bench
bench: setup ## measure speed and memory: ratios within one run
	@PYTHONPATH=tests $(BIN)/python -m bench $(BENCH_ARGS)

RIG := PYTHONPATH=scripts $(BIN)/python -m rig

.PHONY: kind-up
kind-up: setup ## make a kind cluster, build and load the images, install the chart; print how to use it
	@use="$$($(RIG) up $(RIG_ARGS))" && $(RIG) images && $(RIG) install && printf '%s\n' "$$use"

.PHONY: kind-down
kind-down: setup ## delete the kind cluster and stop the rig's own Docker daemon
	@$(RIG) down

.PHONY: image
image: setup ## build the images corral/sandbox:dev, corral/operator:dev and corral/gateway:dev
	@$(RIG) image sandbox-image/Dockerfile corral/sandbox:dev
	@$(RIG) image operator/Dockerfile corral/operator:dev
	@$(RIG) image gateway/Dockerfile corral/gateway:dev

.PHONY: chart
chart: setup ## lint and test the Helm chart (helm, kubeconform and promtool are built if they are not there)
	@$(RIG) binaries helm kubeconform promtool >/dev/null
	@PATH="$$($(RIG) binaries helm):$$PATH" helm lint --quiet charts/corral
	@PATH="$$($(RIG) binaries helm):$$PATH" $(BIN)/pytest tests/chart $(PYTEST_ARGS)

.PHONY: test-cluster
test-cluster: setup ## run the cluster tests, in the cluster of KUBECONFIG or in a kind cluster made for them
	@$(RIG) test $(RIG_ARGS) -- $(PYTEST_ARGS)

.PHONY: test-docker
test-docker: setup ## run the contract tests and its own against the Docker backend
	@$(RIG) test-docker -- $(PYTEST_ARGS)

.PHONY: test-services
test-services: setup ## run the gateway's tests on a real PostgreSQL and a real Valkey or Redis, which must be installed, and a real S3 server, which is built with Go
	@PYTHONPATH=scripts $(BIN)/python -m rig binaries versitygw >/dev/null
	@$(BIN)/pytest tests/services $(PYTEST_ARGS)

.PHONY: bench-gateway
bench-gateway: setup ## measure what the gateway costs; needs wrk and taskset
	@PYTHONPATH=tests $(BIN)/python -m bench.gateway $(BENCH_ARGS)

.PHONY: bench-cluster
bench-cluster: setup ## measure tasks in the cluster of KUBECONFIG (BENCH_ARGS, e.g. --namespace default)
	@PYTHONPATH=tests $(BIN)/python -m bench.cluster $(BENCH_ARGS)

.PHONY: lock
lock: ## pin the dependencies anew (needs uv, which `make setup` leaves in .tools if it is not on PATH)
	@uv=$$(command -v uv || echo .tools/bin/uv); \
	$$uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra docker --group pyproject.toml:dev --no-emit-package corral --no-emit-package corral-gateway --no-emit-package corral-operator \
	  --no-emit-package corral-sandbox core/pyproject.toml gateway/pyproject.toml operator/pyproject.toml sandbox-image/pyproject.toml --output-file requirements.lock $(LOCK_ARGS)
	@$(MAKE) --no-print-directory generate

.PHONY: clean
clean: ## remove what setup and the tests made
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
