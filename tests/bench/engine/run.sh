#!/usr/bin/env bash
# choir bench engine: our CPU variant beside stock ones and source builds; the table of docs/engine.md.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/choir
engine=$cache/engine/11434/bin
smol=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
usage() {
  cat <<'U'
usage: choir bench engine [OPTION...]
Measures libggml-cpu-core2.so against stock x64, sse42, sandybridge and haswell, and against ggml built with -march=core2
-msse4.1; SmolLM2, synthetic models of 1B shape in Q4_K_M, Q4_0 and Q8_0, and Whisper, also against OpenBLAS. What is missing
it builds and writes to the cache the first time: some minutes and 3 GB. Then about 20 minutes, 8 with
--quick. Nothing else should run; --cpu-time makes a busy machine bearable. Options, all of which have values here:
U
  "$here/engine/bench/run" --help | sed -n '/^options:/,$p'
}
layers=(--layers 16) suffix=
for word in "$@"; do
  case $word in
    -h | --help) usage; exit 0 ;;
    --quick) layers=(--layers 3) suffix=-3layers ;; # a fifth of the model: the same kernels
  esac
done
"$here/engine/bench/run" --engine . --ours . "$@" --check # a wrong option is refused before anything is built
for file in "$engine/llama-bench" "$engine/libggml-cpu-core2.so" "$smol"; do
  [ -e "$file" ] || {
    echo "choir bench engine: $file is missing; run ./run --setup-only" >&2
    exit 1
  }
done
args=(--engine "$engine" --ours "${CHOIR_BENCH_VARIANT:-$engine/libggml-cpu-core2.so}" --model "smollm2-q4_1=$smol")
mkdir -p "$cache/bench"
while read -r name file; do
  case $name in
    core2-sse41) args+=(--rival "core2+sse4.1=$file") ;;
    variant-*) args+=(--rival "${name#variant-}=$file") ;;
    transcribe) args+=(--transcribe "$file") ;;
    transcribe-openblas) args+=(--openblas "$file") ;;
  esac
done < <("$here/engine/bench/rivals" "$cache/bench/rivals")
for quant in q4_k_m q4_0 q8_0; do
  file=$cache/bench/1b-$quant$suffix.gguf
  if [ ! -e "$file" ]; then
    echo "writing a synthetic model of 1B shape in $quant" >&2
    "$here/engine/bench/synthetic-gguf" "$smol" "$file.$$" --quant "$quant" "${layers[@]}" > /dev/null
    mv "$file.$$" "$file"
  fi
  args+=(--model "1b-$quant=$file")
done
whisper=$cache/models/ggml-base-q8_0.bin speech=$cache/data/jfk.wav
if [ -e "$whisper" ] && [ -e "$speech" ]; then
  args+=(--whisper-model "$whisper" --speech "$speech" --wer "$here/tests/bench/wer/run")
fi
exec "$here/engine/bench/run" "${args[@]}" "$@"
