# Everything a newcomer and CI need. On Debian, as root, each target installs what it lacks.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The administrator's programs (ip, nft, nginx), which `su` and unprivileged users do not have in their path.
export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# How many processes share the tests, each with namespaces and a lab of its own; 0: this one alone.
WORKERS ?= 2

# What the wheel is made of; the folders too, so that a deleted file counts.
SOURCES := pyproject.toml $(wildcard README.md LICENSE) $(shell find src -not -path '*/__pycache__*')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test coverage deb dist docs soak fuzz lint format bench bench-full bench-report bench-stages bench-cluster \
	vm-test vm-test-local vm-packages clean namespaces packages test-packages compiler

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: namespaces $(VENV)/program ## From a NodePort Service to "Welcome to nginx!" in a cluster of namespaces (as root)
	@$(BIN)/python -m lab.demo

test: $(VENV)/tools test-packages ## All tests, on the installed wheel; those that send packets need root
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

coverage: $(VENV)/tools test-packages ## The same with what they cover; the tracer, in all processes, takes as long again
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85

soak: $(VENV)/tools test-packages ## The proofs of the daemon and of a cluster at full length, and 30 minutes of churn (as root)
	SOAK=1 $(BIN)/python -m pytest tests/daemon tests/cluster tests/kubernetes

lint: $(VENV)/tools ## Style, types, the direction of imports, known vulnerabilities, the documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m lab.audit
	$(MAKE) --no-print-directory dist
	$(MAKE) --no-print-directory docs

docs: build/docs-venv/tools ## The documentation site, build/docs/index.html; a broken link is an error
	build/docs-venv/bin/python -m website build/docs

fuzz: $(VENV)/tools ## Look for inputs that break the program; SECONDS=60, ARGS="--target manifests --seed 2"
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60) $(ARGS)

format: $(VENV)/tools ## Bring the sources into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/tools compiler ## The program beside others, 100 to 10,000 Services; minutes; ARGS="--help" (as root)
	$(BIN)/python -m bench $(ARGS)

bench-full: $(VENV)/tools compiler ## The same to 100,000 Services and in two more shapes; hours (as root)
	$(BIN)/python -m bench --full $(ARGS)

bench-report: $(VENV)/tools ## What the last of both has measured, as tables and plots into docs/performance.md
	$(BIN)/pip install --quiet "$$(echo $(VENV)/wheel/*.whl)[bench]"
	$(BIN)/python -m bench.report $(or $(RESULT),build/bench.json)

bench-stages: $(VENV)/tools ## Seconds and memory of each part of the program, and of its commands (as root)
	$(BIN)/python -m bench.stages $(ARGS)

bench-cluster: $(VENV)/tools ## Many nodes on one etcd, and one more apply beside 50,000 Services (as root)
	$(BIN)/python -m bench.watchers
	$(BIN)/python -m bench.allocation

vm-test: build/vm-venv/tools ## The scenarios on the virtual machines that `vagrant up` has started; ARGS="-k walk"
	rm -f build/previous.tar.gz
	PYTHON=build/vm-venv/bin/python vm/carry --previous build/previous.tar.gz || true
	LAB_PREVIOUS=$$(realpath build/previous.tar.gz) PYTHON=build/vm-venv/bin/python vm/test $(ARGS)

vm-test-local: vm-packages build/vm-venv/tools ## The same on machines of its own, in a private network (as root)
	PYTHON=$$PWD/build/vm-venv/bin/python vm/local $(ARGS)

deb: build/deb-venv/program ## The Debian package, build/nodeport-nft_VERSION_ARCHITECTURE.deb, for Debian 12 and 13
	build/deb-venv/bin/python -m deb.build build/deb-venv/wheel/*.whl

dist: $(VENV)/tools ## What PyPI takes, dist/: the sources' archive and the wheel, checked
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

setup: $(VENV)/tools test-packages ## System packages, the virtual environment, the program and the tools

clean: ## Remove what make made here
	rm -rf $(VENV) build dist vm-failures .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

namespaces:
	@unshare --net true 2>/dev/null || { \
		echo "make demo: network namespaces are refused: CAP_SYS_ADMIN is missing; run as root" >&2; exit 1; }

packages:
	@PYTHON=$(PYTHON) lab/packages.sh

# What tests ask beside that: a browser for the page, promtool for alerts, dot for graphs, and what looks at the package.
test-packages:
	@PYTHON=$(PYTHON) lab/packages.sh chromium prometheus graphviz mmdebstrap lintian man-db

# The load of the benchmarks is a few lines of C.
compiler:
	@PYTHON=$(PYTHON) lab/packages.sh gcc libc6-dev

# What vm/local runs; QEMU emulates where there is no KVM.
vm-packages:
	@PYTHON=$(PYTHON) lab/packages.sh vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients \
		dnsmasq-base qemu-system-x86 qemu-utils mmdebstrap e2fsprogs openssh-client

# Sphinx and what it needs: the extra `docs`.
build/docs-venv/tools: pyproject.toml | $(VENV)/program
	$(PYTHON) -m venv --clear build/docs-venv
	build/docs-venv/bin/pip install --quiet "$$(echo $(VENV)/wheel/*.whl)[docs]"
	@touch $@

# Who installs the package serves something with this machine, perhaps: nothing of the lab is brought to it.
build/deb-venv/program: $(SOURCES)
	@PYTHON=$(PYTHON) lab/packages.sh --only
	$(PYTHON) -m venv --clear build/deb-venv
	build/deb-venv/bin/pip wheel --quiet --no-deps --wheel-dir build/deb-venv/wheel .
	build/deb-venv/bin/pip install --quiet build/deb-venv/wheel/*.whl
	@touch $@

# The scenarios need pytest alone, on any host that runs Vagrant.
build/vm-venv/tools:
	$(PYTHON) -m venv --clear build/vm-venv
	build/vm-venv/bin/pip install --quiet 'pytest>=8'
	@touch $@

# Each stamp below is newer than what it was made from. `packages` is asked every time, and is quick about it.
$(VENV)/bin/python: | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version) is too old: 3.11 is needed; make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# The wheel, not the source tree, is what demo, tests and benchmarks run.
$(VENV)/program: $(SOURCES) | packages $(VENV)/bin/python
	rm -rf $(VENV)/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(VENV)/wheel .
	$(BIN)/pip install --quiet $(VENV)/wheel/*.whl
	$(BIN)/pip install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/program
	$(BIN)/pip install --quiet "$$(echo $(VENV)/wheel/*.whl)[test,lint]"
	@touch $@
