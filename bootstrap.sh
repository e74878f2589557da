#!/usr/bin/env bash
# From a Debian machine to a standalone agent, a controller, or a worker of a cluster.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
  cat << 'U'
usage: ./bootstrap.sh [--role all|controller|worker|embedded] [OPTION...]
Makes this machine (Debian trixie or bookworm) what the role says. Run it again as often as you like: what is as it should
be is left alone, and nothing is ever wiped, except by the options whose names begin with --purge.
roles:
  all         everything on this machine: servers of Consul and Nomad, experts, the agent (the default)
  controller  servers of Consul and Nomad, and the service by which workers join
  worker      joins the controller at --controller-ip; it fetches everything from there, nobody logs in here
  embedded    one machine without Nomad and Consul: ./run, or the packages in /srv/choir/packages, and Choir as a service
options:
  --controller-ip ADDRESS   with worker: the controller
  --token TOKEN             with worker: what `sudo choir nodes token` on the controller has printed
  --token-file FILE         the same from a file, so that it stands in no list of processes
  --tags NAME[,NAME...]     only these roles of the playbook; the tags are the roles' names
  --user NAME               the user that runs the agent (default pipecatapp)
  --external-model-server   the language model is elsewhere, at $LLM_BASE_URL: nothing is fetched or built
  --deploy-docker           install Docker too, for jobs that want it
  --benchmark               measure at the end: `choir bench node` and the job llama-benchmark
  --home-assistant-debug    the agent logs everything, Home Assistant's part among it
  --purge-jobs              first stop Choir's Nomad jobs and remove them; they are started again. Says which
  --leave-services-running  do not restart a service that runs, even when its configuration has changed
  --continue                go on after the last step that was finished (.bootstrap_state names them)
  --debug                   everything that Ansible says, -vvvv, goes to playbook_output.log
  --dry-run                 say what would be done, and do nothing
  --status                  what is there, and what runs
  --clean                   exactly `git clean -fdx`: lists what would be deleted, and asks
  --uninstall [--purge]     take away what bootstrap installed; asks. Models stay, history and tokens are kept in /var/backups;
                            with --purge both are gone
  --yes                     answer the questions of --clean and --uninstall with yes
  -h, --help                this text
examples:
  ./bootstrap.sh
  ./bootstrap.sh --role controller --debug
  ./bootstrap.sh --role worker --controller-ip 10.0.0.11 --token cj1...
  LLM_BASE_URL=http://10.0.0.20:8081/v1 ./bootstrap.sh --role embedded --external-model-server
  ./bootstrap.sh --continue
It asks once for the sudo password; sudo itself does, so it is in no variable, no argument and no log of this script.
Exit codes: 0 done, 1 a step failed (the last lines say what to do), 2 wrong usage, 130 interrupted.
U
}
wrong() {
  echo "bootstrap.sh: $*; see ./bootstrap.sh --help" >&2
  exit 2
}
fail() {
  echo "bootstrap.sh: $*" >&2
  exit 1
}
state=$here/.bootstrap_state
role='' controller='' token='' token_file='' tags='' user='' carry=''
external=no docker=no benchmark=no ha_debug=no purge_jobs=no leave=no go_on=no debug=no dry=no purge=no yes=no action=install
given=("$@")

# --- what was asked for ----------------------------------------------------------------------------------------------

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --role=* | --controller-ip=* | --token=* | --token-file=* | --tags=* | --user=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
      --role | --controller-ip | --token | --token-file | --tags | --user | --carry)
        if [ $# -lt 2 ] || [ -z "$2" ]; then wrong "$1 needs a value"; fi
        case $1 in
          --role) role=$2 ;;
          --controller-ip) controller=$2 ;;
          --token) token=$2 ;;
          --token-file) token_file=$2 ;;
          --tags) tags=$2 ;;
          --user) user=$2 ;;
          --carry) carry=$2 ;;
        esac
        shift
        ;;
      --external-model-server) external=yes ;;
      --deploy-docker) docker=yes ;;
      --benchmark) benchmark=yes ;;
      --home-assistant-debug) ha_debug=yes ;;
      --purge-jobs) purge_jobs=yes ;;
      --leave-services-running) leave=yes ;;
      --continue) go_on=yes ;;
      --debug) debug=yes ;;
      --dry-run) dry=yes ;;
      --purge) purge=yes ;;
      --yes | -y) yes=yes ;;
      --status) action=status ;;
      --clean) action=clean ;;
      --uninstall) action=uninstall ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) wrong "unknown option '$1'" ;;
    esac
    shift
  done
}

