# shellcheck shell=bash
# What the scripts of this folder share; sourced, never run. Each ends with 0 (it works), 1 (it does not, and why), 2 (wrong
# usage) or 77 (that part is not set up here, and how it would be).
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=$(basename "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tidy() { :; } # what a script undoes at its end, whatever happened

begin() { # begin "$@": no options but -h and the two that say which Choir is meant
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        echo "Options: --url URL    a running Choir (default: \$CHOIR_URL, else the one on this machine)"
        echo "         --state DIR  its state folder, where that is not the usual one (/opt/pipecatapp on a cluster's node)"
        echo "Exit codes: 0 it works, 1 it does not, 2 wrong usage, 77 that part is not set up here."
        exit 0
        ;;
      --url | --state)
        [ -n "${2:-}" ] || wrong "$1 needs a value"
        if [ "$1" = --url ]; then CHOIR_URL=$2; else CHOIR_STATE=$2; fi
        shift
        ;;
      *) wrong "'$1' is not known" ;;
    esac
    shift
  done
  if [ -z "${CHOIR_URL:-}" ] && [ -n "${CHOIR_STATE:-}" ]; then CHOIR_URL=unix:$CHOIR_STATE/choir.sock; fi
  [ -z "${CHOIR_URL:-}" ] || export CHOIR_URL
  # shellcheck disable=SC2034 # for commands that take no URL
  state=()
  # shellcheck disable=SC2034
  [ -z "${CHOIR_STATE:-}" ] || state=(--state "$CHOIR_STATE")
  trap 'tidy; rm -rf "$work"' EXIT
}

wrong() {
  echo "$name: $*; see testing/$name --help" >&2
  exit 2
}

not_here() { # not_here WHY: that part is not set up
  echo "$name: not here: $*"
  exit 77
}

bad() { # bad WHAT: it does not work
  echo "FAILED  $*"
  exit 1
}

good() {
  echo "ok      $*"
}

choir() { # the installed one, or the one of this checkout
  local program
  program=$(type -P choir) || program=$here/build/choir
  [ -x "$program" ] || not_here "there is no program choir; ./run --setup-only builds it"
  "$program" "$@"
}

api() { # api PATH [CURL-OPTION...]: an answer of the running Choir
  local path=$1 url=${CHOIR_URL:-}
  shift
  if [ -z "$url" ] && [ -S "${XDG_STATE_HOME:-$HOME/.local/state}/choir/choir.sock" ]; then
    url=unix:${XDG_STATE_HOME:-$HOME/.local/state}/choir/choir.sock
  fi
  case $url in
    unix:*) curl -fsS --max-time 60 --unix-socket "${url#unix:}" "$@" "http://localhost$path" ;;
    *) curl -fsS --max-time 60 ${CHOIR_TOKEN:+-H "Authorization: Bearer $CHOIR_TOKEN"} "$@" "${url:-http://127.0.0.1:8000}$path" ;;
  esac
}

running() { # it answers; what it still waits for (503) is not every script's business
  api /health --no-fail > "$work/health" 2> "$work/error" ||
    bad "no Choir answers (${CHOIR_URL:-here}): $(head -1 "$work/error"); start it with ./run or choir serve"
}

cluster() { # cluster PROGRAM: consul or nomad, and the token of this shell
  local program
  program=$(type -P "$1") || program=${XDG_CACHE_HOME:-$HOME/.cache}/choir/cluster/bin/$1
  [ -x "$program" ] || not_here "$1 is not installed; docs/cluster.md says how a cluster begins"
  # shellcheck source=/dev/null
  [ ! -r /etc/profile.d/choir-cluster.sh ] || . /etc/profile.d/choir-cluster.sh
  printf -v "$1" %s "$program"
}
