"""Who runs as whom, who may read what, which doors are open: on the nodes of the running cluster."""
import re

import pytest

from house import NODES

# Programs that run as root, and why. Anything else as root is a finding.
ROOT_PROGRAMS = {
    r"(/usr)?(/lib/systemd/systemd|/sbin/init)( .*)?": "the first process",
    r"/usr/bin/systemd-tmpfiles .*|/usr/sbin/logrotate .*": "Debian's timers",
    r"/usr/lib/systemd/systemd-(journald|logind|udevd|networkd|machined|userdbd|userwork|hostnamed|executor|nsresourced).*": "Debian",
    r"\(sd-pam\)|\(systemd\)|\(sd-.*": "Debian",
    r"sshd: .*|/usr/sbin/sshd .*|/usr/lib/openssh/.*": "logins",
    r"/usr/sbin/cron.*|/usr/sbin/CRON.*": "Debian",
    r"(/usr)?/sbin/agetty .*": "Debian's console",
    r"nginx: master process .*": "opens port 8443, then its workers are www-data",
    r"\S*/nomad agent .*": "the client starts each job as that job's own user, which takes root",
    r"\S*/nomad (executor|logmon|docker_logger).*": "the client's helpers, one pair for a job",
    r"/usr/local/lib/choir/firewall sync|/bin/sh /usr/local/lib/choir/firewall sync": "changes the kernel's table, a moment every half minute",
}
OWN = {r"\S*/consul agent .*": "consul", r"\S*llama-server .*": "llama", r"(\S*/)?choir serve.*": "pipecatapp",
       r"\S*choir nodes serve.*": "choir-join"}
# Doors to the network: port -> who has it. 20000 to 32000 are addresses that Nomad gives to jobs.
DOORS = {22: "sshd", 8000: "the agent", 8443: "the agent, TLS", 8300: "Consul", 8301: "Consul", 8500: "Consul", 4646: "Nomad", 4647: "Nomad",
         4648: "Nomad", 8010: "packages and models", 8002: "joining", 8003: "joining, for the page", 8011: "copies of the agent's state"}


def processes(house, node):
    """(user, command) of all but kernel threads, people's sessions (Ansible's, too) and what this call itself started."""
    for row in house.lab.sh(node, "ps -eo pid=,ppid=,unit:64=,user:32=,args= ww").splitlines():
        pid, ppid, unit, user, args = row.split(None, 4)
        if "2" not in (pid, ppid) and unit != "-" and not unit.startswith(("session-", "user@")):
            yield user, args


@pytest.mark.parametrize("node", NODES)
def test_only_named_programs_run_as_root(house, node):
    strange = [(user, args) for user, args in processes(house, node)
               if user == "root" and not any(re.fullmatch(p, args) for p in ROOT_PROGRAMS)]
    assert not strange, f"as root on {node}: {strange}"


@pytest.mark.parametrize("node", NODES)
def test_services_run_as_their_own_users(house, node):
    seen = set()
    for user, args in processes(house, node):
        for pattern, owner in OWN.items():
            if re.fullmatch(pattern, args):
                seen.add(owner)
                assert user == owner, f"{args} runs as {user} on {node}"
    assert "consul" in seen


@pytest.mark.parametrize("node", NODES)
def test_doors_are_the_known_ones(house, node):
    address = NODES[node]
    open_doors = set()
    for row in house.lab.sh(node, "ss -H -l -t -n").splitlines():
        host, port = row.split()[3].rsplit(":", 1)
        if not (host.startswith("127.") or host == "[::1]"):
            open_doors.add(int(port))
    strange = {p for p in open_doors - set(DOORS) if not 20000 <= p <= 32000}
    assert not strange, f"{node} ({address}) listens on {sorted(strange)}"


def test_users_have_no_login_and_no_sudo(house):
    for node in NODES:
        for user in ("consul", "nomad", "llama", "pipecatapp"):
            shell = house.lab.sh(node, f"getent passwd {user}").split(":")[-1]
            assert shell == "/usr/sbin/nologin", (node, user, shell)
            assert "may run" not in house.lab.sh(node, f"sudo -n -l -U {user} 2>&1", check=False), (node, user)


def reads(house, node, user, path):
    return house.lab.call("exec", node, "runuser", "-u", user, "--", "cat", path).returncode == 0


def test_secrets_are_read_by_their_owners_only(house):
    tokens = "/etc/choir/tokens"
    for node in NODES:
        assert reads(house, node, "pipecatapp", f"{tokens}/pipecat-app.token")
        assert reads(house, node, "llama", "/etc/choir/expert.key")
        assert reads(house, node, "pipecatapp", "/etc/choir/expert.key")
        for user, path in (("llama", f"{tokens}/pipecat-app.token"), ("pipecatapp", f"{tokens}/consul-agent.token"), ("debian", "/etc/choir/expert.key"),
                           ("pipecatapp", "/etc/consul.d/consul.hcl"), ("llama", "/etc/nomad.d/nomad.hcl")):
            assert not reads(house, node, user, path), f"{user} reads {path} on {node}"
    for path in ("/etc/consul.d/management_token", "/etc/nomad.d/management_token", "/var/lib/choir/cluster/secrets.json"):
        assert house.lab.sh("controller", f"stat -c %a:%U {path}") == "600:root"
        assert house.lab.sh("worker1", f"ls {path}", check=False) == ""