of_state() { # of_state KEY: what the last run wrote down
  [ ! -f "$state" ] || sed -n "s/^$1=//p" "$state" | tail -1
}

check_arguments() {
  local word
  if [ "$go_on" = yes ] && [ -z "$role" ]; then
    [ -f "$state" ] || [ -n "$tags" ] || wrong "there is nothing to continue: bootstrap has not run in this folder"
    role=$(of_state role)
    [ -n "$controller" ] || controller=$(of_state controller)
    [ -n "$user" ] || user=$(of_state user)
    [ -n "$tags" ] || tags=$(of_state tags)
    for word in $(of_state options); do
      case $word in docker) docker=yes ;; benchmark) benchmark=yes ;; ha_debug) ha_debug=yes ;; purge_jobs) purge_jobs=yes ;; leave) leave=yes ;; esac
    done
    if [ "$(of_state external)" = yes ]; then
      external=yes
      export LLM_BASE_URL=${LLM_BASE_URL:-$(of_state llm_base_url)} LLM_MODEL=${LLM_MODEL:-$(of_state llm_model)}
    fi
  fi
  roled=${role:-no}
  role=${role:-all}
  case $role in all | controller | worker | embedded) ;; *) wrong "--role must be all, controller, worker or embedded, not '$role'" ;; esac
  if [ "$role" = worker ] && [ "$action" = install ]; then
    [ -n "$controller" ] || wrong "a worker needs --controller-ip, the address of the controller that it joins"
    [[ $controller =~ ^[A-Za-z0-9.:-]+$ ]] || wrong "--controller-ip wants an address or a host name, not '$controller'"
  elif [ -n "$controller$token$token_file" ] && [ "$role" != worker ]; then
    wrong "--controller-ip and --token go with --role worker only"
  fi
  target_user=${user:-$(variable target_user pipecatapp)}
  [[ $target_user =~ ^[a-z_][a-z0-9_-]{0,31}$ ]] || wrong "--user wants the name of a user, not '$target_user'"
  [ "$target_user" != root ] || wrong "--user must not be root: the agent runs what a language model asks for"
  if [ -n "$tags" ]; then
    case $role in all | controller) ;; *) wrong "--tags goes with --role all and controller only" ;; esac
    for word in ${tags//,/ }; do
      [ -d "$here/ansible/roles/$word" ] || wrong "--tags: there is no role '$word' in ansible/roles"
    done
  fi
  if [ "$external" = yes ] && [ "$action" = install ]; then
    [[ ${LLM_BASE_URL:-} =~ ^https?://[^[:space:]]+$ ]] ||
      wrong "--external-model-server needs the server's address, as in LLM_BASE_URL=http://10.0.0.20:8081/v1"
    case $role in worker) wrong "--external-model-server is for the machine that runs the agent, not for a worker" ;; esac
  fi
  if [ "$purge" = yes ] && [ "$action" != uninstall ]; then wrong "--purge goes with --uninstall only"; fi
  if [ -n "$token" ] && [ -n "$token_file" ]; then wrong "give --token or --token-file, not both"; fi
  if [ -n "$token_file" ]; then
    [ -r "$token_file" ] || wrong "--token-file: cannot read $token_file"
    token=$(head -c 400 "$token_file" | tr -d '[:space:]')
  fi
  if [ -n "$token" ]; then
    [[ $token =~ ^cj1\.[0-9a-f]{48}\.[0-9a-f]{64}$ ]] || wrong "that is no join token; make one on the controller with: sudo choir nodes token"
  fi
}

# --- the steps of a role ---------------------------------------------------------------------------------------------

playbook_roles() { # in the order of the playbook, each once
  sed -n 's/.*{ *role: *\([a-z_]*\).*/\1/p; s/^ *- role: *\([a-z_]*\).*/\1/p' "$here/playbook.yaml" | awk '!seen[$0]++'
}

plan() { # fills steps
  local name
  steps=(check)
  case $role in
    embedded)
      steps+=(build service owner)
      [ "$benchmark" = no ] || steps+=(benchmark)
      return
      ;;
    worker)
      steps+=(tools register provision)
      [ "$docker" = no ] || steps=(check tools docker register provision)
      return
      ;;
  esac
  steps+=(tools inventory choir)
  [ "$docker" = no ] || steps+=(docker)
  [ "$purge_jobs" = no ] || steps+=(purge-jobs)
  for name in $(playbook_roles); do
    if [ "$role" = controller ]; then
      case $name in experts | pipecatapp) continue ;; esac
    fi
    if [ "$external" = yes ] && [ -z "$tags" ]; then
      case $name in
        experts) continue ;;
        models) [ -d "$(models_dir)" ] || continue ;; # what is here is linked, for hearing and voice
      esac
    fi
    case ,$tags, in ,, | *,"$name",*) steps+=("role:$name") ;; esac
  done
  [ -z "$tags" ] || return 0
  steps+=(join)
  [ "$role" != all ] || steps+=(owner)
  [ "$benchmark" = no ] || steps+=(benchmark)
}

