# Everything a newcomer needs: `make demo`, then `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Processes that share the tests; `make test WORKERS=0` runs them in one.
WORKERS ?= 2
NATIVE := $(shell find native -name '*.cpp' -o -name '*.hpp' -o -name '*.inl')

.PHONY: demo test check bench sanitize clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/decode.py

# The core alone under AddressSanitizer and UndefinedBehaviorSanitizer, then under ThreadSanitizer: some ten minutes.
sanitize: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cmake ninja
	for checks in address,undefined thread; do \
	  PATH=$(abspath $(BIN)):$$PATH cmake -G Ninja -S native -B build/$$checks -DNEXTOK_CHECKS=ON -DNEXTOK_SANITIZE=$$checks && \
	  PATH=$(abspath $(BIN)):$$PATH cmake --build build/$$checks && build/$$checks/passes || exit 1; \
	done

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@
