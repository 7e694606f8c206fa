# flaregate: every target works from a clean clone with python3, make and git.
PYTHON ?= python3
BIN := .venv/bin
TOOL ?= docker
EXTRA ?= none
INSTALLED := .venv/.installed

.PHONY: install postgresql containers images demo test test-all soak check bench docs golden lock clean

install: $(INSTALLED)

$(INSTALLED): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("flaregate needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

postgresql:  ## The server that tests start on a port of its own; Debian's package, where it is missing
	@ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || command -v postgres > /dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -y -q --no-install-recommends postgresql; } \
	  || { echo "PostgreSQL is missing; as root: apt-get install -y --no-install-recommends postgresql" >&2; exit 1; }

PODMAN := podman buildah runc conmon netavark aardvark-dns iptables uidmap skopeo mmdebstrap catatonit

containers:  ## Podman and what it needs, which tests run real containers with; Debian's packages, where they are missing
	@command -v podman > /dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -y -q --no-install-recommends $(PODMAN); } \
	  || { echo "Podman is missing; as root: apt-get install -y --no-install-recommends $(PODMAN)" >&2; exit 1; }

images: install  ## flaregate-gateway and flaregate-worker; TOOL=podman, EXTRA=transformers (adds torch and transformers)
	$(TOOL) build -f Dockerfile.gateway -t flaregate-gateway .
	$(TOOL) build -f Dockerfile.worker -t flaregate-worker --build-arg EXTRA=$(EXTRA) --build-arg ENVIRONMENT="$$( \
	  $(BIN)/python -m worker_image.environment requirements/worker$(if $(filter transformers,$(EXTRA)),-transformers).lock)" .
	@$(TOOL) images --format '{{.Repository}} {{.Size}}' --filter 'reference=*flaregate-*'

demo: install  ## A search over scikit-learn's digits, the whole way
	$(BIN)/flaregate run examples/digits.json --save digits.fitted.zip

test: install  ## Under 10 minutes on 2 cores; real Ray end to end
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m "not (chaos or exhaustive or foreign or platforms or services or slow or soak)"

# One after the other: they look at the clock
ALONE := chaos or platforms or slow

test-all: install postgresql containers  ## What `make test` leaves out: processes killed on purpose, real S3 and PostgreSQL servers and containers, hundreds of random pipelines, scikit-learn's own tests
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadscope --no-loadscope-reorder -m "(exhaustive or foreign or services) and not ($(ALONE))"
	$(BIN)/python -m pytest -m "$(ALONE)"

soak: test test-all bench  ## Everything, with the benchmarks and all of scikit-learn's own tests
	$(BIN)/python -m pytest -m soak

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv-bench/.installed postgresql  ## make bench NAME=w2 runs one; results go to benchmarks/results/
	.venv-bench/bin/python -m benchmarks $(NAME)

.venv-bench/.installed: requirements/bench.lock  ## With the peers, which tests do not need
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

docs: install
	$(BIN)/python -m docs.generate
	$(BIN)/mkdocs build --strict --quiet --site-dir site

golden: install  ## Writes the golden files anew; look at the diff
	$(BIN)/python tests/golden/update.py
	$(BIN)/python -m worker_image.catalogue > gateway/jobs/catalogue.json

lock: install  ## Newest versions that work together
	for group in sdk gateway worker worker-transformers dev bench; do \
	  sdk=pyproject.toml; [ $$group != gateway ] || sdk=; \
	  $(BIN)/uv pip compile $$sdk --group $$group --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/$$group.lock || exit 1; \
	done

clean:
	rm -rf .venv .venv-bench site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
