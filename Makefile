# Each target builds its environment on its first run and does nothing twice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# upstream: mmcv, mmdet … (requirements/openmmlab.txt); onedl: their maintained forks (requirements/onedl.txt), in an
# environment of their own, since both bring the same modules; lite: mmengine and mmcv without operators alone.
FAMILY ?= upstream
LIBRARIES := $(or $(filter onedl lite,$(FAMILY)),openmmlab)
MMCV := $(if $(filter onedl,$(FAMILY)),onedl-mmcv,mmcv)
# What carries the rest: requirements/torch.txt, torch-oldest.txt or torch-newest.txt.
TORCH ?= torch
# A distribution of the family to leave out: the tests of it are skipped.
WITHOUT ?= nothing
VENV ?= .venv$(if $(filter onedl,$(FAMILY)),-onedl)
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope
DEMO := configs/mmdet/maskrcnn_focalnet_t_shapes.py
WORK := work_dirs/demo
export PATH := $(BIN):$(PATH)
export MAX_JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

.PHONY: help install demo zoo quick test lint docs

help:
	@echo 'make demo     train, evaluate and draw a small Mask R-CNN on the built-in data set'
	@echo 'make zoo      train and evaluate every other method on it'
	@echo 'make quick    run the fast tests'
	@echo 'make test     run all tests'
	@echo 'make lint     check style, imports, types and the forms of the repository'
	@echo 'make docs     build the site'
	@echo 'make install  only make the environment'
	@echo 'PYTHON=/path/to/python3.x and FAMILY=onedl take another Python and the forks of the OpenMMLab libraries.'

install: $(VENV)/.installed

$(VENV)/.torch: requirements/build.txt requirements/$(TORCH).txt
	@[[ $(FAMILY) =~ ^(upstream|onedl|lite)$$ ]] \
	    || { echo "FAMILY is $(FAMILY), expected upstream, onedl or lite" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info[:2] <= (3, 13), sys.version' 2>/dev/null \
	    || { echo "focalnet-mm runs with Python 3.10 to 3.13, but $(PYTHON) is another version: pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/$(TORCH).txt -r requirements/build.txt
	touch $@

# mmcv comes as source and is compiled here once (about 6 minutes on 2 cores); pip then caches the wheel.
# A cached wheel that was built for another torch does not import, and one of a machine without a GPU has no operators for
# it: then it is compiled anew. opencv-python, which mmengine requires, needs libGL: where that is missing, the headless
# build of the same modules takes its place.
$(VENV)/.openmmlab: $(VENV)/.torch requirements/$(LIBRARIES).txt requirements/check_mmcv.py requirements/torchvision_cpu.py
	$(PIP) install --no-build-isolation -c requirements/$(TORCH).txt -r <(grep -v '^$(WITHOUT)==' requirements/$(LIBRARIES).txt)
	$(BIN)/python -c 'import cv2' 2>/dev/null || $(PIP) install --no-deps --force-reinstall opencv-python-headless
	[[ $(FAMILY) = lite ]] || { status=0; $(BIN)/python requirements/check_mmcv.py || status=$$?; \
	    [[ $$status = 1 ]] || exit $$status; \
	    $(PIP) install --no-build-isolation --no-cache-dir --no-deps --force-reinstall --no-binary $(MMCV) \
	        "$$(grep -o '^$(MMCV)==[^ ]*' requirements/$(LIBRARIES).txt)"; \
	    $(BIN)/python requirements/check_mmcv.py; }
	$(BIN)/python -c 'import torchvision' 2>/dev/null || { \
	    site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	    cp requirements/torchvision_cpu.py "$$site/"; \
	    echo 'import torchvision_cpu' > "$$site/torchvision_cpu.pth"; }
	$(BIN)/python -c 'import torchvision'
	touch $@

$(VENV)/.installed: $(VENV)/.openmmlab setup.py pyproject.toml requirements/runtime.txt
	$(PIP) install --no-build-isolation -e .
	touch $@

$(VENV)/.tests: $(VENV)/.installed $(VENV)/.docs requirements/tests.txt requirements/onnx.txt \
  requirements/own.txt requirements/triton.txt requirements/tests-nodeps.txt
	$(PIP) install -c requirements/$(TORCH).txt -r requirements/tests.txt -r requirements/onnx.txt -r requirements/own.txt \
	    $(if $(filter torch,$(TORCH)),-r requirements/triton.txt)
	$(PIP) install --no-deps -r requirements/tests-nodeps.txt
	touch $@

$(VENV)/.lint: $(VENV)/.tests requirements/lint.txt
	$(PIP) install -r requirements/lint.txt
	touch $@

# The site's tools read the sources only.
$(VENV)/.docs: $(VENV)/.torch requirements/docs.txt
	$(PIP) install -r requirements/docs.txt
	touch $@

demo: $(WORK)/demo.png
	@grep -oh 'coco/[a-z]*_mAP_50: [0-9.]*' $(WORK)/*/*.log | tail -2
	@echo "Ground truth beside predictions: $(WORK)/demo.png"

data/shapes/shapes.json: | $(VENV)/.installed
	$(BIN)/focalnet-mm shapes data/shapes

$(WORK)/.trained: $(DEMO) configs/mmdet/_base_/shapes_instance.py data/shapes/shapes.json | $(VENV)/.installed
	$(BIN)/focalnet-mm train $(DEMO) --work-dir $(WORK) --no-validate
	touch $@

# The path of the last checkpoint is relative to the work dir.
$(WORK)/demo.png: $(WORK)/.trained
	$(BIN)/focalnet-mm test $(DEMO) "$$(cd $(WORK) && realpath "$$(cat last_checkpoint)")" --work-dir $(WORK) \
		--show-dir $(WORK)/pictures
	$(BIN)/focalnet-mm grid $(WORK)/pictures --out $@

# The other methods start from the backbone of the demo.
zoo: $(WORK)/.trained | $(VENV)/.tests
	$(BIN)/focalnet-mm zoo shapes

quick: $(VENV)/.tests
	$(PYTEST) -m 'not train and not browser and not slow'

test: $(VENV)/.tests
	$(PYTEST)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	if command -v actionlint >/dev/null; then actionlint; \
	else echo 'actionlint has no build for this machine: the workflows are not checked'; fi
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict
	@echo 'build/site/index.html'
