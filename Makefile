# `make demo` and `make test` build .venv on their first run and do nothing twice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/python -m pip
DEMO := configs/mmdet/maskrcnn_focalnet_t_shapes.py
WORK := work_dirs/demo
export PATH := $(BIN):$(PATH)
export MAX_JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

.PHONY: help install demo zoo test lint

help:
	@echo 'make demo     train, evaluate and draw a small Mask R-CNN on the built-in data set'
	@echo 'make zoo      train and evaluate every other method on it'
	@echo 'make test     run the tests'
	@echo 'make lint     run ruff'
	@echo 'make install  only make .venv'

install: $(VENV)/.installed

$(VENV)/.torch: requirements/build.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), sys.version' 2>/dev/null \
	    || { echo "focalnet-mm is tested with Python 3.11, but $(PYTHON) is another version: pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/build.txt
	touch $@

# mmcv comes as source and is compiled here once (about 6 minutes on 2 cores); pip then caches the wheel.
# A cached wheel that was built for another torch does not import: only then it is compiled anew. opencv-python, which
# mmengine requires, needs libGL: where that is missing, the headless build of the same modules takes its place.
$(VENV)/.openmmlab: $(VENV)/.torch requirements/openmmlab.txt requirements/torchvision_cpu.py
	$(PIP) install --no-build-isolation -r requirements/openmmlab.txt
	$(BIN)/python -c 'import cv2' 2>/dev/null || $(PIP) install --no-deps --force-reinstall opencv-python-headless
	$(BIN)/python -c 'import mmcv.ops' 2>/dev/null \
	    || $(PIP) install --no-build-isolation --no-cache-dir --no-deps --force-reinstall --no-binary mmcv \
	        "$$(grep -o '^mmcv==[^ ]*' requirements/openmmlab.txt)"
	$(BIN)/python -c 'import mmcv.ops'
	$(BIN)/python -c 'import torchvision' 2>/dev/null || { \
	    site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	    cp requirements/torchvision_cpu.py "$$site/"; \
	    echo 'import torchvision_cpu' > "$$site/torchvision_cpu.pth"; }
	$(BIN)/python -c 'import torchvision'
	touch $@

$(VENV)/.installed: $(VENV)/.openmmlab setup.py requirements/runtime.txt
	$(PIP) install --no-build-isolation -e .
	touch $@

$(VENV)/.tests: $(VENV)/.installed requirements/tests.txt requirements/onnx.txt requirements/tests-nodeps.txt
	$(PIP) install -r requirements/tests.txt -r requirements/onnx.txt
	$(PIP) install --no-deps -r requirements/tests-nodeps.txt
	touch $@

demo: $(WORK)/demo.png
	@grep -oh 'coco/[a-z]*_mAP_50: [0-9.]*' $(WORK)/*/*.log | tail -2
	@echo "Ground truth beside predictions: $(WORK)/demo.png"

data/shapes/shapes.json: | $(VENV)/.installed
	$(BIN)/python tools/make_shapes_dataset.py data/shapes

$(WORK)/.trained: $(DEMO) configs/mmdet/_base_/shapes_instance.py data/shapes/shapes.json | $(VENV)/.installed
	$(BIN)/python tools/train.py $(DEMO) --work-dir $(WORK) --no-validate
	touch $@

$(WORK)/demo.png: $(WORK)/.trained
	$(BIN)/python tools/test.py $(DEMO) "$$(cat $(WORK)/last_checkpoint)" --work-dir $(WORK) --show-dir $(WORK)/pictures
	$(BIN)/python tools/picture_grid.py $(WORK)/pictures --out $@

# The other methods start from the backbone of the demo.
zoo: $(WORK)/.trained | $(VENV)/.tests
	$(BIN)/python tools/train_shapes_zoo.py

test: $(VENV)/.tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope

lint: $(VENV)/.tests
	$(BIN)/ruff check .
