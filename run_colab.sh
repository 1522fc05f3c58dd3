#!/usr/bin/env bash
# Train on Colab, which keeps its own torch: bash run_colab.sh -p partition multi
set -euo pipefail
cd "$(dirname "$0")"
python3 -m pip install --quiet --editable .
mkdir -p 04_training/runs
papermill 04_training/train.ipynb 04_training/runs/colab.ipynb "$@"
