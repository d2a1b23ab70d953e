#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, measured within nine minutes on one H100: without a network,
# vLLM or an installation of llmrec, on the torch and transformers of a CUDA machine.
#
#   llmrec run training/beauty.yaml --only ingest      # here, where packages and data are;
#   llmrec run training/beauty.yaml --only embed       # two minutes
#   llmrec run training/beauty.yaml --only index
#   python eval/gpu.py pack training/beauty.yaml runs/beauty runs/gpu-input
#   bash eval/gpu.sh OUT runs/gpu-input                # there: OUT/*-cuda.json, written as it goes
#
# What it writes belongs into eval/results. `--small` rehearses it, also without a GPU.
set -euo pipefail
out=${1:?usage: eval/gpu.sh OUT [INPUT] [--small]}
input=${2:-runs/gpu-input}
root=$(cd "$(dirname "$0")/.." && pwd)
input=$(cd "$input" && pwd) || { echo "$input: no such folder; make it with eval/gpu.py pack" >&2; exit 1; }
export PYTHONPATH="$root:$input/site${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
exec "${PYTHON:-python3}" "$root/eval/gpu.py" measure "$input" "$out" "${@:3}"
