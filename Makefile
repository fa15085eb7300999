# What a user types. `make demo` shows it work, `make test` proves it; both set up .venv themselves.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null)
PYTHON ?= python3
# Debian packages behind the tests that need a real tool.
APT := mosquitto mosquitto-clients openssl make gcc libc6-dev gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm cppcheck clang clang-tidy libclang-rt-dev \
  chromium npm
TOOLS := mosquitto mosquitto_sub openssl cc arm-none-eabi-gcc qemu-system-arm cppcheck clang clang-tidy npm
NODE_RED := build/node-red/node_modules/.bin/node-red

.PHONY: demo test lint soak bench docs tools clean

demo: $(VENV)/demo.stamp
	$(PY) -m hal.demo $(ARGS)

test: $(VENV)/test.stamp tools
	@$(MAKE) --no-print-directory -j2 -Otarget lint $(NODE_RED)
	@export TESTS_SHARE_MACHINE=1 OPENBLAS_NUM_THREADS=1; mkdir -p build; \
	timed="$(PY) -m pytest -o cache_dir=build/timed" rest="$(PY) -m pytest -q -o cache_dir=build/rest"; \
	nice -n 19 $$rest -m "patient or not real_clock" $(ARGS) > build/rest.log 2>&1 & beside=$$!; \
	$$timed -m "real_clock and not patient" $(ARGS); real=$$?; \
	wait $$beside; computed=$$?; cat build/rest.log; \
	if [ $$real = 1 ] || [ $$computed = 1 ]; then echo "FAILED BESIDE OTHERS. The same once more, alone on the machine:"; fi; \
	if [ $$real = 1 ]; then $$timed --last-failed -m "real_clock and not patient" $(ARGS); real=$$?; fi; \
	if [ $$computed = 1 ]; then $$rest --last-failed -m "patient or not real_clock" $(ARGS); computed=$$?; fi; \
	if [ $$real = 5 ] && [ $$computed = 5 ]; then echo "no test was selected"; exit 5; fi; \
	for code in $$real $$computed; do [ $$code = 0 ] || [ $$code = 5 ] || exit $$code; done

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Ten minutes of samples from the emulated boards, every one accounted for.
soak: $(VENV)/test.stamp tools
	SOAK_SECONDS=600 $(PY) -m pytest -q tests/devices/test_insitu_mcu.py tests/firmware/test_qemu_mps2.py \
	  -k "eight_inputs or accounted" --timeout 900 $(ARGS)

bench: $(VENV)/bench.stamp
	@for script in bench/[a-z]*.py; do echo "== $$script"; $(PY) $$script || exit 1; done

docs: $(VENV)/docs.stamp
	$(VENV)/bin/mkdocs build --strict -d build/docs

# Python packages: uv where it is, pip otherwise.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Type: make PYTHON=python3.12 ..."; exit 1; }
ifdef UV
	uv venv -q --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing; type: sudo apt-get install python3-venv"; exit 1; }
endif

define install
	$(if $(UV),uv pip install -q --python $(PY) -e '.[$(1)]',$(PY) -m pip install -q -e '.[$(1)]')
	@touch $@
endef

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml
	$(call install,all)

$(VENV)/test.stamp: $(VENV)/bin/python pyproject.toml
	$(call install,test)

$(VENV)/bench.stamp: $(VENV)/bin/python pyproject.toml
	$(call install,test$(comma)bench)

$(VENV)/docs.stamp: $(VENV)/bin/python pyproject.toml
	$(call install,docs)

comma := ,

# Programs that pip can't bring: installed when allowed to, else named.
tools:
	@missing=""; for tool in $(TOOLS); do \
	  command -v $$tool >/dev/null || test -x /usr/sbin/$$tool || missing="$$missing $$tool"; done; \
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	if [ -n "$$missing" ]; then \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  if command -v apt-get >/dev/null && { [ -z "$$sudo" ] || sudo -n true 2>/dev/null; }; then \
	    echo "installing$$missing"; \
	    $$sudo apt-get update -qq; for package in $(APT); do \
	      $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null \
	        || echo "$$package could not be installed; tests that need it say so"; done; \
	  else \
	    echo "Missing:$$missing. Tests that need them are not run. Type: sudo apt-get install -y $(APT)"; \
	  fi; \
	fi

# The real Node-RED, for the flow in examples/node-red. Without it that test says so.
$(NODE_RED):
	@command -v npm >/dev/null || exit 0; echo "installing Node-RED below build/"; mkdir -p build/node-red; \
	npm install --prefix build/node-red --no-audit --no-fund --loglevel=error node-red@4 || echo "Node-RED could not be installed"

clean:
	rm -rf $(VENV) build runs demo .mypy_cache .ruff_cache .pytest_cache
