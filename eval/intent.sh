#!/usr/bin/env bash
# What customers of the demo shop mean, read by SmolLM2 alone and with an adapter that was trained on
# examples; the adapter learns from other customers, and from other ways to say the same.
#
#   bash eval/intent.sh [OUT]      # half an hour on two quiet cores
set -euo pipefail
out=${1:-runs/intent}
here=$(dirname "$0")
llmrec=${LLMREC:-llmrec}
base=${BASE:-smollm2-135m}
mkdir -p "$out"
cat > "$out/data.yaml" <<'YAML'
name: intent
demo_shop: {items: 200, users: 400, talk: true}
ingest: {events: "${out}/raw/events.jsonl", items: "${out}/raw/items.jsonl", event_types: [click]}
YAML
cat > "$out/tune.yaml" <<YAML
tune:
  tasks: {instructions: 1.0}
  instructions: $out/own.jsonl
  loop: {max_steps: ${STEPS:-120}, batch_size: 8, learning_rate: 1.0e-3, max_length: 256, precision: auto}
  name: intent
YAML
for stage in demo_shop ingest; do
    "$llmrec" run "$out/data.yaml" --out "$out" --only "$stage"
done
data="$out/dataset"
"$llmrec" intent examples "$out/raw/talk.jsonl" --truth "$out/raw/talk_truth.jsonl" \
    --dataset "$data" --out "$out/own.jsonl"
"$llmrec" tune "$out/tune.yaml" --base "$base" --dataset "$data" --out "$out/tuned"
python3 - "$out/raw" "$out/held_out.jsonl" <<'PY'
import json
import sys
from pathlib import Path

raw = Path(sys.argv[1])
truth = map(json.loads, (raw / "talk_truth.jsonl").read_text().splitlines())
kept = {row["text_id"] for row in truth if row["split"] == "held_out"}
lines = (raw / "talk.jsonl").read_text().splitlines(keepends=True)
Path(sys.argv[2]).write_text("".join(line for line in lines if json.loads(line)["text_id"] in kept))
PY
truth="$out/raw/talk_truth.jsonl"
for way in alone tuned; do
    adapter=()
    [ "$way" = alone ] || adapter=(--adapter "$out/tuned/adapter")
    "$llmrec" intent "$out/held_out.jsonl" --model "$base" "${adapter[@]}" \
        --dataset "$data" --batch-size 64 --out "$out/intents-$way"
done
results=${RESULTS:-$here/results}
"$llmrec" bench intent "$out/intents-alone" --truth "$truth" --out "$results/intent-demo-alone.json"
"$llmrec" bench intent "$out/intents-tuned" --truth "$truth" --out "$results/intent-demo.json"
