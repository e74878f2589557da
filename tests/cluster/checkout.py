"""A copy of this checkout in a node, and bootstrap.sh run there as a person would."""
import re
import shlex
import subprocess

from house import ROOT

HOME = "/home/debian/choir"
# What a machine without the internet sets: the two programs are bound into the lab's nodes.
SETTINGS = {"hashicorp_install_method": "present", "hashicorp_bin_dir": "/srv/choir/bin"}


def send(lab, node):
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--", ".", ":!tests", ":!ui", ":!engine"], capture_output=True, check=True).stdout
    names = [n for n in listed.decode().split("\0") if n and (ROOT / n).exists()]
    tar = subprocess.run(["tar", "-C", ROOT, "-c", "--null", "-T", "-"], input="\0".join(names).encode(), capture_output=True, check=True).stdout
    done = subprocess.run([lab_program(lab), "exec", node, "bash", "-c", f"mkdir -p {HOME} && tar -x -C {HOME} && chown -R debian: {HOME}"], input=tar,
                          capture_output=True, env=lab.env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, value in SETTINGS.items():
        lab.sh(node, f"cd {HOME} && sed -i 's|^{name}:.*|{name}: {value}|' group_vars/all.yaml")


def lab_program(lab):  # pylint: disable=unused-argument
    return str(ROOT / "tests/cluster/lab")


def bootstrap(lab, node, *words, path="", check=True, timeout=1500):
    """As debian, who may use sudo. path: a folder before all others, for the root half too."""
    command = " ".join(shlex.quote(str(w)) for w in words)
    run = f"cd {HOME} && ./bootstrap.sh {command}"
    if path:  # sudo has a path of its own, so this goes as root directly
        script = f"cd {HOME} && PATH={path}:$PATH ./bootstrap.sh {command}"
    else:
        script = f"runuser -l debian -c {shlex.quote(run)}"
    done = lab.call("exec", node, "bash", "-c", script, timeout=timeout)
    if check:
        log = lab.call("exec", node, "tail", "-30", f"{HOME}/.bootstrap.log").stdout
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    return done


def steps(output):
    """[(name, "ok" or "done before" or "FAILED")], as bootstrap.sh printed them."""
    return re.findall(r"^\d\d:\d\d:\d\d +\d+/\d+ +(\S+) +(ok|done before|FAILED)", output, re.M)
