#!/bin/sh
# usage: greedy.sh GREEDY-PROGRAM OUR-FILE ENGINE-BIN [PROMPTS [TOKENS]]; CHOIR_TEST_LONG=1 means 20 prompts, 64 tokens
# Tokens of a whole model: an untouched stock x64 process writes them, a process with our file compares, and so that
# the figures mean something, a stock haswell process compares too, where the processor has AVX2.
set -eu
greedy=$1 ours=$(realpath "$2") bin=$3 prompts=${4:-${CHOIR_TEST_LONG:+20}} tokens=${5:-${CHOIR_TEST_LONG:+64}}
model=${CHOIR_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/choir/models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -r "$model" ] || { echo "no $model: skipped"; exit 77; }
[ -r "$bin/libggml-cpu-x64.so" ] || { echo "no x64 variant in $bin: skipped"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM
mkdir "$dir/stock" "$dir/ours" "$dir/haswell"
ln -s "$bin/libggml-cpu-x64.so" "$dir/stock/"
ln -s "$bin/libggml-cpu-x64.so" "$dir/ours/"
ln -s "$ours" "$dir/ours/libggml-cpu-core2.so"
run() { # run MODE FOLDER VARIANT
  CHOIR_ENGINE_DIR=$dir/$2 CHOIR_CPU_VARIANT=$3 "$greedy" "$1" "$model" "$dir/steps" "${prompts:-3}" "${tokens:-32}"
}
run write stock x64
if [ -r "$bin/libggml-cpu-haswell.so" ] && grep -qw avx2 /proc/cpuinfo; then
  ln -s "$bin/libggml-cpu-haswell.so" "$dir/haswell/"
  echo "stock haswell against stock x64:"
  run compare haswell haswell || :
fi
echo "ours against stock x64:"
status=0
run compare ours core2 2> "$dir/stderr" || status=$?
cat "$dir/stderr" >&2
grep -q "SSSE3 kernels over" "$dir/stderr" || { echo "our file was not used"; exit 1; }
exit $status
