#!/usr/bin/env bash
# Searches the trace sets of this folder again, into the folder that it is started in:
#
#   examples/rebuild.sh QUESTIONS
#
# QUESTIONS holds JSON lines as `polar` reads them: {gsm8k,math,arc_easy,arc_challenge,commonsense_qa}/train.jsonl.
# Stopped and started again, it goes on where it was.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p questions
for set in gsm8k arc_easy arc_challenge commonsense_qa; do cp "$1/$set/train.jsonl" "questions/$set.jsonl"; done
for level in 1 2 3 4 5; do grep "\"level\": $level[,}]" "$1/math/train.jsonl" >"questions/math-$level.jsonl"; done

# Every tree gets 200 simulations, and every question as many random programs beside.
search() { polar search --trees --chance --dtype bfloat16 --in-flight 64 --seed 1 --out "$@"; }
files() { for name in "$@"; do printf '%s\n' --questions "jsonl:questions/$name.jsonl {task: $name}"; done; }

search arithmetic --prompt bare-5 --tree-questions 500 --questions arithmetic
mapfile -t choices < <(files arc_easy arc_challenge commonsense_qa)
search choices --prompt qa-0 --tree-questions 192 "${choices[@]}"
mapfile -t mathematics < <(files gsm8k math-1 math-2 math-3 math-4 math-5)
search mathematics --prompt qa-2 --tree-questions 96 "${mathematics[@]}"
