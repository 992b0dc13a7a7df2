#!/bin/sh
# Make the virtual environment .venv in the root of the clone and install requirements.txt into it; if both are as they
# were, do nothing. Needs python3 with its venv module, and no root.
#
#   sh tools/setup_env.sh             PYTHON=python3.12 sh tools/setup_env.sh
set -eu
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
wanted=$(cksum < requirements.txt)
if [ "$(cat .venv/requirements.cksum 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet --progress-bar off -r requirements.txt
# mmcv asks for the OpenCV that can open windows, which needs libraries of a desktop; a server gets the other one
if ! .venv/bin/python -c "import cv2" 2>/dev/null; then
    .venv/bin/python -m pip uninstall --quiet --yes opencv-python
    .venv/bin/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
    .venv/bin/python -c "import cv2"
fi
echo "$wanted" > .venv/requirements.cksum
