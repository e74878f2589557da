"""hashicorp_install_method=apt against a signed repository on this machine: the packages are made from the binaries of
tools/get-cluster-bins, the key is made for the test. The same tasks as against the real one."""
import email.utils
import hashlib
import os
import pathlib
import shutil
import subprocess
import threading
import time

import pytest

from conftest import ROOT, wait_for

BIN = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir/cluster/bin"
VERSIONS = {"consul": "1.20.6-1", "nomad": "1.10.5-1"}
PORT = 8077  # in the lab's own namespace
PLAY = """
- hosts: all
  become: true
  tasks:
    - ansible.builtin.include_role: {name: hashicorp}
      loop: [consul, nomad]
      loop_control: {loop_var: hashicorp_product}
"""

pytestmark = [pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="only with --full"),
              pytest.mark.skipif(not (BIN / "nomad").exists(), reason="no Nomad: tools/get-cluster-bins"),
              pytest.mark.skipif(not shutil.which("gpg"), reason="no gpg")]


class Repository:
    """A flat repository, signed."""

    def __init__(self, folder):
        self.folder, self.home = folder / "repository", folder / "gpg"
        self.folder.mkdir()
        self.home.mkdir(mode=0o700)
        self.gpg("--quick-gen-key", "Test of Choir <test@localhost>", "ed25519", "sign", "1d")
        listing = self.gpg("--with-colons", "--list-keys")
        self.fingerprint = next(l.split(":")[9] for l in listing.splitlines() if l.startswith("fpr:"))
        (self.folder / "gpg").write_text(self.gpg("--armor", "--export"))
        for name, version in VERSIONS.items():
            tree = folder / name
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "usr/bin").mkdir(parents=True)
            os.link(BIN / name, tree / "usr/bin" / name) if os.stat(BIN).st_dev == os.stat(folder).st_dev else shutil.copy(BIN / name, tree / "usr/bin")
            (tree / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Test <test@localhost>\nDescription: {name}\n")
            subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, self.folder / f"{name}_{version}_amd64.deb"], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(tree)
        self.sign()

    def gpg(self, *words, stdin=None):
        return subprocess.run(["gpg", "--homedir", self.home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *words], check=True,
                              capture_output=True, text=True, input=stdin).stdout

    def sign(self):
        rows = []
        for deb in sorted(self.folder.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True).stdout.strip()
            data = deb.read_bytes()
            rows.append(f"{control}\nFilename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
        packages = ("\n".join(rows) + "\n").encode()
        (self.folder / "Packages").write_bytes(packages)
        release = f"Origin: test\nDate: {email.utils.formatdate(usegmt=True).replace('GMT', 'UTC')}\nSHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
        (self.folder / "InRelease").write_text(self.gpg("--clearsign", stdin=release))


@pytest.fixture
def node(small_lab, tmp_path):
    repository = Repository(tmp_path)
    small_lab.up("one", "--memory", "1500")
    small_lab.sh("one", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")  # there is no way out of the lab
    server = small_lab.start("ctl", "python3", "-m", "http.server", PORT, "--bind", "10.88.0.1", "--directory", repository.folder,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("the repository answers", 60, lambda: small_lab.call("exec", "one", "curl", "-fsS", f"http://10.88.0.1:{PORT}/InRelease").returncode == 0)
    (tmp_path / "inventory.yaml").write_text(small_lab.call("inventory", check=True).stdout)
    (tmp_path / "group_vars").symlink_to(ROOT / "group_vars")
    (tmp_path / "play.yaml").write_text(PLAY)

    def play(fingerprint=None, code=0):
        done = small_lab.call("ctl", "env", f"ANSIBLE_CONFIG={ROOT / 'ansible.cfg'}", "ansible-playbook", "-i", tmp_path / "inventory.yaml", tmp_path / "play.yaml",
                              "-e", "hashicorp_install_method=apt", "-e", f"hashicorp_apt_url=http://10.88.0.1:{PORT}", "-e", "hashicorp_apt_suite=./",
                              "-e", f"hashicorp_apt_fingerprint={fingerprint or repository.fingerprint}", timeout=900)
        assert done.returncode == code, done.stdout[-5000:] + done.stderr[-1000:]
        return " ".join(done.stdout.split())

    yield small_lab, repository, play
    server.terminate()
    threading.Thread(target=server.wait, daemon=True).start()


def test_signed_repository(node):
    lab, repository, play = node
    wrong = play(fingerprint="0" * 40, code=2)
    assert f"is not {'0' * 40} but" in wrong and "Nothing was installed" in wrong
    assert lab.sh("one", "ls /usr/bin/nomad /usr/bin/consul /etc/apt/sources.list.d/ 2> /dev/null; true") == "/etc/apt/sources.list.d/:"

    # a package that is not what was signed
    deb = repository.folder / f"consul_{VERSIONS['consul']}_amd64.deb"
    whole = deb.stat().st_size
    with open(deb, "r+b") as file:
        file.seek(whole // 2)
        byte = file.read(1)
        file.seek(whole // 2)
        file.write(bytes([byte[0] ^ 1]))
    refused = play(code=2)
    assert "Hash Sum mismatch" in refused or "hash" in refused.lower(), refused[-2000:]
    assert lab.sh("one", "ls /usr/bin/consul 2> /dev/null; true") == ""
    with open(deb, "r+b") as file:
        file.seek(whole // 2)
        file.write(byte)

    play()
    assert lab.sh("one", "nomad version | head -1").startswith("Nomad v1.10.5") and lab.sh("one", "consul version | head -1").startswith("Consul v1.20.6")
    assert set(lab.sh("one", "apt-mark showhold").split()) == {"consul", "nomad"}
    again = play()
    assert "changed=0" in again, again[-1500:]

    # a list that nobody signed
    time.sleep(1)
    (repository.folder / "InRelease").write_text((repository.folder / "InRelease").read_text().replace("Origin: test", "Origin: evil"))
    lab.sh("one", "apt-mark unhold nomad consul; dpkg --purge nomad; rm -f /var/lib/apt/lists/*InRelease /var/lib/apt/lists/*Packages; rm -f /etc/apt/sources.list.d/*")
    play(code=2)
    assert lab.sh("one", "ls /usr/bin/nomad 2> /dev/null; true") == ""
