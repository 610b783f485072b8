# Every target sets up what it needs, in .venv, and the second time has nothing to do.

PYTHON ?= python3
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
PYTEST_ARGS ?=
DEMO_ARGS ?=
GAN_ARGS ?=
# Passed on to the build (docs/building.md).
export FUSEDNORM_TENSORFLOW_VERSION FUSEDNORM_CUDA FUSEDNORM_CUDA_ARCHITECTURES
export FUSEDNORM_WERROR
# Two processes with two threads each fill the two cores that the tests are timed on
# and still test what threads do. A process without tests takes over some of the other's:
# the longest test takes a minute.
TEST_ENVIRONMENT := TF_CPP_MIN_LOG_LEVEL=2 TF_NUM_INTRAOP_THREADS=2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check

# What is imported is compiled then; installing would compile all of TensorFlow.
export PIP_NO_COMPILE := 1

# The stamps carry the choices they were made with, so that another choice starts over.
CREATED := $(VENV)/.created-$(notdir $(PYTHON))
TENSORFLOW := $(VENV)/.tensorflow-$(or $(FUSEDNORM_TENSORFLOW_VERSION),newest)
SOURCES := CMakeLists.txt MANIFEST.in NOTICE README.md pyproject.toml setup.py \
	$(shell find build_backend cmake csrc cuda python -type f \
		! -path '*.egg-info/*' ! -name '*.py[co]' ! -name "*.so" ! -name _build_info.py)

# The complete wheel has CUDA kernels for every architecture. Demo, tests and docs take
# it where it is up to date, else a quick one for this machine: with kernels for the GPU
# that is here, or without. FUSEDNORM_CUDA and FUSEDNORM_CUDA_ARCHITECTURES overrule.
COMPLETE := dist/.built
# Asked where it is used, not whenever make runs.
GPUS = $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u)
ifeq ($(shell test -e $(COMPLETE) && find $(SOURCES) -newer $(COMPLETE) | wc -l),0)
WHEEL := $(COMPLETE)
BUILD_OF_WHEEL := complete, from dist/
else
WHEEL := build/quick/.built
BUILD_OF_WHEEL = quick, $(if $(CHOSEN),as FUSEDNORM_CUDA and FUSEDNORM_CUDA_ARCHITECTURES say,for $(if \
	$(GPUS),the GPU of this machine,the CPU only)); make wheel builds the complete one
endif
CHOSEN := $(FUSEDNORM_CUDA)$(FUSEDNORM_CUDA_ARCHITECTURES)
QUICK = $(if $(CHOSEN),,$(if $(GPUS),FUSEDNORM_CUDA_ARCHITECTURES="$(GPUS)",FUSEDNORM_CUDA=off))

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16
	@echo 'Variables: PYTHON=python3.12 PYTEST_ARGS="-k layer" DEMO_ARGS="--epochs 1" GAN_ARGS="--steps 20"'

.PHONY: demo
demo: $(VENV)/.demo ## Train the tutorial's models with fused and with Keras layers
	@echo 'fusednorm here is the build: $(BUILD_OF_WHEEL).'
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python examples/train_digits.py $(DEMO_ARGS)

.PHONY: gan
gan: $(VENV)/.demo ## Train a WGAN-GP, whose loss differentiates a gradient through our norm
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python examples/train_wgan_gp.py $(GAN_ARGS)

.PHONY: test
test: $(VENV)/.test ## Run the whole test suite against the installed wheel
	@echo 'fusednorm here is the build: $(BUILD_OF_WHEEL).'
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

.PHONY: emulation
emulation: ## Compile the CUDA kernels for tests on the CPU, which else do it themselves
	$(PYTHON) tests/support/emulation/compiling.py

# The pages link to files all over the repository: the site is made of links to it.
PAGES := README.md CHANGELOG.md CONTRIBUTING.md benchmarks docs examples tests

.PHONY: docs
docs: $(VENV)/.docs ## Build the documentation as a site, into build/site
	mkdir -p build/pages
	ln -sfn $(addprefix ../../,$(PAGES)) build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

.PHONY: wheel
wheel: $(COMPLETE) ## Build the sdist and from it the complete wheel, into dist/
	@ls dist/*

.PHONY: wheels
wheels: $(TENSORFLOW) ## Build the sdist and a wheel for each of PYTHONS, into dist/
	$(PIP) install --group build
	build_backend/wheels.sh $(BIN) $(PYTHONS)
	@ls dist/*

.PHONY: lint
lint: $(VENV)/.lint ## Check the style of Python and C++
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	find csrc cuda tests -name '*.[ch]*' | xargs $(BIN)/clang-format --dry-run --Werror

.PHONY: format
format: $(VENV)/.lint ## Rewrite Python and C++ in style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	find csrc cuda tests -name '*.[ch]*' | xargs $(BIN)/clang-format -i

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) build dist python/fusednorm.egg-info python/fusednorm/_build_info.py
	rm -f python/fusednorm/*.so train_digits.png train_wgan_gp.png

$(CREATED):
	rm -rf $(VENV)
	$(PYTHON) -m venv --upgrade-deps $(VENV)
	touch $@

# Before the wheel, whose build then compiles against it instead of fetching its own.
$(TENSORFLOW): $(CREATED)
	rm -f $(VENV)/.tensorflow-*
	$(PIP) install "$$($(BIN)/python build_backend/tensorflow_location.py --requirement)"
	touch $@

# The wheel comes out of the sdist, so the sdist has all that it takes.
$(COMPLETE): $(TENSORFLOW) $(SOURCES)
	$(PIP) install --group build
	build_backend/wheels.sh $(BIN) $(BIN)/python
	touch $@

build/quick/.built: $(TENSORFLOW) $(SOURCES)
	rm -rf build/quick
	$(QUICK) $(PIP) wheel --no-deps --wheel-dir build/quick .
	touch $@

# Twice: pip takes an equal version for installed, and the extra for the same wheel.
$(VENV)/.demo $(VENV)/.docs $(VENV)/.test: $(VENV)/.%: $(WHEEL)
	$(PIP) install "$$(ls $(dir $(WHEEL))*.whl)[$*]"
	$(PIP) install --force-reinstall --no-deps $(dir $(WHEEL))*.whl
	touch $@

# All of them at once, for who needs all: pip resolves and installs once.
.PHONY: extras
extras: $(VENV)/.extras ## Install the wheel with what demo, gan, docs and test need

$(VENV)/.extras: $(WHEEL)
	$(PIP) install "$$(ls $(dir $(WHEEL))*.whl)[demo,docs,test]"
	$(PIP) install --force-reinstall --no-deps $(dir $(WHEEL))*.whl
	touch $(addprefix $(VENV)/.,demo docs test) $@

$(VENV)/.lint: $(CREATED) pyproject.toml
	$(PIP) install --group lint
	touch $@
