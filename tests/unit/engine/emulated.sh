#!/bin/sh
# usage: emulated.sh GREEDY-PROGRAM OUR-FILE ENGINE-BIN
# A whole model on an emulated 65 nm and 45 nm Core 2, which trap on every instruction they lack. The folder holds all
# variants there are; ggml's loader must choose ours by itself, and stock x64 must agree with the tokens.
set -eu
greedy=$1 ours=$(realpath "$2") bin=$3
model=${CHOIR_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/choir/models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -r "$model" ] || { echo "no $model: skipped"; exit 77; }
command -v qemu-x86_64 > /dev/null || { echo "no qemu-x86_64: skipped"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM
mkdir "$dir/all" "$dir/stock"
for f in "$bin"/libggml-cpu-*.so; do ln -s "$f" "$dir/all/"; done
ln -sf "$ours" "$dir/all/libggml-cpu-core2.so"
ln -s "$bin/libggml-cpu-x64.so" "$dir/stock/"
unset CHOIR_CPU_VARIANT
for cpu in core2duo Penryn; do
  CHOIR_ENGINE_DIR=$dir/all qemu-x86_64 -cpu "$cpu" "$greedy" write "$model" "$dir/steps" 1 3 2> "$dir/stderr"
  grep "SSSE3 kernels over .*libggml-cpu-x64.so" "$dir/stderr" || { cat "$dir/stderr"; echo "$cpu: not chosen"; exit 1; }
  CHOIR_ENGINE_DIR=$dir/stock CHOIR_CPU_VARIANT=x64 "$greedy" compare "$model" "$dir/steps" 1 3
done
