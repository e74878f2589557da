#!/usr/bin/env bash
# choir bench engine: our CPU variant beside the stock ones that are built, by an unmodified llama-bench.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/choir
engine=$cache/engine/11434/bin
default=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
case ${1:-} in
  -h | --help)
    cat <<'U'
usage: choir bench engine [OPTION...]
Compares libggml-cpu-core2.so with every stock variant beside it: SmolLM2 Q4_1, and synthetic models of 1B shape in
Q4_K_M and Q4_0, which it writes to the cache once (1.5 GB). tools/build-engine --all builds the rivals. The
options below are passed on to engine/bench/run, which has defaults for all of them here:
U
    "$here/engine/bench/run" --help | sed -n '/^options:/,$p'
    exit 0
    ;;
esac
for file in "$engine/llama-bench" "$engine/libggml-cpu-core2.so" "$default"; do
  [ -e "$file" ] || {
    echo "choir bench engine: $file is missing; run ./run --setup-only" >&2
    exit 1
  }
done
models=(--model "smollm2-q4_1=$default")
mkdir -p "$cache/bench"
for quant in q4_k_m q4_0; do
  file=$cache/bench/1b-$quant.gguf
  if [ ! -e "$file" ]; then
    echo "writing a synthetic 1B model in $quant" >&2
    "$here/engine/bench/synthetic-gguf" "$default" "$file.tmp" --quant "$quant" > /dev/null
    mv "$file.tmp" "$file"
  fi
  models+=(--model "1b-$quant=$file")
done
exec "$here/engine/bench/run" --engine "$engine" --ours "$engine/libggml-cpu-core2.so" "${models[@]}" "$@"
