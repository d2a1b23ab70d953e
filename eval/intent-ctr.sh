#!/usr/bin/env bash
# What it is worth to a click model to know for whom customers buy and what they like to pay, from
# what they wrote before the validation part began; as texts were read by the adapter of
# eval/intent.sh, which learned in another shop, and, as the most that reading can give, as they
# were meant.
#
#   bash eval/intent.sh            # first, for `read`
#   bash eval/intent-ctr.sh [OUT]  # WAYS=true needs no reading: a quarter of an hour on a quiet core
set -euo pipefail
out=${1:-runs/intent-ctr}
here=$(dirname "$0")
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
embed: {fields: [title, brand, categories, description]}
media:
  fusion: {train: {epochs: 8, steps_per_epoch: 100, share: 0.5}}
YAML
for stage in demo_shop ingest embed media/fusion; do
    "$llmrec" run "$out/data.yaml" --out "$out" --only "$stage"
done
known="$here/intent_known.py"
until=$(python3 "$known" "$out" until)
python3 "$known" "$out" captions  # as by a captioner that is never wrong
"$llmrec" embed captions --captions "$out/captions" --out "$out/caption_features"
for way in ${WAYS:-true read}; do
    mkdir -p "$out/$way"
    python3 "$known" "$out" "$way"
    if [ "$way" = read ]; then
        "$llmrec" intent "$out/read/talk.jsonl" --model "$base" --adapter "$adapter" \
            --dataset "$out/dataset" --until "$until" --batch-size 64 --precision bfloat16 \
            --out "$out/read/intents"
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
ctr:
  labels: {kind: impressions, file: "$out/raw/impressions.jsonl"}
  history: {types: [click]}
YAML
    "$llmrec" run "$out/$way/recipe.yaml" --out "$out/$way/run" --only ingest
    name=intent-ctr
    [ "$way" = read ] || name=intent-ctr-$way
    "$llmrec" bench ctr "$out/$way/recipe.yaml" --dataset "$out/$way/run/dataset" \
        --fusion "$out/fusion" --captions "$out/caption_features" --work "$out/$way/bench" \
        --variants no_user_attributes --seeds "${SEEDS:-5}" --out "$results/$name.json"
done