describe() { # describe STEP: what it does, for --dry-run
  # shellcheck disable=SC2046 # a list of words
  case $1 in
    check) echo "look at this machine: Debian, processor, disk, memory, name" ;;
    tools) echo "Debian packages that are missing: $(missing $(tool_packages) | tr '\n' ' ')" ;;
    inventory) echo "enter this machine in inventory.yaml" ;;
    choir) echo "Choir's packages in $(packages_dir), models in $(models_dir): what is there, else built with ./run --packages" ;;
    docker) echo "install docker.io" ;;
    purge-jobs) echo "stop and remove Choir's Nomad jobs" ;;
    role:*) echo "ansible-playbook playbook.yaml --limit $(host_name) --tags ${1#role:}" ;;
    join) echo "the service by which workers join: choir-join-server.service, https port 8002" ;;
    owner) echo "show the set-up code of the first owner" ;;
    benchmark) echo "measure this machine" ;;
    build) if packaged; then echo "Choir's packages in $(packages_dir), models in $(models_dir)"; elif [ "$external" = yes ]; then echo "take Choir as it is, without a model"; else echo "./run --setup-only: parts, engine, models, build"; fi ;;
    service) echo "choir service install" ;;
    register) echo "ask the controller at $controller to let this machine in" ;;
    provision) echo "wait for the yes, fetch the bundle, provision this machine (choir-join.service)" ;;
  esac
}

host_name() {
  local name
  name=$(hostname)
  echo "${name,,}"
}

own_address() {
  local found
  found=$(ip -4 -o route get 198.51.100.1 2> /dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  [ -n "$found" ] || found=$(ip -4 -o address show scope global 2> /dev/null | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -1)
  echo "$found"
}

variable() { # variable NAME DEFAULT: of this host in the inventory, else of group_vars/all.yaml
  local text
  text=$("$here/tools/inventory" get "$(host_name)" "$1" 2> /dev/null) ||
    text=$(sed -n "s/^$1: *\"\{0,1\}\([^\" ]*\).*/\1/p" "$here/group_vars/all.yaml" 2> /dev/null)
  echo "${text:-$2}"
}

packages_dir() {
  variable choir_packages_dir /srv/choir/packages
}

models_dir() {
  variable choir_models_dir /srv/choir/models
}

tool_packages() {
  case $role in
    worker) echo ansible-core python3 python3-apt iproute2 ca-certificates ;;
    embedded) ;;
    *) echo ansible-core python3-yaml python3-apt curl ca-certificates iproute2 openssl nginx-light ;;
  esac
}

missing() { # missing NAME...: those that are not installed
  local name
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null)" = installed ] || echo "$name"
  done
}

