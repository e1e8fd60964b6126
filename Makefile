# Everyday commands; CMake and its presets do the work. `make help` lists them.
#
# CUDA=1 builds the GPU backends (the default where there is an NVIDIA GPU), CUDA=0 leaves them out. BLACKWELL=1 compiles the
# products for sm_100a too, in minutes: the default where there is such a GPU, and in CI.
# JOBS=n limits parallel jobs. PEERS= has options of bench/peers/compare.py for `make bench`.

SHELL := /bin/bash
CUDA ?= $(if $(wildcard /dev/nvidia0 /usr/bin/nvidia-smi),1,0)
BLACKWELL ?= $(if $(filter 1,$(CUDA)),$(if $(or $(CI),$(filter 10.0,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null))),1,0),0)
JOBS ?= $(shell nproc)
PRESET := $(if $(filter 1,$(CUDA)),cuda,cpu)
BUILD := build/$(PRESET)
DEVICE := $(if $(and $(filter 1,$(CUDA)),$(wildcard /dev/nvidia0)),cuda,cpu)
GPU_RECORD := bench/results/gpu-tests.json
GPU_PROGRAMS := blockmoe_gpu_tests blockmoe_hopper_tests blockmoe_planted_faults
SOURCES = $(shell git ls-files '*.cpp' '*.hpp' '*.h' '*.c' '*.cu' '*.cuh')
# $(call configure,preset,options): quiet but for what was decided; everything when it fails.
configure = log=$$(cmake --preset $(1) $(2) 2>&1) && grep -- '-- blockmoe:' <<<"$$log" || { echo "$$log"; exit 1; }
# $(call ctest,preset,jobs,report): the tests of one build, counted in its <report>.xml.
ctest = ctest --test-dir build/$(1) -j $(2) --output-on-failure --no-tests=error --output-junit $(3).xml
export CUDA BLACKWELL

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-build setup-test setup-python build verify test test-build test-python test-python-torch \
        test-sanitized test-fuzz test-gpu test-gpu-here release-check bench bench-here solution format format-check tidy install clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: setup-test  ## Install what building and testing need: Debian packages, .venv, nvcc (with CUDA=1)

setup-build setup-test setup-python:
	@tools/setup.sh $(@:setup-%=%)

build/%/build.ninja: CMakePresets.json
	@$(call configure,$*,$(OPTIONS))

# CI builds from scratch, once.
$(BUILD)/build.ninja: OPTIONS := -DBLOCKMOE_UNITY=$(if $(CI),ON,OFF) -DBLOCKMOE_BLACKWELL=$(if $(filter 1,$(BLACKWELL)),ON,OFF)
# A folder that was configured without Blackwell's products gets them.
ifeq ($(BLACKWELL)$(shell grep -cs BLOCKMOE_BLACKWELL:BOOL=ON $(BUILD)/CMakeCache.txt),10)
.PHONY: configure-anew
$(BUILD)/build.ninja: configure-anew
endif

# A folder of commands alone, a file each.
build/tidy/build.ninja: CMakePresets.json
	@$(call configure,$(PRESET),-B build/tidy -DBLOCKMOE_UNITY=OFF -DBLOCKMOE_PYTHON=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/.venv/bin/python3)

build: setup-build $(BUILD)/build.ninja  ## Build everything
	@cmake --build $(BUILD) -j $(JOBS)

verify: setup-build $(BUILD)/build.ninja  ## Build, then check every benchmark shape on this machine's best backend
	@cmake --build $(BUILD) -j $(JOBS) --target blockmoe_cli -- --quiet
	@$(BUILD)/bin/blockmoe verify --all --device $(DEVICE)

test: setup-test  ## Everything that CI runs: format, lint, tests, the wheel, tests under sanitizers, fuzzing
	@tools/test.sh

test-build: setup-test $(BUILD)/build.ninja  ## Build and test, the README's examples and outside projects too
	@rm -f $(BUILD)/tests.xml
	@cmake --build $(BUILD) -j $(JOBS)
	@$(call ctest,$(PRESET),$(JOBS),tests)

test-python: setup-python $(BUILD)/build.ninja  ## Build the Python wheel, install it in a clean environment, test it there
	@cmake --build $(BUILD) -j $(JOBS) --target blockmoe blockmoe_cli -- --quiet
	@tools/test_python.sh $(BUILD) build/python requirements/python.txt

test-python-torch: setup-python $(BUILD)/build.ninja  ## The same with PyTorch (2.7 GB to load): torch.compile, torch.export, expert parallel
	@cmake --build $(BUILD) -j $(JOBS) --target blockmoe blockmoe_cli -- --quiet
	@tools/test_python.sh $(BUILD) build/python-torch requirements/python.txt requirements/torch.txt \
	  $(if $(filter cuda,$(DEVICE)),requirements/torch-cuda.txt)

test-sanitized: setup-test build/asan/build.ninja  ## The same tests under AddressSanitizer and UBSan
	@rm -f build/asan/tests.xml
	@cmake --build build/asan -j $(JOBS)
	@$(call ctest,asan,$(JOBS),tests) -LE '^fuzz$$'

test-fuzz: setup-test build/asan/build.ninja  ## Fuzz each reader for 60 s, all at once
	@rm -f build/asan/fuzz-tests.xml
	@cmake --build build/asan -j $(JOBS) --target fuzzers
	@$(call ctest,asan,3,fuzz-tests) -L '^fuzz$$'

test-gpu:  ## The GPU tests, sanitized and checked too, recorded in bench/results; skipped without a GPU
	@! tools/test_gpu.py available || $(MAKE) --no-print-directory CUDA=1 test-gpu-here

test-gpu-here: setup-test build/cuda/build.ninja build/checked/build.ninja
	@for build in build/cuda build/checked; do cmake --build $$build -j $(JOBS) --target $(GPU_PROGRAMS) || exit 1; done
	@tools/test_gpu.py run --build build/cuda --checked build/checked --record $(GPU_RECORD) \
	  --commit "$$(git rev-parse --short HEAD)"

release-check:  ## Fail where the record of the GPU tests is not of these sources
	@tools/test_gpu.py check --record $(GPU_RECORD)

bench:  ## Compare with every peer on this machine's GPU (bench/peers), drawn in build/peers; skipped without a GPU
	@! bench/peers/bench.py --build build/cuda --work build/peers --available || $(MAKE) --no-print-directory CUDA=1 bench-here

bench-here: setup-python build/cuda/build.ninja
	@cmake --build build/cuda -j $(JOBS) --target blockmoe blockmoe_cli blockmoe_reader
	@bench/peers/bench.py --build build/cuda --work build/peers --commit "$$(git rev-parse --short HEAD)" -- $(PEERS)

solution:  ## Put the runner's workspace together in build/solution
	@tools/pack_solution.py build/solution

format: setup-test  ## Format all C++ and CUDA
	@.venv/bin/clang-format -i $(SOURCES)

format-check: setup-test  ## Fail where `make format` would change something
	@log=$$(.venv/bin/clang-format --dry-run --Werror $(SOURCES) 2>&1) || \
	  { echo "not as \`make format\` leaves them:"; grep -oE '^[^ :]+:[0-9]+' <<<"$$log" | cut -d: -f1 | uniq -c; exit 1; }

tidy: setup-test build/tidy/build.ninja  ## clang-tidy over the host code
	@tools/tidy.py --build build/tidy --jobs $(JOBS)

install: build  ## Install into PREFIX
	@cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean:  ## Remove the build folders
	@rm -rf build
