"""The lab itself: nodes are apart from each other, faults act on one of them, and nothing is left behind."""
import os
import pathlib
import signal
import subprocess
import sys

from conftest import TestLab, wait_for


def test_nodes_are_machines_of_their_own(small_lab):
    small_lab.up("one", "two", "--memory", "700")
    for name in ("one", "two"):
        assert small_lab.sh(name, "systemctl is-system-running") == "running"
        assert small_lab.sh(name, "cat /proc/1/comm") == "systemd"
        assert small_lab.sh(name, "hostname") == name
        assert set(small_lab.sh(name, "cut -d: -f3 /proc/self/cgroup | sort -u").split()) == {"/"}
        assert int(small_lab.sh(name, "awk '/^MemTotal/ { print $2 }' /proc/meminfo")) == 700 * 1024
    assert small_lab.sh("one", "cat /etc/machine-id") != small_lab.sh("two", "cat /etc/machine-id")
    small_lab.sh("one", "systemd-run -q --unit=only-here sleep 600; echo own > /root/mark")
    assert small_lab.sh("one", "systemctl is-active only-here") == "active"
    assert small_lab.sh("two", "systemctl is-active only-here", check=False) == "inactive"
    assert small_lab.sh("two", "pgrep -c sleep", check=False) == "0"
    # a sandbox as the agent makes it, by an ordinary user
    assert small_lab.sh("two", "runuser -u debian -- bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev cat /proc/1/comm") == "bwrap"

    # one node's memory is its own: what asks for more than there is ends, and its neighbour notices nothing
    ended = small_lab.call("exec", "one", "python3", "-c", "x = bytearray(900 << 20); print(len(x))")
    assert ended.returncode != 0 and "943718400" not in ended.stdout
    assert small_lab.call("exec", "two", "python3", "-c", "print(len(bytearray(100 << 20)))").stdout.strip() == "104857600"

    # the cable
    reach = ["ctl", sys.executable, "-c", "import socket; socket.create_connection(('10.88.0.11', 22), 3); print('reached')"]
    assert small_lab.call(*reach).stdout.strip() == "reached"
    small_lab.call("cut", "two", check=True)
    assert small_lab.call(*reach).returncode != 0
    assert small_lab.sh("two", "echo still alive") == "still alive"
    small_lab.call("mend", "two", check=True)
    assert wait_for("two answers again", 30, lambda: small_lab.call(*reach).stdout.strip()) == "reached"

    # over ssh and with Ansible, from the control side
    assert small_lab.call("ssh", "two", "sudo id -u").stdout.strip() == "0"
    inventory = small_lab.call("inventory", check=True).stdout
    path = pathlib.Path(small_lab.call("ssh-config", check=True).stdout.strip()).with_name("inventory.yaml")
    path.write_text(inventory, encoding="utf-8")
    pinged = small_lab.call("ctl", "ansible", "-i", path, "all", "-m", "ping", "-o", env={"ANSIBLE_STDOUT_CALLBACK": "oneline"})
    assert pinged.stdout.count("SUCCESS") == 2, pinged.stdout + pinged.stderr

    # power cut: the disk stays, the neighbour too
    small_lab.call("kill", "one", check=True)
    assert small_lab.call("exec", "one", "true").returncode == 1
    assert small_lab.sh("two", "systemctl is-system-running") == "running"
    small_lab.up("one")
    assert small_lab.sh("one", "cat /root/mark") == "own"
    small_lab.call("stop", "two", check=True)
    assert "off" in [line.split()[2] for line in small_lab.call("status").stdout.splitlines() if line.startswith("two ")]


def test_a_killed_owner_leaves_nothing(roots):  # pylint: disable=unused-argument
    lab = TestLab(f"o{os.getpid()}")
    owner = subprocess.Popen(["sleep", "600"])
    try:
        lab.call("up", "node", "--while", owner.pid, timeout=300, check=True)
        assert lab.left_over()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_for("the lab is gone", 60, lambda: not lab.left_over())
    finally:
        owner.kill()
        lab.down()


def stop_while_booting(lab, how):
    """Exit code of an `up` that gets a signal while its node boots."""
    process = lab.start("up", "node", stderr=subprocess.DEVNULL)
    try:
        wait_for("the node starts to be there", 60, lambda: lab.call("pid", "node").stdout.strip() not in ("", "0"))
        process.send_signal(how)
        return process.wait(60)
    finally:
        process.kill()


def test_stopped_in_the_middle(small_lab):
    assert stop_while_booting(small_lab, signal.SIGINT) == 130
    assert small_lab.left_over() == []
    assert stop_while_booting(small_lab, signal.SIGTERM) == 143
    assert small_lab.left_over() == []
    stop_while_booting(small_lab, signal.SIGKILL)  # nobody cleans up after this: `down` does
    assert small_lab.left_over()
    small_lab.down()
    assert small_lab.left_over() == []
    small_lab.down()


def test_one_sentence_says_what_is_wrong(small_lab):
    for words, env, said in ((("exec", "nobody", "true"), {}, "has no node 'nobody'"), (("up", "Big_Name"), {}, "cannot be the name of a node"),
                             (("up", "a", "a"), {}, "named twice"), (("up", "a", "--memory", "10"), {}, "at least 256"),
                             (("down",), {"CHOIR_LAB": "../x"}, "cannot be the name of a lab"), (("ctl", "true"), {}, "is not up")):
        done = small_lab.call(*words, env=env)
        assert done.returncode == 1 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, (words, done)
    assert small_lab.call("fly").returncode == 2
