"""Choir's packages on real trixie nodes: what is in them, how they reach a node, what is refused, upgrading and going back."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import ROOT

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
STORE = CACHE / "cluster/packages"
NAMES = ("choir-engine", "choir-node", "choir")
PLAY = """
- hosts: controller_nodes
  become: true
  vars_files: [{root}/group_vars/names.yaml, {root}/group_vars/models.yaml]
  roles: &roles [{roles}]
- hosts: worker_nodes
  become: true
  vars_files: [{root}/group_vars/names.yaml, {root}/group_vars/models.yaml]
  roles: *roles
"""

pytestmark = pytest.mark.skipif(not (STORE / "set.json").exists(), reason="the packages were not built: ./run --packages DIR")


def version():
    return json.loads((STORE / "set.json").read_text())["choir-node"]


def write_lists(folder, versions):
    debs = [f"{n}_{v}_amd64.deb" for n, v in versions.items()]
    (folder / "set.json").write_text(json.dumps(versions))
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((folder / d).read_bytes()).hexdigest()}  {d}\n" for d in sorted(debs)))
    (folder / "Packages").write_text("")


def derive(source, folder, suffix, broken=False):
    """The set of `source` with a higher version; a broken one has a choir that ends with an error."""
    old = json.loads((source / "set.json").read_text())
    new = {"choir-engine": old["choir-engine"], "choir-node": old["choir-node"] + suffix, "choir": old["choir"] + suffix}
    folder.mkdir(exist_ok=True)
    shutil.copy(source / f"choir-engine_{old['choir-engine']}_amd64.deb", folder)
    for name in ("choir-node", "choir"):
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "-R", source / f"{name}_{old[name]}_amd64.deb", tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(old["choir-node"], new["choir-node"]))
        if name == "choir-node":
            text = "exit 1" if broken else f'if [ "$1" = --version ]; then echo choir {new[name]}; else exec /usr/bin/choir.real "$@"; fi'
            (tree / "usr/bin/choir").rename(tree / "usr/bin/choir.real")
            (tree / "usr/bin/choir").write_text(f"#!/bin/sh\n{text}\n")
            (tree / "usr/bin/choir").chmod(0o755)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, folder / f"{name}_{new[name]}_amd64.deb"], check=True,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
    write_lists(folder, new)
    return new["choir-node"]


def publish(source, folder):
    """What packaging/build does: the set that is there goes into previous/."""
    if (folder / "set.json").exists():
        shutil.rmtree(folder / "previous", ignore_errors=True)
        old = [p for p in folder.iterdir() if p.is_file()]
        (folder / "previous").mkdir()
        for path in old:
            path.rename(folder / "previous" / path.name)
    folder.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and (path.suffix == ".deb" or path.name in ("set.json", "SHA256SUMS", "Packages")):
            shutil.copy(path, folder)


class House:
    """A controller that has the folders, and a worker that has neither and fetches from it."""

    def __init__(self, lab, tmp_path):
        self.lab, self.tmp, self.packages = lab, tmp_path, tmp_path / "packages"
        publish(STORE, self.packages)
        lab.env["CHOIR_LAB_PACKAGES"] = str(self.packages)
        lab.up("controller", "worker1", "--memory", "2500")
        self.inventory = tmp_path / "inventory.yaml"
        text = lab.call("inventory", check=True).stdout
        text = text.replace("ansible_host: 10.88.0.11", "ansible_host: 10.88.0.11, choir_packages_dir: /none, choir_models_dir: /none")
        self.inventory.write_text(text)
        (tmp_path / "group_vars").symlink_to(ROOT / "group_vars")  # Ansible reads what is beside the inventory
        assert "/none" in text

    def play(self, roles, *words, code=0, timeout=1500):
        path = self.tmp / "play.yaml"
        path.write_text(PLAY.format(root=ROOT, roles=roles))
        return self.run(path, *words, code=code, timeout=timeout)

    def run(self, path, *words, code=0, timeout=2400):
        done = self.lab.call("ctl", "env", f"ANSIBLE_CONFIG={ROOT / 'ansible.cfg'}", "ansible-playbook", "-i", self.inventory, path, *words, timeout=timeout)
        assert done.returncode == code, done.stdout[-6000:] + done.stderr[-2000:]
        return done.stdout

    def versions(self, node):
        rows = self.lab.sh(node, "dpkg-query -W -f '${Package} ${Version}\\n' choir-engine choir-node choir 2> /dev/null; true")
        return dict(r.split() for r in rows.splitlines())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    tree = tmp_path_factory.mktemp("packages")
    for name, found in json.loads((STORE / "set.json").read_text()).items():
        subprocess.run(["dpkg-deb", "-x", STORE / f"{name}_{found}_amd64.deb", tree], check=True)
    return tree


def test_lists_and_contents(unpacked):
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=STORE, check=False).returncode == 0
    versions = json.loads((STORE / "set.json").read_text())
    for name in NAMES:
        deb = STORE / f"{name}_{versions[name]}_amd64.deb"
        scripts = subprocess.run(["dpkg-deb", "-I", deb], capture_output=True, text=True, check=True).stdout
        assert not any(word in scripts for word in ("postinst", "preinst", "prerm", "postrm"))
        depends = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
        assert "libc6 (>= " in depends
        if name != "choir-engine":
            assert f"choir-engine (= {versions['choir-engine']})" in depends
    for path in ("usr/bin/choir", "usr/lib/choir/choir-sandbox", "usr/lib/choir/choir-node-bench", "usr/lib/choir/choir-stt", "usr/lib/choir/choir-index.so",
                 "usr/lib/choir/runtime/libonnxruntime.so", "usr/lib/choir/engine/bin/llama-server", "usr/lib/choir/engine/bin/rpc-server",
                 "usr/lib/choir/engine/bin/libggml-cpu-core2.so", "etc/choir/prompts/router.txt", "usr/share/choir/group_vars/models.yaml",
                 "usr/share/man/man1/choir.1.gz"):
        assert (unpacked / path).exists(), path
    home = str(pathlib.Path.home()).encode()
    for path in (unpacked / "usr/bin/choir", *(unpacked / "usr/lib/choir").glob("choir-*")):
        data = path.read_bytes()
        assert home + b"/" not in data and str(ROOT).encode() + b"/" not in data, f"{path.name} names a folder of the machine that built it"


@pytest.mark.parametrize("program", ["usr/bin/choir --version", "usr/lib/choir/choir-stt --version", "usr/lib/choir/choir-tts --version",
                                     "usr/lib/choir/choir-ear --version", "usr/lib/choir/engine/bin/llama-server --version",
                                     "usr/lib/choir/engine/bin/llama-bench --help"])
def test_runs_on_a_core_2(unpacked, program):
    """With trixie's own libraries, on a processor that traps at anything newer."""
    root = CACHE / "cluster/build-trixie"
    if not shutil.which("qemu-x86_64") or not (root / "usr").exists():
        pytest.skip("needs qemu-x86_64 and the root that packages are built in")
    words = program.split()
    done = subprocess.run(["qemu-x86_64", "-cpu", "core2duo", "-L", root, "-E", f"LD_LIBRARY_PATH={unpacked}/usr/lib/choir/engine/bin",
                           str(unpacked / words[0]), *words[1:]], capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-1500:]
    assert (version() if "--version" in program and "engine" not in program else "") in said
    if "bench" in program:
        assert "libggml-cpu-core2.so" in said, "another CPU variant than the one for a Core 2"


@pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="only with --full")
def test_nodes_get_one_version_and_go_back_when_a_new_one_fails(small_lab, tmp_path):
    house = House(small_lab, tmp_path)
    first = version()
    house.play("common, packages, models")
    for node in ("controller", "worker1"):
        assert house.versions(node)["choir"] == first
        assert small_lab.sh(node, "choir --version") == f"choir {first}"
        assert small_lab.sh(node, "/usr/lib/choir/engine/bin/llama-server --version 2>&1 | head -1").startswith("version")
        assert small_lab.sh(node, "ls /opt/nomad/models/llm") == "SmolLM2-135M-Instruct.Q4_1.gguf"
        assert "ggml-base-q8_0.bin" in small_lab.sh(node, "ls /opt/nomad/models")
        assert small_lab.sh(node, "find /opt/nomad/models -name '*.part'") == ""
        assert small_lab.sh(node, "ls /usr/bin/cc /usr/bin/gcc /usr/bin/pip /usr/bin/docker 2> /dev/null; true") == ""
    assert small_lab.sh("controller", "readlink /opt/nomad/models/llm/*") == "/srv/choir/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert small_lab.sh("worker1", "test -f /opt/nomad/models/ggml-base-q8_0.bin -a ! -L /opt/nomad/models/ggml-base-q8_0.bin && echo own") == "own"

    # again: nothing; a model that was damaged, and one that was cut in the middle, are made good
    again = house.play("packages, models")
    assert again.count("changed=0") == 2, again[-3000:]
    small_lab.sh("worker1", "cd /opt/nomad/models && echo x >> silero_vad_16k_op15.onnx && head -c 30000000 ggml-base-q8_0.bin > .ggml-base-q8_0.bin.part"
                            " && rm ggml-base-q8_0.bin")
    house.play("models", "--limit", "worker1")
    log = small_lab.sh("controller", "journalctl -u choir-depot -o cat | grep -c 'GET /models/ggml-base-q8_0.bin HTTP/1.1. 206'")
    assert log == "1", "the download did not go on where it was cut"
    sums = small_lab.sh("worker1", "cd /opt/nomad/models && sha256sum silero_vad_16k_op15.onnx ggml-base-q8_0.bin | cut -c1-8 | xargs")
    assert sums == "7ed98ddb ded5a9c6"

    # newer packages: a node that would get another version than the cluster runs is refused, a cluster that runs stays
    second = derive(STORE, tmp_path / "two", "+2")
    publish(tmp_path / "two", house.packages)
    small_lab.sh("worker1", "dpkg --purge choir choir-node; rm -rf /var/cache/choir/packages")
    waits = house.play("packages")
    assert f"Choir {second} is there, the cluster runs {first}" in waits
    assert house.versions("worker1")["choir"] == first  # by way of previous/
    small_lab.sh("worker1", "dpkg --purge choir choir-node")
    (house.packages / "previous").rename(house.packages / "away")
    refused = house.play("packages", "--limit", "worker1", code=2)
    assert f"The cluster runs Choir {first}, but worker1 could only get {second}" in refused.replace("\n", " ")
    (house.packages / "away").rename(house.packages / "previous")
    house.play("packages")

    house.run(ROOT / "upgrade.yaml")
    assert [house.versions(n)["choir"] for n in ("controller", "worker1")] == [second, second]
    assert small_lab.sh("worker1", "choir --version") == f"choir {second}"

    third = derive(STORE, tmp_path / "three", "+3", broken=True)
    publish(tmp_path / "three", house.packages)
    failed = house.run(ROOT / "upgrade.yaml", code=2).replace("\n", " ")
    assert "This node is as it was before the upgrade" in failed and "The new version must run" in failed
    assert [house.versions(n)["choir"] for n in ("controller", "worker1")] == [second, second]
    assert small_lab.sh("worker1", "choir --version") == f"choir {second}"
    assert third not in small_lab.sh("worker1", "dpkg -l | cat")
