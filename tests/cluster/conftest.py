"""Labs of real nodes for the tests. A lab goes down when the tests end, however they end."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from checkout import Town, lab_name  # noqa: E402
from house import BIN, NODES, PACKAGES, House, OutOfTime, Report, seconds_left  # noqa: E402
from waiting import wait_for  # noqa: E402, F401  pylint: disable=unused-import

PROGRAM = HERE / "lab"
VENV = pathlib.Path(sys.executable).parent  # of the tests: ansible and molecule are beside python


class TestLab:
    """The program tests/cluster/lab with a lab of its own."""

    __test__ = False

    def __init__(self, name):
        self.name = name
        self.env = {**os.environ, "CHOIR_LAB": name, "PATH": f"{VENV}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.env.pop("AWS_CA_BUNDLE", None)

    def start(self, *words, **options):
        return subprocess.Popen([str(PROGRAM), *map(str, words)], env=self.env, stdin=subprocess.DEVNULL, text=True, **options)

    def call(self, *words, timeout=120, check=False, stdin=None, env=None):
        done = subprocess.run([str(PROGRAM), *map(str, words)], env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=timeout,
                              check=False, **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        if check:
            assert done.returncode == 0, f"lab {' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def up(self, *words, timeout=400):
        bound = [] if os.environ.get("CHOIR_LAB_KEEP") else ["--while", os.getpid()]
        return self.call("up", *words, *bound, timeout=timeout, check=True)

    def sh(self, node, script, timeout=120, check=True):
        """Standard output of a shell script run as root in the node."""
        return self.call("exec", node, "bash", "-c", script, timeout=timeout, check=check).stdout.strip()

    def down(self):
        self.call("down", timeout=120, check=True)

    def left_over(self):
        """Everything on this machine that still bears the lab's name."""
        mark = f"choir-{self.name}-"
        found = [p.name for p in pathlib.Path("/run/netns").glob(mark + "*")] if pathlib.Path("/run/netns").is_dir() else []
        for folder, names, _ in os.walk("/sys/fs/cgroup"):
            found += [os.path.join(folder, n) for n in names if n.startswith(mark)]
        found += [l for l in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines() if f"/labs/{self.name}/" in l]
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if mark in words or f"/labs/{self.name}/" in words:
                found.append(words)
        state = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir/cluster/labs" / self.name
        return found + ([str(state)] if state.exists() else [])


def lacks():
    """Why this machine can have no nodes, or nothing."""
    if os.geteuid():
        return "the nodes need root"
    missing = [c for c in ("systemd-nspawn", "ip", "nsenter", "ssh-keygen") if not shutil.which(c)]
    if missing:
        return f"missing: {' '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "--net", "mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode:
        return "the nodes need namespaces and mounts (CAP_SYS_ADMIN), which root may not make here"
    if not (BIN / "nomad").exists() or not (BIN / "consul").exists():
        return "no Nomad and Consul: tools/get-cluster-bins"
    return ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):  # pylint: disable=unused-argument
    try:
        return (yield)
    except OutOfTime as end:
        pytest.skip(str(end))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """CHOIR_DEADLINE (seconds since 1970): what has not begun a minute before is skipped."""
    if "house" in item.fixturenames and seconds_left() < 60:
        pytest.skip("the time of the whole run is used up")


@pytest.fixture(scope="session")
def roots():
    """The shared root of the nodes, so that no test waits for its making."""
    why = lacks()
    if why:
        pytest.skip(why)
    TestLab("base").call("base", timeout=1800, check=True)


@pytest.fixture
def small_lab(roots):  # pylint: disable=unused-argument
    """A lab for one test."""
    lab = TestLab(f"s{os.getpid()}")
    yield lab
    lab.down()
    assert lab.left_over() == []


@pytest.fixture(scope="session")
def report():
    figures = Report()
    yield figures
    figures.write()


def first_play(made):
    with made.report.phase("playbook, first time"):
        recap, output = made.play("playbook.yaml")
    bad = {n: f for n, f in recap.items() if f["failed"] or f["unreachable"]}
    if bad or sorted(recap) != sorted(NODES):
        where = max(output.find("fatal:"), output.find("[ERROR]"))
        pytest.fail(f"the playbook failed: {bad}\n{output[where:][:4000] if where >= 0 else output[-4000:]}", pytrace=False)


@pytest.fixture(scope="session")
def house(report, roots):  # pylint: disable=unused-argument
    """Three nodes, and the playbook has run over them. CHOIR_LAB_KEEP=NAME uses a lab of that name and leaves it
    there; CHOIR_LAB_PLAYED=1 says that the playbook has run over it."""
    if not (PACKAGES / "set.json").exists():
        pytest.skip("the packages were not built: ./run --packages DIR")
    if seconds_left() < 300:
        pytest.skip(f"the playbook takes minutes, and {seconds_left():.0f} s are left of the whole run")
    kept = os.environ.get("CHOIR_LAB_KEEP")
    lab = TestLab(kept or f"c{os.getpid()}")
    made = House(lab, report)
    made.own_packages()
    try:
        with report.phase("three nodes boot"):
            made.boot(*([] if kept else ["--while", os.getpid()]))
        made.write_inventory()
        if not (kept and os.environ.get("CHOIR_LAB_PLAYED")):
            first_play(made)
        yield made
    except OutOfTime as end:
        pytest.skip(str(end))
    finally:
        if not kept:
            lab.down()
            assert lab.left_over() == []


@pytest.fixture(scope="session")
def town(roots):  # pylint: disable=unused-argument
    """A cluster as a person makes it, by bootstrap.sh on bare machines, as far as a test asks for it."""
    name, stays = lab_name("")
    lab = TestLab(name)
    try:
        yield Town(lab)
    finally:
        if not stays:
            lab.down()
            assert lab.left_over() == []
