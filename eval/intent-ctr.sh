#!/usr/bin/env bash
# What it is worth to a click model to know for whom customers buy and what they like to pay, from
# what they wrote before the validation part began; as texts were read by the adapter of
# eval/intent.sh, which learned in another shop, and, as the most that reading can give, as they
# were meant.
#
#   bash eval/intent.sh            # first, for `read`
#   bash eval/intent-ctr.sh [OUT]  # WAYS=true needs no reading: half an hour on a quiet core
set -euo pipefail
out=${1:-runs/intent-ctr}
here=$(cd "$(dirname "$0")" && pwd)
llmrec=${LLMREC:-llmrec}
base=${BASE:-smollm2-135m}
adapter=${ADAPTER:-runs/intent/tuned/adapter}
results=${RESULTS:-$here/results}
mkdir -p "$out"
cat > "$out/data.yaml" <<'YAML'
name: intent-ctr
seed: 1
demo_shop: {items: 500, users: 2000, talk: true}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
  split: global-time
  validation_share: 0.1
  test_share: 0.15
YAML
for stage in demo_shop ingest; do
    "$llmrec" run "$out/data.yaml" --out "$out" --only "$stage"
done
for way in ${WAYS:-true read}; do
    mkdir -p "$out/$way"
    # `until`, texts until then, and what customers are known by where they are read right
    until=$(python3 "$here/intent_known.py" "$out" "$way")
    if [ "$way" = read ]; then
        "$llmrec" intent "$out/read/talk.jsonl" --model "$base" --adapter "$adapter" \
            --dataset "$out/dataset" --until "$until" --batch-size 64 --out "$out/read/intents"
        cp "$out/read/intents/users.csv" "$out/read/users.csv"
    fi
    cat > "$out/$way/recipe.yaml" <<YAML
name: intent-ctr
seed: 1
ingest:
  events: "$out/raw/events.jsonl"
  items: "$out/raw/items.jsonl"
  users: "$out/$way/users.csv"
  # what lasts: a need or an occasion is of one purchase, and the training part's are of its own clicks
  user_columns: {for_whom: for_whom, price_sensitivity: price_sensitivity}
  event_types: [click]
  split: global-time
  validation_share: 0.1
  test_share: 0.15
embed: {fields: [title, brand, categories, description]}
media:
  fusion: {train: {epochs: 8, steps_per_epoch: 100, share: 0.5}}
ctr:
  labels: {kind: impressions, file: "$out/raw/impressions.jsonl"}
  history: {types: [click]}
YAML
    run="$out/$way/run"
    for stage in ingest embed media/fusion; do
        "$llmrec" run "$out/$way/recipe.yaml" --out "$run" --only "$stage"
    done
    name=intent-ctr
    [ "$way" = read ] || name=intent-ctr-$way
    "$llmrec" bench ctr "$out/$way/recipe.yaml" --dataset "$run/dataset" --fusion "$run/fusion" \
        --work "$run/bench" --variants no_user_attributes --seeds "${SEEDS:-5}" \
        --out "$results/$name.json"
done
