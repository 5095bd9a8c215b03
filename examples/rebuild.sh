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

search() { polar search --dtype bfloat16 --in-flight 64 --seed 1 --out "$@"; }

# Every tree gets 200 simulations; as many random programs, and single edits, are evaluated beside.
trees() { # OUT PROMPT COUNT QUESTIONS...
    local out=$1 prompt=$2 count=$3 specs=() name && shift 3
    for name in "$@"; do
        [ ! -f "questions/$name.jsonl" ] || name="jsonl:questions/$name.jsonl {task: $name}"
        specs+=(--questions "$name")
    done
    search "$out" --trees --chance --prompt "$prompt" --tree-questions "$count" "${specs[@]}"
}

trees arithmetic bare-5 500 arithmetic
search arithmetic --matrix --prompt bare-5 --questions arithmetic
trees choices qa-0 64 arc_easy
trees choices qa-0 32 arc_challenge commonsense_qa
trees choices qa-0 16 arc_challenge
trees mathematics qa-2 96 gsm8k math-{1..5}