apt_install() { # waits for another apt, ends none, removes no lock
  local need
  mapfile -t need < <(missing "$@")
  [ ${#need[@]} -gt 0 ] || return 0
  say "installing: ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local options=(-q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600)
  apt-get "${options[@]}" install -y --no-install-recommends "${need[@]}" && return
  apt-get "${options[@]}" update && apt-get "${options[@]}" install -y --no-install-recommends "${need[@]}" && return
  say "apt could not install ${need[*]}; mend that (is the network there? apt-get update says more) and use --continue"
  return 1
}

say() { # into the log, and the last such line is shown when the step fails
  echo "choir: $*"
}

owned() { # files made by root in the person's folder belong to the person
  [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$@" 2> /dev/null || true
}

as_person() { # what needs no root is done as who called
  if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ]; then
    runuser -u "$SUDO_USER" -- "$@"
  else
    "$@"
  fi
}

# shellcheck source=scripts/bootstrap/steps.sh
. "$here/scripts/bootstrap/steps.sh"

# --- running them ----------------------------------------------------------------------------------------------------

note() { # to the person, past the log
  printf '%s\n' "$*" >&3
}

run_step() { # run_step NUMBER STEP
  local number=$1 step=$2 from=$SECONDS code=0 line
  line=$(printf '%s  %2d/%d  %-18s' "$(date +%T)" "$number" "${#steps[@]}" "${step#role:}")
  if [ "$go_on" = yes ] && grep -qxF "done=$step" "$state" 2> /dev/null; then
    note "$line done before"
    return
  fi
  [ ! -t 3 ] || printf '%s ...' "$line" >&3
  echo "== $(date '+%F %T') $step" >> "$log"
  set +e
  ( # a step that fails in its middle must not go on
    set -eu
    case $step in
      role:*) step_role "${step#role:}" ;;
      *) "step_${step//-/_}" ;;
    esac
  ) >> "$log" 2>&1 < /dev/null
  code=$?
  set -e
  [ ! -t 3 ] || printf '\r\033[K' >&3
  if [ "$code" = 0 ]; then
    note "$line ok, $((SECONDS - from)) s"
    echo "done=$step" >> "$state"
    return
  fi
  note "$line FAILED after $((SECONDS - from)) s"
  explain "$step" >&3
  note "The whole log is $log. When that is mended: ./bootstrap.sh --continue"
  exit 1
}

explain() { # the sentence that says what to do, else the end of what was printed
  local said
  said=$(sed -n "/^== .* $1\$/h;//!H;\$!d;x;p" "$log" | sed -nE '
    s/^choir(-join)?: //p; t
    s/.*"msg": "non-zero return code".*"stderr": "(([^"\\]|\\.)+)".*/\1/p; t
    s/^ *"stderr": "(([^"\\]|\\.)+)".*/\1/p; t
    /"msg": "non-zero return code"/b
    s/.*"msg": "(([^"\\]|\\.)*)".*/\1/p' | tail -3 | sed 's/\\"/"/g; s/\\n/\n/g')
  if [ -n "$said" ]; then echo "$said"; else tail -8 "$log"; fi
}

summary() {
  local address code=''
  address=$(own_address)
  [ ! -f "$scratch/code" ] || code=$(cat "$scratch/code")
  note ""
  case $role in
    worker)
      note "This machine is a worker now. On the controller: nomad node status"
      return
      ;;
    embedded) note "Choir       http://127.0.0.1:8000" ;;
    *)
      if [ "$role" = controller ]; then note "Choir       no agent yet: ./bootstrap.sh here adds it and the first expert, and shows the set-up code of the owner"; fi
      [ "$role" != all ] || note "Choir       http://$address:8000 (this machine: http://127.0.0.1:8000, with a certificate: https://$address:8443)"
      note "Consul      http://$address:8500    token: sudo cat /etc/consul.d/management_token"
      note "Nomad       http://$address:4646    token: sudo cat /etc/nomad.d/management_token"
      ;;
  esac
  case $code in
    '') ;;
    exists) note "Owner       there is one; log in on the page" ;;
    elsewhere) note "Owner       the agent runs on another node; there: sudo choir owner code --state $(agent_state)" ;;
    *) note "Set-up code $code    open /setup on the page and choose your name and password" ;;
  esac
  case $role in
    embedded) note "Next        open the page; choir status shows what runs" ;;
    *) note "Next        another machine: sudo choir nodes token, and ./bootstrap.sh --role worker there. docs/cluster.md has the rest." ;;
  esac
}

asked_options() { # for --continue
  local name found=()
  for name in docker benchmark ha_debug purge_jobs leave; do
    [ "${!name}" = no ] || found+=("$name")
  done
  echo "${found[*]}"
}

