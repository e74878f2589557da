# shellcheck shell=bash
# What ./run and ./test share: Debian packages, parts, engine, models, build. Sourced, never run.
# Every step is skipped when the result is there and a hash over what it depends on has not changed.

: "${here:?the script that sources this sets it}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/choir
stamps=$cache/stamps
export CCACHE_DIR=$cache/ccache CCACHE_BASEDIR=$here CCACHE_NOHASHDIR=1
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' plain=$'\e[0m'
fi

# A word is a package; "command:package" is wanted only where that command is missing.
# shellcheck disable=SC2034 # used by the scripts that source this
build_packages=(build-essential ccache cmake ninja-build meson pkg-config ca-certificates python3 python3-pip python3-numpy
  libglib2.0-dev libsoup-3.0-dev libmicrohttpd-dev libgnutls28-dev libwslay-dev libjansson-dev libsqlite3-dev libyaml-dev
  libespeak-ng-dev espeak-ng-data flite1-dev libpocketsphinx-dev pocketsphinx-en-us libspeexdsp-dev libasound2-dev libsndfile1-dev libseccomp-dev bubblewrap libvterm-dev libfaiss-dev libblas-dev liblapack-dev)

say() {
  printf '%s%s%s\n' "$bold" "$*" "$plain"
}

fail() {
  echo "$*" >&2
  exit 1
}

missing_packages() { # missing_packages NAME...: prints those that are not installed
  local word installed
  installed=$'\n'$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')$'\n'
  for word in "$@"; do
    case $word in
      *:*) command -v "${word%%:*}" > /dev/null || echo "${word#*:}" ;;
      *) case $installed in *$'\n'"$word"$'\n'*) ;; *) echo "$word" ;; esac ;;
    esac
  done
}

apt_get() {
  local as=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || fail "Installing packages needs root and there is no sudo; as root, run: apt-get install ${need[*]}"
    as=(sudo)
  fi
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"
}

