# shellcheck shell=bash
# What each step of bootstrap.sh does. Sourced by it, never run: a step runs in a subshell with `set -eu`, its output goes to
# the log, and its last line that begins with "choir: " tells the person what to do when it fails.
# shellcheck disable=SC2154 # the options are bootstrap.sh's

step_check() {
  local id='' codename='' free name
  # shellcheck disable=SC1091 # of the machine it runs on
  id=$(. /etc/os-release && echo "${ID:-}") codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  name=$(host_name)
  if [ "$id" != debian ]; then
    say "this is for Debian, and this machine runs '$id'; ./run works there as far as its packages exist"
    return 1
  fi
  case $codename in trixie | bookworm) ;; *) say "Debian '$codename' was never tried; use trixie or bookworm" && return 1 ;; esac
  if [ "$(dpkg --print-architecture)" != amd64 ]; then say "Choir is for x86-64 processors only" && return 1; fi
  if ! grep -qw ssse3 /proc/cpuinfo; then say "this processor has no SSSE3; a Core 2 is the oldest that works" && return 1; fi
  if [ ! -d /run/systemd/system ]; then say "systemd does not run here, and Choir's services need it" && return 1; fi
  if ! [[ $name =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$ ]] || [ "$name" = localhost ]; then
    say "this machine's name '$name' cannot be used; give it one of letters, digits and dashes: sudo hostnamectl set-hostname atlas" && return 1
  fi
  free=$(($(df -Pk / | awk 'NR==2{print $4}') / 1024))
  if [ "$free" -lt 2048 ]; then say "there are only $free MB free on /; 2048 are needed" && return 1; fi
  if [ "$role" != embedded ] && [ -z "$(own_address)" ]; then say "this machine has no IPv4 address; see ip address" && return 1; fi
  if getent passwd "$target_user" > /dev/null && [ "$(id -u "$target_user")" = 0 ]; then say "--user $target_user is root" && return 1; fi
  case $role in embedded | worker) return ;; esac
  if [ "$(stat -c %U "$here")" = "$target_user" ]; then # not refused: this may be a machine with one person and no secrets
    note "    warning: $target_user runs the agent and owns $here, from which root runs programs; better: sudo chown -R root: $here"
  fi
}

step_tools() {
  local had_nginx=yes
  [ -z "$(missing nginx-light)" ] || had_nginx=no
  # shellcheck disable=SC2046 # a list of words
  apt_install $(tool_packages) || return 1
  # Debian starts a web server of its own with the package; ours are started by Choir where they are needed.
  if [ "$role" != worker ] && [ "$had_nginx" = no ]; then
    systemctl disable --now nginx.service > /dev/null 2>&1 || true
  fi
}

step_docker() {
  apt_install docker.io && systemctl enable --now docker.service
}

keep_user() { # for playbooks that are called by hand, and for workers, whose bundle has this file
  if [ -n "$user" ] && [ "$(variable target_user pipecatapp)" != "$user" ]; then
    sed -i "s/^target_user: .*/target_user: $user/" "$here/group_vars/all.yaml"
  fi
}

step_inventory() {
  local name address book=("$here/tools/inventory")
  keep_user || return 1
  name=$(host_name) address=$(own_address)
  if "${book[@]}" get localhost > /dev/null 2>&1; then # the one that the repository comes with
    if "${book[@]}" get "$name" > /dev/null 2>&1; then "${book[@]}" remove localhost; else "${book[@]}" rename localhost "$name"; fi || return 1
  fi
  if "${book[@]}" list worker_nodes 2> /dev/null | cut -f1 | grep -qx -- "$name"; then
    say "$name is a worker of this inventory; to make it a controller: ansible-playbook promote_controller.yaml" && return 1
  fi
  # An address that somebody wrote down is theirs; it is only mended when this machine does not have it.
  local written
  written=$("${book[@]}" get "$name" ansible_host 2> /dev/null) || written=''
  if [ -n "$written" ] && ip -o address show | grep -qF -- " $written/"; then address=$written; fi
  "${book[@]}" add controller_nodes "$name" "ansible_host=$address" ansible_connection=local && "${book[@]}" check
}