def test_tokens_may_do_what_they_are_for_and_no_more(house):
    def token(name):
        return house.lab.sh("worker1", f"cat /etc/choir/tokens/{name}.token")
    agent, expert, nomad = token("pipecat-app"), token("expert"), token("pipecat-app-nomad")
    seen = house.http("controller", 8500, "/v1/catalog/services", token=agent)
    assert "nomad" in seen
    assert "nomad" not in house.http("controller", 8500, "/v1/catalog/services", token=expert)
    for secret in (agent, expert, None):
        with pytest.raises(OSError, match="403"):
            house.http("controller", 8500, "/v1/kv/config/x", {"a": 1}, token=secret, method="PUT")
        with pytest.raises(OSError, match="403"):
            house.http("controller", 8500, "/v1/agent/service/register", {"Name": "evil"}, token=secret, method="PUT")
    denied(house, "/v1/jobs", EVIL, token=nomad)
    assert isinstance(house.http("controller", 4646, "/v1/allocations", token=nomad), list)


def denied(house, path, body=None, method=None, token=None):
    """Nomad says so, by its status or, where it had begun to send, in the text; a job must be whole to be refused."""
    try:
        said = house.http("controller", 4646, path, body, token=token, method=method)
    except OSError as error:
        said = str(error)
    assert "Permission denied" in str(said), (path, said)


EVIL = {"Job": {"ID": "evil", "Type": "batch", "Datacenters": ["dc1"], "TaskGroups": [{"Name": "g", "Count": 1, "Tasks": [
    {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/true"}, "Resources": {"CPU": 50, "MemoryMB": 32}}]}]}}


def test_strangers_may_look_at_nomad_and_do_nothing(house):
    """Reading and listing without a token; logs, files and changes with one only."""
    allocations = house.http("controller", 4646, "/v1/allocations")
    assert allocations and house.http("controller", 4646, "/v1/jobs") and house.http("controller", 4646, "/v1/nodes")
    one, job = allocations[0]["ID"], allocations[0]["JobID"]
    for path in (f"/v1/client/fs/ls/{one}?path=/", f"/v1/client/fs/cat/{one}?path=/alloc", f"/v1/client/fs/logs/{one}?task=t&type=stdout", "/v1/acl/tokens"):
        denied(house, path)
    denied(house, f"/v1/job/{job}", method="DELETE")
    denied(house, "/v1/jobs", EVIL, "PUT")
    denied(house, f"/v1/allocation/{one}/stop", {}, "PUT")
    denied(house, f"/v1/node/{allocations[0]['NodeID']}/drain", {"DrainSpec": None}, "POST")


def reach(house, address, port, node=None):
    """Whether a TCP connection comes about, from the lab's control side or from a node."""
    script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
    where = ["ctl", "bash", "-c"] if node is None else ["exec", node, "bash", "-c"]
    return house.lab.call(*where, script).returncode == 0


def test_the_firewall_knows_who_is_a_node(house):
    """The control side is on the nodes' own LAN, but no node: it may see the pages, not speak to the cluster's insides."""
    controller = NODES["controller"]
    for port in (8500, 4646, 22):
        assert reach(house, controller, port), port
    for port in (8300, 8301, 4647, 4648):
        assert not reach(house, controller, port), f"a stranger reaches port {port}"
        assert reach(house, controller, port, node="worker1"), f"worker1 does not reach port {port}"
    house.lab.sh("controller", "/usr/local/lib/choir/firewall allow 10.88.0.1")
    assert reach(house, controller, 8300), "let in, but the door stays shut"
    house.lab.sh("controller", "systemctl reload choir-firewall")
    assert not reach(house, controller, 8300), "reloading forgets guests"
    assert reach(house, controller, 8300, node="worker2"), "after a reload the nodes are still known"
    assert reach(house, controller, 22), "SSH is never touched"
    bad = house.lab.call("exec", "controller", "/usr/local/lib/choir/firewall", "allow", "not-an-address")
    assert bad.returncode == 2 and "no IPv4 address" in bad.stderr


def test_members_that_the_inventory_does_not_know_are_let_in(house):
    """As after a worker has joined by itself: the rules here do not name it, Consul does."""
    house.lab.sh("controller", "systemctl stop choir-firewall-members.timer")  # else it is quicker than the first look
    house.lab.sh("controller", "sed 's/elements = { 10[^}]*}/elements = { 10.88.0.10 }/' /etc/choir/firewall.nft > /tmp/fw.nft && nft -f /tmp/fw.nft")
    try:
        assert not reach(house, NODES["controller"], 8300, node="worker1")
        house.lab.sh("controller", "/usr/local/lib/choir/firewall sync")
        assert reach(house, NODES["controller"], 8300, node="worker1")
    finally:
        house.lab.sh("controller", "rm -f /tmp/fw.nft; systemctl reload choir-firewall; systemctl start choir-firewall-members.timer")