need_packages() { # need_packages INSTALL NAME...: INSTALL no prints what is missing and leaves with 3
  local install=$1 need
  shift
  command -v dpkg-query > /dev/null || fail "This set-up is for Debian (bookworm or newer): dpkg-query is missing."
  mapfile -t need < <(missing_packages "$@")
  [ ${#need[@]} -gt 0 ] || return 0
  say "Debian packages missing: ${need[*]}"
  if [ "$install" = no ]; then
    echo "Install them with: apt-get install ${need[*]}"
    exit 3
  fi
  mkdir -p "$cache"
  echo "  installing; its log is $cache/apt.log"
  if ! apt_get install -y --no-install-recommends "${need[@]}" > "$cache/apt.log" 2>&1; then
    apt_get update >> "$cache/apt.log" 2>&1 || true # an empty or old package list is the usual reason
    apt_get install -y --no-install-recommends "${need[@]}" >> "$cache/apt.log" 2>&1 || {
      tail -5 "$cache/apt.log" >&2
      fail "The packages could not be installed; the whole log is $cache/apt.log. Mend that and run the same command again."
    }
  fi
  echo "  done"
}

key_of() { # key_of WORD-OR-FILE...: one hash over words and the contents of files and folders
  local item
  for item in "$@"; do
    if [ -d "$item" ]; then
      find "$item" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0r sha256sum | sed "s|$here/||"
    elif [ -f "$item" ]; then
      sha256sum < "$item"
    else
      echo "$item"
    fi
  done | sha256sum | cut -c1-32
}

stamped() { # stamped NAME KEY: was this step done with these inputs?
  [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]
}

stamp() {
  mkdir -p "$stamps"
  echo "$2" > "$stamps/$1.tmp"
  mv "$stamps/$1.tmp" "$stamps/$1"
}

engine_ready() {
  stamped engine "$engine_key" && [ -x "$cache/engine/11434/bin/llama-server" ] && [ -e "$cache/engine/11434/bin/libwhisper.so" ]
}

models_ready() {
  stamped models "$models_key" && [ -e "$cache/runtime/libonnxruntime.so" ] && [ -d "$cache/runtime/include" ] && [ -d "$cache/models" ]
}

# The compiler's own speed says best how long the build takes: CPU seconds of one small C++ file, times what the
# whole engine was measured to cost in such files, divided by the cores.
estimate_minutes() {
  local seconds
  seconds=$(
    TIMEFORMAT='%U %S'
    { time g++ -O2 -std=c++17 -x c++ -c - -o /dev/null > /dev/null 2>&1; } 2>&1 <<'CPP'
#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>
std::map<std::string, std::function<bool(const std::string &)>> table;
bool probe(const std::string &text) {
  std::unordered_map<std::string, std::vector<long>> seen;
  for (auto &entry : seen)
    seen[text].push_back(1), std::sort(entry.second.begin(), entry.second.end());
  return std::any_of(table.begin(), table.end(), [&](auto &entry) { return entry.second(text); });
}
CPP
  )
  awk -v cores="$(nproc)" '{ m = ($1 + $2) * 1650 / cores / 60; printf "%d", m < 1 ? 1 : m + 0.5 }' <<< "$seconds"
}

announce() { # announce SETS...: what set-up will take, said before it begins
  local missing=0 text minutes free
  text=$("$here/tools/fetch-parts" --list --json --set "$@" | sed -n 's/^ *"missing_bytes": *\([0-9]*\).*/\1/p')
  missing=$((${text:-0} / 1000000))
  if [ "$missing" = 0 ] && engine_ready && models_ready; then
    return
  fi
  free=$(($(df -Pk "$cache" | awk 'NR==2{print $4}') / 1000))
  say "Setting Choir up:"
  echo "  download  $missing MB"
  echo "  disk      about 1100 MB in $cache ($free MB free) and 150 MB in $here/build"
  if engine_ready; then
    echo "  time      about a minute, and the download"
  elif [ -e "$cache/engine/11434/.complete" ]; then
    echo "  time      a few minutes: the engine is built and only looked over"
  else
    minutes=$(estimate_minutes)
    echo "  time      about $minutes minutes of compiling on these $(nproc) cores, less with a warm compiler cache, and the download"
  fi
  [ "$free" -gt 1300 ] || [ -d "$cache/models" ] || fail "There is too little space in $cache: free 1300 MB, or set XDG_CACHE_HOME to a larger disk."
}

setup_parts() { # setup_parts SETS...
  say "Parts"
  "$here/tools/fetch-parts" --set "$@"
}

setup_engine() {
  engine_ready && return
  say "Engine (llama.cpp and whisper.cpp)"
  "$here/tools/build-engine"
  stamp engine "$engine_key"
}

# For nodes of every kind: all CPU variants, and the runtime that the packages carry.
setup_all_variants() {
  local key
  key=$(key_of all "$engine_key" "$models_key")
  if ! stamped variants "$key" || ! engine_ready || ! models_ready; then
    announce engine models runtime
    setup_parts engine models runtime
    say "Engine (llama.cpp and whisper.cpp), all CPU variants"
    "$here/tools/build-engine" --all
    stamp engine "$engine_key"
    setup_models
    stamp variants "$key"
  fi
}

setup_models() {
  models_ready && return
  say "Models"
  "$here/tools/prepare-models"
  stamp models "$models_key"
}

setup_recordings() { # what only the tests need; models may have been made without it
  [ -d "$cache/data/pocketsphinx" ] && [ -e "$cache/data/jfk.wav" ] && return
  say "Recordings"
  "$here/tools/prepare-models"
}

meson_setup() { # meson_setup DIR OPTIONS...: configures afresh when what it was configured with has changed
  local dir=$1 key log
  shift
  key=$(key_of "at $here" "$(stat -L -c "%n %s %Y" "$(command -v meson)" "$(command -v cc)")" "$*" "$here/meson_options.txt")
  [ -f "$dir/build.ninja" ] && [ -f "$dir/.choir-key" ] && [ "$(cat "$dir/.choir-key")" = "$key" ] && return
  rm -rf "$dir"
  mkdir -p "$dir"
  log=$cache/meson-setup.log
  meson setup "$dir" "$here" "-Dengine_dir=$cache/engine/11434" "-Dort_include=$cache/runtime/include" "$@" > "$log" 2>&1 || {
    tail -15 "$log" >&2
    fail "meson could not configure $dir; the whole log is $log."
  }
  echo "$key" > "$dir/.choir-key"
}

ninja_build() { # ninja_build DIR TARGETS...: quiet when there is nothing to do, a progress line on a terminal
  local dir=$1 log=$1/ninja.log
  shift
  if [ -t 1 ]; then
    # ninja draws its own progress line only on a terminal of its own
    ninja -C "$dir" "$@" 2>&1 | tee "$log" | while IFS= read -r line; do
      case $line in \[*/*\]*) printf '\r  %s\033[K' "${line%%\]*}]" ;; esac
    done
    local code=${PIPESTATUS[0]}
    printf '\r\033[K'
  else
    local code=0
    ninja -C "$dir" "$@" > "$log" 2>&1 || code=$?
  fi
  [ "$code" = 0 ] || {
    grep -v '^\[' "$log" | tail -30 >&2
    fail "The build failed; the whole log is $log."
  }
}

program_targets() { # program_targets DIR: choir and the workers it starts, without the tests
  ninja -C "$1" build.ninja > /dev/null # -t shows what the last run knew
  ninja -C "$1" -t targets all | sed -n 's/^\(choir\|src\/[a-z]*\/choir-[a-z-]*\): [a-z]*_LINKER.*/\1/p'
}

# One number says whether anything at all changed since the last whole set-up.
variant=$("$here/tools/build-engine" --list)
engine_key=$(key_of 11434 "$variant" "$here/tools/build-engine" "$here"/engine/*.[ch])
models_key=$(key_of "$here/tools/prepare-models" "$here/tools/convert" "$here/parts.lock")