install_all() {
  local number=0 step
  plan
  if [ "$dry" = yes ]; then
    echo "On $(host_name), with the role $role, ./bootstrap.sh would:"
    for step in "${steps[@]}"; do
      number=$((number + 1))
      printf '%3d  %-18s %s\n' "$number" "${step#role:}" "$(describe "$step")"
    done
    echo "Nothing was done."
    return
  fi
  exec 3>&1
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  trap 'note ""; note "Stopped. What is done is kept: ./bootstrap.sh --continue"; exit 130' INT TERM
  log=$here/.bootstrap.log
  if [ "$debug" = yes ]; then
    log=$here/playbook_output.log
    if [ "$go_on" = yes ] && [ -f "$log" ]; then mv -f "$log" "$log.before_changes"; fi
  fi
  (umask 077 && : > "$log")
  if [ "$go_on" = no ] || [ ! -f "$state" ] || [ "$(of_state role)" != "$role" ]; then
    {
      printf 'role=%s\nuser=%s\ntags=%s\noptions=%s\n' "$role" "$user" "$tags" "$(asked_options)"
      printf 'external=%s\nllm_base_url=%s\nllm_model=%s\n' "$external" "${LLM_BASE_URL:-}" "${LLM_MODEL:-}"
      printf 'controller=%s\nbegun=%s\n' "$controller" "$(date '+%F %T')"
    } > "$state"
  fi
  owned "$log" "$state"
  [ "$leave" = no ] || note "Services that run are not restarted (--leave-services-running); new settings count from their next start."
  [ "$ha_debug" = no ] || note "The agent logs everything: choir logs pipecat-app"
  for step in "${steps[@]}"; do
    number=$((number + 1))
    run_step "$number" "$step"
  done
  echo "finished=$(date '+%F %T')" >> "$state"
  owned "$log" "$state"
  summary
}

# --- the other actions -----------------------------------------------------------------------------------------------

ask_yes() { # ask_yes QUESTION
  local answer=''
  [ "$yes" = no ] || return 0
  printf '%s [y/N] ' "$1"
  read -r answer || true
  [ -t 0 ] || echo
  case $answer in [yY]*) return 0 ;; *) return 1 ;; esac
}

clean() {
  local list
  list=$(git -C "$here" clean -fdxn) || fail "this folder is no git checkout, so there is nothing to clean by"
  if [ -z "$list" ]; then
    echo "Nothing to delete: the folder is as git has it."
    return
  fi
  printf '%s\n' "$list"
  if ! ask_yes "Delete these?"; then
    echo "Nothing was deleted."
    exit 0
  fi
  git -C "$here" clean -fdx
}

status() {
  local name text
  if [ -f "$state" ]; then
    echo "bootstrap   role $(of_state role), begun $(of_state begun)$(text=$(of_state finished) && [ -z "$text" ] || echo ", finished $text")"
    echo "steps done  $(sed -n 's/^done=\(role:\)\{0,1\}//p' "$state" | tr '\n' ' ')"
    [ -n "$(of_state finished)" ] || echo "            not finished; ./bootstrap.sh --continue goes on"
  else
    echo "bootstrap   has not run in this folder"
  fi
  for name in consul nomad choir choir-join-server choir-join-apply.path choir-join choir-firewall; do
    text=$(systemctl is-active "$name" 2> /dev/null) || true
    [ "$(systemctl show -p LoadState --value "$name" 2> /dev/null)" = loaded ] || text='not installed'
    printf '%-22s %s\n' "$name" "${text:-not installed}"
  done
  dpkg-query -W -f '${Package} ${Version}\n' choir choir-node choir-engine 2> /dev/null | sed 's/^/package     /' || true
  for name in /etc/consul.d/management_token /etc/nomad.d/management_token; do
    [ ! -e "$name" ] || echo "token       $name (root only)"
  done
}

