# `make demo` and `make test` do everything, the installation included.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# accelerate gives a process one thread unless told otherwise.
export OMP_NUM_THREADS ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo web docs test fast fuzz campaign lint browser peers lock audit release clean

demo: $(VENV)/installed
	$(BIN)/accelerate launch run_meta.py configs/quickstart.yaml

web: $(VENV)/installed
	$(BIN)/python demo/app.py

# The site of the documentation, in outputs/site.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: $(VENV)/installed lint browser peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# What to run while one works: no linter, no browser, no test that is marked as slow (tests/conftest.py).
fast: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

# Damaged sounds, pictures, texts and tables, then files of all other kinds, more of them than the suite reads; it says
# which took most. docs/trust.md has the figures.
MSMAML_MUTATIONS ?= 20000
fuzz: $(VENV)/installed
	MSMAML_MUTATIONS=$(MSMAML_MUTATIONS) $(BIN)/python -m pytest tests/inputs/test_damaged_files.py --timeout 30000 -rP
	$(BIN)/python -m tests.fuzz --inputs $(MSMAML_MUTATIONS)

# Long works that are killed, or stopped by a full disk, at random moments, and resumed: docs/trust.md. It takes hours.
TRIALS ?= 50
campaign: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaign --trials $(TRIALS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaign.memory

# Style, who may import whom, and types.
lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright --pythonpath $(BIN)/python

# The tests of the web page drive a real browser; where there is none and it cannot be installed, they say so.
browser:
	@if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			(apt-get update && apt-get install --yes --no-install-recommends chromium) >/dev/null \
				|| echo "chromium could not be installed: the tests of the web page will be skipped"; \
		else \
			echo "there is no chromium (apt-get install chromium): the tests of the web page will be skipped"; \
		fi; \
	fi

# The common tests of transformers, from its source release, see docs/peers.md. Where they cannot be fetched, theirs are
# skipped, and fail with MSMAML_REQUIRE_PEERS=1.
peers: $(VENV)/installed
	@if ! [ .transformers/PKG-INFO -nt tests/transformers_release.txt ]; then \
		rm -rf .transformers; \
		{ $(BIN)/python -m pip download --quiet --no-deps --no-binary transformers --require-hashes \
			--requirement tests/transformers_release.txt --dest .transformers \
			&& tar --extract --gzip --file .transformers/*.tar.gz --directory .transformers --strip-components 1 \
				--touch --wildcards --no-wildcards-match-slash '*/tests' '*/PKG-INFO' \
			&& rm .transformers/*.tar.gz && touch .transformers/tests/__init__.py; } \
			|| { rm -rf .transformers; echo "the tests of transformers could not be fetched: they will be skipped"; }; \
	fi

# requirements.lock: the versions of constraints.txt and all that they need, on every platform, with the hashes of their
# files on PyPI. Versions that are in it stay; `make lock UPGRADE=--upgrade` takes the newest.
lock: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/python -m uv pip compile $(UPGRADE) --quiet --no-config --default-index https://pypi.org/simple --universal \
		--python-version 3.11 --generate-hashes --constraint constraints.txt --extra test --extra demo --extra web \
		--extra release --custom-compile-command "make lock" --output-file requirements.lock setup.py

# Known vulnerabilities of these versions. Where the database cannot be asked, it says so; MSMAML_REQUIRE_AUDIT=1 fails.
audit: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt pip-audit || echo "pip-audit could not be installed"
	$(BIN)/python -m scripts.audit

# The files of a release, in dist, with checksums and SBOM: `make release COMMIT=v0.2.0`.
COMMIT ?= HEAD
release: $(VENV)/installed
	$(BIN)/python -m scripts.release --commit $(COMMIT)

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,demo,web]'
	touch $@

clean:
	rm -rf $(VENV) outputs .transformers
