#!/bin/sh
# usage: fuzz-broken.sh FUZZ-PROGRAM-WITH-BROKEN-KERNELS FORMAT...: every target must find its broken kernel.
set -u
program=$1 blind=0
shift
for format in "$@"; do
  if "$program" "$format" > /dev/null 2>&1; then
    echo "$format: not found"
    blind=$((blind + 1))
  fi
done
echo "$# targets, $blind of them blind"
[ $# -gt 10 ] && [ "$blind" -eq 0 ]