uninstall() {
  local variables name keep options=()
  echo "This takes away Choir's services, programs, units and configuration from $(host_name)."
  if [ "$purge" = yes ]; then
    echo "--purge: models, history, memory, settings and tokens are removed, too, and are gone then."
  else
    echo "Models stay. History, memory, settings and tokens are first copied to /var/backups; --purge removes all of it."
  fi
  if ! ask_yes "Go on?"; then
    echo "Nothing was changed."
    return
  fi
  if [ -x "$here/build/choir" ] || [ -x /usr/bin/choir ]; then
    role=embedded
    "$(choir_program)" service remove > /dev/null 2>&1 || true
    role=all
  fi
  if [ "$purge" = no ]; then
    keep=()
    for name in "/opt/$target_user" "/opt/$target_user-work" /etc/choir /etc/consul.d /etc/nomad.d /var/lib/choir /var/lib/choir-join; do
      [ ! -e "$name" ] || keep+=("${name#/}")
    done
    if [ ${#keep[@]} -gt 0 ]; then
      name=/var/backups/choir-$(date +%Y%m%d-%H%M%S).tar.gz
      (umask 077 && tar -C / --warning=no-file-changed --exclude='*.sock' -czf "$name" "${keep[@]}") || [ $? = 1 ] || fail "cannot write $name; nothing was removed"
      echo "kept $name"
    fi
  fi
  for name in choir-join-server.service choir-join-apply.path choir-join-apply.service choir-join.service; do
    [ ! -f "/etc/systemd/system/$name" ] || {
      systemctl disable --now "$name" > /dev/null 2>&1 || true
      rm -f "/etc/systemd/system/$name"
      echo "removed $name"
    }
  done
  systemctl daemon-reload
  rm -f /usr/local/lib/choir/choir-join
  rm -rf /var/lib/choir/join /var/lib/choir-join-ready
  rm -rf /etc/choir/join /var/lib/choir-join
  ! getent passwd choir-join > /dev/null || userdel choir-join > /dev/null 2>&1 || true
  if [ "$(of_state role)" = embedded ]; then
    remove_embedded
  elif command -v ansible-playbook > /dev/null && [ -f "$here/uninstall.yaml" ] && [ -d /etc/choir ]; then
    [ "$purge" = no ] || options+=(-e purge_models=true)
    variables=$(mktemp) && extra_variables > "$variables"
    "$here/tools/inventory" get "$(host_name)" > /dev/null 2>&1 || step_inventory > /dev/null
    (cd "$here" && ansible-playbook uninstall.yaml --limit "$(host_name)" -e "@$variables" -e uninstall=yes "${options[@]}") || fail "uninstall.yaml failed; see above"
    rm -f "$variables"
  fi
  rm -f "$state"
  echo "Done."
}

# --- root ------------------------------------------------------------------------------------------------------------

# Arguments and what the environment says go over in a file: sudo writes command lines into the system's log.
become_root() {
  local file name
  command -v sudo > /dev/null || fail "this needs root, and there is no sudo: become root (su -) and run it again"
  file=$(mktemp)
  {
    for name in LLM_BASE_URL LLM_MODEL XDG_CACHE_HOME http_proxy https_proxy no_proxy CHOIR_JOBS; do
      [ -z "${!name:-}" ] || printf 'env\0%s\0%s\0' "$name" "${!name}"
    done
    for name in "${given[@]}"; do printf 'arg\0%s\0' "$name"; done
  } > "$file"
  exec sudo -p "Password of %p, to set up this machine: " -- "$here/bootstrap.sh" --carry "$file"
}

take_carried() {
  local kind name value
  if [ "$(id -u)" != 0 ] || [ -L "$carry" ] || [ "$(stat -c %u "$carry" 2> /dev/null)" != "${SUDO_UID:-none}" ]; then
    fail "--carry is for this script itself"
  fi
  given=()
  while IFS= read -r -d '' kind; do
    IFS= read -r -d '' name
    if [ "$kind" = env ]; then
      IFS= read -r -d '' value
      export "$name=$value"
    else
      given+=("$name")
    fi
  done < "$carry"
  rm -f "$carry"
  carry=''
  parse "${given[@]}"
}

parse "$@"
[ -z "$carry" ] || take_carried
check_arguments
case $action in
  status)
    status
    exit 0
    ;;
  clean)
    clean
    [ "$roled" != no ] || exit 0
    yes=no
    action=install
    ;;
esac
if [ "$dry" = no ] && [ "$(id -u)" != 0 ]; then
  if [ "$action" = install ] && [ "${given[*]}" != "${given[*]/--clean/}" ]; then # it was done
    kept=()
    for word in "${given[@]}"; do [ "$word" = --clean ] || kept+=("$word"); done
    given=("${kept[@]}")
  fi
  become_root
fi
if [ "$action" = uninstall ]; then
  if [ "$dry" = yes ]; then
    echo "Would take away what bootstrap installed here; nothing was done."
    exit 0
  fi
  uninstall
else
  install_all
fi