# What nodes fetch from here: packages and models, each taken as it is when it is there.
step_choir() {
  local packages models
  packages=$(packages_dir) models=$(models_dir)
  if [ -f "$packages/SHA256SUMS" ]; then
    (cd "$packages" && sha256sum --quiet -c SHA256SUMS) || {
      say "packages in $packages are damaged; remove the folder and use --continue" && return 1
    }
  elif [ "$external" = yes ]; then
    say "--external-model-server builds nothing, so put Choir's packages into $packages; ./run --packages DIR makes them on any machine" && return 1
  else
    say "building Choir's packages: hours on a Core 2, a quarter of an hour on a modern machine (./run --packages DIR there, then copy DIR to $packages)"
    mkdir -p "$packages" && "$here/run" --packages "$packages" || return 1
  fi
  [ "$external" = no ] || return 0
  if [ ! -d "$models" ]; then
    say "making the models; or copy ~/.cache/choir/models of another machine to $models"
    "$here/run" --setup-only || return 1
    mkdir -p "$(dirname "$models")" && ln -s "${XDG_CACHE_HOME:-$HOME/.cache}/choir/models" "$models"
  fi
}

extra_variables() { # as a file, so that nothing stands in a list of processes; only what was asked for
  local text=''
  [ -z "$user" ] || text+=", \"target_user\": \"$user\""
  [ "$external" = no ] || text+=", \"pipecatapp_llm_base_url\": \"$(json_text "$LLM_BASE_URL")\", \"pipecatapp_llm_model\": \"$(json_text "${LLM_MODEL:-}")\""
  [ "$ha_debug" = no ] || text+=', "pipecatapp_debug": true'
  echo "{${text#, }}"
}

json_text() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '%s' "${text//[$'\n\r\t']/}"
}

step_role() { # step_role NAME
  local variables code=0 options=()
  # keep-service looks for this, so that nothing is restarted under somebody's hands
  mkdir -p /run/choir
  if [ "$leave" = yes ]; then touch /run/choir/leave-running; else rm -f /run/choir/leave-running; fi
  [ "$debug" = no ] || options+=(-vvvv)
  variables=$(mktemp) && extra_variables > "$variables"
  (cd "$here" && env ANSIBLE_NOCOLOR=1 ANSIBLE_HOME=/root/.ansible LC_ALL=C.UTF-8 ansible-playbook "${options[@]}" playbook.yaml \
    --limit "$(host_name)" --tags "$1" -e "@$variables") || code=$?
  rm -f "$variables"
  return "$code"
}

step_purge_jobs() {
  local job found=no
  if ! nomad_program > /dev/null; then
    say "nothing to purge: Nomad is not installed"
    return 0
  fi
  for job in $(nomad_cli job status 2> /dev/null | awk 'NR>1 && $1 != "No" {print $1}'); do
    case $job in
      pipecat-app | llama-expert* | expert-* | llamacpp-* | health-check | llama-benchmark | embedding | stt | tts) ;;
      *) continue ;;
    esac
    nomad_cli job stop -purge -yes "$job" || return 1
    found=yes
    note "    purged the job $job"
  done
  [ "$found" = yes ] || note "    no job of Choir to purge"
}

nomad_program() { # the one that runs here, wherever hashicorp_bin_dir is
  local program
  program=$(sed -n 's/^ExecStart=\([^ ]*\) agent.*/\1/p' /etc/systemd/system/nomad.service 2> /dev/null)
  [ -n "$program" ] || program=$(command -v nomad) || return 1
  [ -x "$program" ] && echo "$program"
}

nomad_cli() {
  local program
  program=$(nomad_program) || { say "Nomad is not installed here" && return 1; }
  NOMAD_ADDR=http://127.0.0.1:4646 NOMAD_TOKEN=$(cat /etc/nomad.d/management_token 2> /dev/null) "$program" "$@"
}

