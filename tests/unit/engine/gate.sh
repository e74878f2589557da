#!/bin/sh
# usage: gate.sh FILE.so: the instruction gate finds the one wrong instruction that FILE.so has on purpose, and no other.
set -eu
found=$("$(dirname "$0")/check-isa.sh" "$1") && { echo "nothing found in $1"; exit 1; }
echo "$found"
[ "$(echo "$found" | grep -c '^not for a Core 2')" -eq 1 ] && echo "$found" | grep -q "wrong_on_a_merom: .*pmulld"