unit() { # unit NAME: from the standard input; changed is set when it is new
  local path=/etc/systemd/system/$1 text
  text=$(cat)
  [ -f "$path" ] && [ "$(cat "$path")" = "$text" ] && return
  printf '%s\n' "$text" > "$path"
  changed=yes
}

step_join() {
  local changed=no choir=/usr/bin/choir
  if [ ! -x "$choir" ]; then say "there is no $choir: the package choir-node is not installed (role packages)" && return 1; fi
  getent passwd choir-join > /dev/null || useradd --system --user-group --home-dir /var/lib/choir-join --no-create-home --shell /usr/sbin/nologin choir-join
  install -d -o choir-join -g choir-join -m 0700 /var/lib/choir-join /var/lib/choir-join/approved
  install -d -o root -g choir-join -m 0750 /var/lib/choir-join-ready
  unit choir-join-server.service << U
# Written by bootstrap.sh.
[Unit]
Description=Workers ask here to join the cluster
After=network-online.target
Wants=network-online.target

[Service]
User=choir-join
ExecStart=$choir nodes serve
Restart=on-failure
RestartSec=5
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/choir-join
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
LockPersonality=yes
CapabilityBoundingSet=
UMask=0077$([ ! -f /etc/choir/state.key ] || printf '\n# The agent asks under this key who waits, and says yes for a person who may.\nLoadCredential=state.key:/etc/choir/state.key')

[Install]
WantedBy=multi-user.target
U
  unit choir-join-apply.path << U
# Written by bootstrap.sh.
[Unit]
Description=Requests to join that were approved

[Path]
PathExistsGlob=/var/lib/choir-join/approved/*.json
Unit=choir-join-apply.service

[Install]
WantedBy=multi-user.target
U
  unit choir-join-apply.service << U
# Written by bootstrap.sh.
[Unit]
Description=Enter approved workers in the inventory and make their bundles
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart="$here/tools/join-apply" --packages "$(packages_dir)"
U
  [ "$changed" = no ] || systemctl daemon-reload
  systemctl enable --now choir-join-server.service choir-join-apply.path
  if [ "$changed" = yes ] && [ "$leave" = no ]; then systemctl restart choir-join-server.service choir-join-apply.path; fi
  systemctl is-active --quiet choir-join-server.service
}

agent_state() {
  echo "/opt/$target_user"
}

# The set-up code is told by the agent's own socket, so only on the node that runs it.
step_owner() {
  local choir try said
  choir=$(choir_program) || { say "there is no choir program yet" && return 1; }
  if [ "$role" = all ] && ! playbook_roles | grep -qx pipecatapp; then
    say "the playbook has no agent"
    return 0
  fi
  for try in $(seq 90); do
    said=''
    if [ "$role" = embedded ]; then
      said=$(as_service "$choir" 2>&1) || true
    elif [ -S "$(agent_state)/choir.sock" ]; then
      said=$("$choir" owner code --state "$(agent_state)" 2>&1) || true
    elif [ "$try" -gt 20 ] && curl -fsS --max-time 5 --noproxy '*' http://127.0.0.1:8000/health > /dev/null 2>&1; then
      echo elsewhere > "$scratch/code"
      return 0
    fi
    case $said in
      *'owner already'*) echo exists > "$scratch/code" && return 0 ;;
      ????-????) echo "$said" > "$scratch/code" && return 0 ;;
    esac
    sleep 2
  done
  say "the agent did not start within $((try * 2)) s; see choir status, and choir logs pipecat-app"
  return 1
}

as_service() { # as_service CHOIR: asks where the unit runs it
  if [ "$1" = /usr/bin/choir ]; then "$1" owner code --state "/opt/$target_user"; else as_person "$1" owner code; fi
}

choir_program() {
  local found
  for found in "$here/build/choir" /usr/bin/choir; do
    [ "$role" = embedded ] || [ "$found" = /usr/bin/choir ] || continue
    [ -x "$found" ] && echo "$found" && return
  done
  return 1
}

packaged() { # is it to be taken as packages, which somebody has put here or installed before?
  [ ! -x "$here/build/choir" ] && { [ -f "$(packages_dir)/SHA256SUMS" ] || [ -x /usr/bin/choir ]; }
}

step_build() {
  local packages=()
  if packaged; then
    install_packages && link_models
    return
  fi
  if [ "$external" = yes ]; then
    [ ! -x "$here/build/choir" ] || return 0
    say "--external-model-server builds nothing: put Choir's packages (./run --packages DIR, on any machine) into $(packages_dir), or build it with ./run --setup-only" && return 1
  fi
  mapfile -t packages < <(here=$here HOME=${HOME:-/root} bash -c '. "$here/scripts/setup.sh" && printf "%s\n" "${build_packages[@]}"')
  [ ${#packages[@]} -gt 0 ] || return 1
  apt_install "${packages[@]}" && as_person "$here/run" --setup-only --no-install
}

install_packages() {
  local packages=() folder options=(-q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-install-recommends install)
  folder=$(packages_dir)
  [ -f "$folder/SHA256SUMS" ] || return 0
  cd "$folder" || return 1
  sha256sum --quiet -c SHA256SUMS || { say "packages in $folder are damaged; copy them anew and use --continue" && return 1; }
  mapfile -t packages < <(sed 's/^[0-9a-f]* [ *]\(.*\.deb\)$/.\/\1/' SHA256SUMS)
  export DEBIAN_FRONTEND=noninteractive
  apt-get "${options[@]}" "${packages[@]}" && return
  apt-get -q -o DPkg::Lock::Timeout=600 update && apt-get "${options[@]}" "${packages[@]}" && return
  say "apt could not install Choir's packages; mend that (apt-get update says more) and use --continue"
  return 1
}

# The packages bring no models; an outside model server needs none, and without the others there is no hearing and no voice.
link_models() {
  local models
  models=$(models_dir)
  if [ -d "$models" ] && [ ! -e /opt/nomad/models ]; then
    mkdir -p /opt/nomad && ln -s "$models" /opt/nomad/models || return 1
  fi
  if [ "$external" = no ] && [ -z "$(ls /opt/nomad/models 2> /dev/null)" ]; then
    say "there are no models: copy ~/.cache/choir/models of the machine where ./run has made them to $models" && return 1
  fi
}

# Without Nomad: a unit of systemd, as the person who called, or as the agent's own user.
step_service() {
  local choir run_as=${SUDO_USER:-} options=() file=/etc/choir/choir.conf
  choir=$(choir_program) || { say "there is no choir program" && return 1; }
  if [ "$choir" = /usr/bin/choir ]; then
    run_as=$target_user
    keep_user || return 1
    if ! getent passwd "$run_as" > /dev/null; then # noted, so that --uninstall takes that user away and no other
      useradd --system --user-group --home-dir "/opt/$run_as" --shell /usr/sbin/nologin "$run_as" || return 1
      mkdir -p /var/lib/choir && echo "$run_as" >> /var/lib/choir/made-users
    fi
    install -d -o "$run_as" -g "$(id -gn "$run_as")" -m 0750 "/opt/$run_as"
    install -d -o "$run_as" -g "$(id -gn "$run_as")" -m 0700 "/opt/$run_as-work" # for what its tools make
    options+=(--state "/opt/$run_as")
  elif [ -z "$run_as" ]; then
    say "Choir was built for root here, and does not run as root: call this script as yourself, it asks for sudo" && return 1
  fi
  if [ "$external" = yes ]; then
    mkdir -p /etc/choir
    [ -f "$file" ] || printf '[llm]\nbase_url = %s\n' "$LLM_BASE_URL" > "$file"
    [ -z "${LLM_MODEL:-}" ] || grep -q '^model *=' "$file" || printf 'model = %s\n' "$LLM_MODEL" >> "$file"
    if ! grep -qE "^base_url *= *" "$file" || ! grep -qF "$LLM_BASE_URL" "$file"; then
      say "$file says something else; write there, below [llm]: base_url = $LLM_BASE_URL" && return 1
    fi
    options+=(--config "$file")
  fi
  systemctl reset-failed choir.service 2> /dev/null || true # starts that failed before this was mended do not count
  "$choir" service install --run-as "$run_as" "${options[@]}"
}

# What the role embedded brought; the copy of the state is made before.
remove_embedded() {
  local name packages=()
  for name in choir choir-node choir-engine; do
    [ -n "$(missing "$name")" ] || packages+=("$name")
  done
  [ ${#packages[@]} = 0 ] || DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 purge "${packages[@]}" || fail "apt could not remove ${packages[*]}"
  [ ! -L /opt/nomad/models ] || rm -f /opt/nomad/models
  rmdir --ignore-fail-on-non-empty /opt/nomad 2> /dev/null || true
  rm -rf "/opt/$target_user" "/opt/$target_user-work"
  if [ -f /var/lib/choir/made-users ]; then
    while read -r name; do userdel "$name" > /dev/null 2>&1 || true; done < /var/lib/choir/made-users
  fi
  rm -rf /etc/choir /var/lib/choir
}

step_benchmark() {
  local choir
  choir=$(choir_program) || { say "there is no choir program" && return 1; }
  "$choir" bench node | tee "$scratch/benchmark"
  if [ "$role" != embedded ] && [ -f /opt/nomad/jobs/benchmark.nomad ]; then
    nomad_cli job run -detach /opt/nomad/jobs/benchmark.nomad
  fi
}

# A worker

step_register() {
  local file code=0
  install -D -m 0755 "$here/tools/choir-join" /usr/local/lib/choir/choir-join
  if [ -z "$token" ] && [ -s /etc/choir/join/key ] && grep -qxF -e "https://$controller:8002" -e "https://[$controller]:8002" /etc/choir/join/controller; then
    say "this machine has asked that controller before; going on with that"
  else
    if [ -z "$token" ]; then
      say "a worker needs a token, so that the controller knows it and it knows the controller: on $controller type: sudo choir nodes token" && return 1
    fi
    file=$(mktemp) && printf '%s\n' "$token" > "$file"
    /usr/local/lib/choir/choir-join register --controller "$controller" --token-file "$file" || code=$?
    rm -f "$file"
    [ "$code" = 0 ] || return "$code"
  fi
  local changed=no
  unit choir-join.service << 'U'
# Written by bootstrap.sh.
[Unit]
Description=Join the cluster, or tell the controller this machine's address
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=1h
StartLimitBurst=8

[Service]
Type=oneshot
ExecStart=/usr/local/lib/choir/choir-join run
SuccessExitStatus=3
TimeoutStartSec=infinity
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
U
  [ "$changed" = no ] || systemctl daemon-reload
  systemctl enable choir-join.service
}

# It goes on by itself when this script is ended; here it is only watched.
step_provision() {
  local cursor line last='' active
  cursor=$(journalctl -u choir-join.service -n 0 --show-cursor -o cat 2> /dev/null | sed -n 's/^-- cursor: //p')
  systemctl reset-failed choir-join.service 2> /dev/null || true
  systemctl restart --no-block choir-join.service
  while sleep 1; do
    line=$(journalctl -u choir-join.service ${cursor:+--after-cursor="$cursor"} -o cat 2> /dev/null | sed -n 's/^choir-join: //p' | tail -1)
    if [ "$line" != "$last" ]; then
      last=$line
      echo "choir-join: $line" # for the log
      note "    $(date +%T) $line"
      case $line in pending*) note "             on the controller: sudo choir nodes approve $(host_name)" ;; esac
    fi
    active=$(systemctl show -p ActiveState --value choir-join.service)
    case $active in inactive | failed) [ -z "$(systemctl list-jobs --no-legend choir-join.service 2> /dev/null)" ] || continue ;; esac # not begun yet
    case $active in
      activating | reloading | deactivating) case $line in "provisioning stopped"* | "the controller has refused"*) return 1 ;; esac ;;
      failed) return 1 ;;
      inactive) [ -f /etc/choir/join/joined ] && return 0 || return 1 ;;
    esac
  done
}
