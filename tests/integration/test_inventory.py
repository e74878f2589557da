"""tools/inventory: edits that keep what a person wrote, refuse what is no name, and may run at once."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import pathlib
import random
import subprocess
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/inventory"
LOADER = importlib.machinery.SourceFileLoader("inventory_tool", str(TOOL))
MODULE = importlib.util.module_from_spec(importlib.util.spec_from_loader("inventory_tool", LOADER))
LOADER.exec_module(MODULE)
TEXT = """\
# our machines
all:
  vars:
    house: "lower"   # kept
  children:
    controller_nodes:   # the brain
      hosts:
        # the old tower under the desk
        devbox:
          ansible_host: 10.0.0.11   # fixed in the router
          ansible_connection: local
    worker_nodes:
      hosts:
        # kitchen
        node1:
          ansible_host: "10.0.0.12"

          choir_shelf: top  # second from left
        node2: {}
        node3:
          ansible_host: 10.0.0.14
      # end of the workers
    pxe_server:
      hosts: {}   # none yet
"""


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "inventory.yaml"
    path.write_text(TEXT)
    return path


def run(path, *words, good=True):
    """As the program does it, without a new process for each step."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = MODULE.run(["--file", str(path), *words])
    if good:
        assert code == 0, err.getvalue()
    return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def program(path, *words):
    return subprocess.run([TOOL, "--file", path, *words], capture_output=True, text=True, timeout=120)


def hosts(path, group):
    return yaml.safe_load(path.read_text())["all"]["children"][group]["hosts"]


def test_add_keeps_every_other_line(book):
    run(book, "add", "worker_nodes", "node4", "ansible_host=10.0.0.15", "choir_machine_id=0123")
    lines = book.read_text().splitlines()
    assert [l for l in TEXT.splitlines() if l not in lines] == []
    assert hosts(book, "worker_nodes")["node4"] == {"ansible_host": "10.0.0.15", "choir_machine_id": "0123"}
    assert lines[lines.index("      # end of the workers") - 1].strip() == 'choir_machine_id: "0123"'


def test_a_second_edit_touches_nothing(book):
    run(book, "add", "worker_nodes", "node4", "ansible_host=10.0.0.15")
    os.utime(book, (1, 1))
    assert "unchanged" in run(book, "add", "worker_nodes", "node4", "ansible_host=10.0.0.15").stdout
    assert book.stat().st_mtime == 1
    assert "unchanged" in run(book, "remove", "nobody").stdout


def test_empty_groups_get_their_first_host(book):
    run(book, "add", "pxe_server", "boot1")
    run(book, "add", "spare", "node9", "ansible_host=fd00::9")
    assert hosts(book, "pxe_server") == {"boot1": {}}
    assert "hosts:  # none yet" in book.read_text()
    assert hosts(book, "spare") == {"node9": {"ansible_host": "fd00::9"}}


def test_an_address_changes_in_its_line(book):
    run(book, "set", "devbox", "ansible_host=10.0.0.99")
    assert "ansible_host: 10.0.0.99   # fixed in the router" in book.read_text()
    run(book, "add", "worker_nodes", "node2", "ansible_host=10.0.0.13")
    assert hosts(book, "worker_nodes")["node2"] == {"ansible_host": "10.0.0.13"}


def test_promotion_moves_comments_and_values(book):
    run(book, "move", "node1", "controller_nodes")
    text = book.read_text()
    assert hosts(book, "controller_nodes")["node1"] == {"ansible_host": "10.0.0.12", "choir_shelf": "top"}
    assert "node1" not in hosts(book, "worker_nodes")
    assert text.index("# kitchen") < text.index("node1:") < text.index("worker_nodes:")
    assert "# second from left" in text and "# the old tower under the desk" in text
    run(book, "move", "node1", "worker_nodes")
    for node in ("node1", "node2", "node3"):
        run(book, "move", node, "controller_nodes")
    assert hosts(book, "worker_nodes") == {} and len(hosts(book, "controller_nodes")) == 4
    assert "# end of the workers" in book.read_text()
    run(book, "move", "node3", "worker_nodes")
    assert list(hosts(book, "worker_nodes")) == ["node3"]


def test_rename_keeps_everything_else(book):
    run(book, "rename", "devbox", "atlas")
    assert book.read_text() == TEXT.replace("devbox:", "atlas:")
    assert run(book, "rename", "atlas", "node1", good=False).returncode == 1
    assert run(book, "rename", "nobody", "x", good=False).returncode == 1
    assert run(book, "rename", "atlas", "localhost", good=False).returncode == 1


def test_the_inventory_of_the_repository(tmp_path):
    path = tmp_path / "inventory.yaml"
    text = (ROOT / "inventory.yaml").read_text()
    path.write_text(text)
    run(path, "check")
    first = run(path, "list", "controller_nodes").stdout.split("\t")[0]
    run(path, "rename", first, "atlas9")
    run(path, "add", "worker_nodes", "node91", "ansible_host=10.9.9.2")
    run(path, "add", "worker_nodes", "node92", "ansible_host=10.9.9.3")
    run(path, "move", "node91", "controller_nodes")
    assert {"atlas9", "node91"} <= set(hosts(path, "controller_nodes")) and "node92" in hosts(path, "worker_nodes")
    comments = [l for l in text.splitlines() if l.strip().startswith("#")]
    assert [l for l in comments if l not in path.read_text().splitlines()] == []


def test_any_order_of_edits_means_what_it_says(book):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    wanted = {h: "worker_nodes" for h in hosts(book, "worker_nodes")}
    for _ in range(60):
        host = f"node{chance.randrange(8)}"
        if host not in wanted:
            run(book, "add", "worker_nodes", host, f"ansible_host=10.0.0.{chance.randrange(1, 250)}")
            wanted[host] = "worker_nodes"
        elif chance.random() < 0.3:
            run(book, "remove", host)
            del wanted[host]
        else:
            wanted[host] = chance.choice(["worker_nodes", "controller_nodes"])
            run(book, "move", host, wanted[host])
    for group in ("worker_nodes", "controller_nodes"):
        assert set(hosts(book, group)) - {"devbox"} == {h for h, g in wanted.items() if g == group}
    assert "# fixed in the router" in book.read_text() and "house: \"lower\"   # kept" in book.read_text()


def test_many_at_once_lose_nothing(book):
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: program(book, "add", "worker_nodes", f"many{i}", f"ansible_host=10.1.0.{i + 1}"), range(8)))
    assert [d.returncode for d in done] == [0] * 8, done
    assert {f"many{i}" for i in range(8)} < set(hosts(book, "worker_nodes"))
    assert [p.name for p in book.parent.iterdir()] == ["inventory.yaml"]


@pytest.mark.parametrize("name", ["Atlas", "a b", "-x", "x-", "a..b", "../x", "{{x}}", "x" * 64, "", "10.0.0.3", "all", "a\nb", "a:b", "ünder", "a_b"])
def test_what_is_no_name_is_refused(book, name):
    done = run(book, "add", "worker_nodes", name, good=False)
    assert done.returncode == 1 and "cannot be a host's name" in done.stderr
    assert book.read_text() == TEXT


@pytest.mark.parametrize("value", ["ansible_host={{ lookup('pipe','id') }}", "ansible_host=10.0.0.300", "ansible_host=0.0.0.0", "ansible_host=a b",
                                   "choir_note={% set x %}", "choir_note=a\nb: c", "choir_note=" + "x" * 600])
def test_what_is_no_value_is_refused(book, value):
    done = run(book, "add", "worker_nodes", "node9", value, good=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert book.read_text() == TEXT


def test_values_that_look_like_something_else_stay_text(book):
    for number, value in enumerate(["yes", "0123", "1e3", "null", "a: b", "# no comment", "'", '"', "[x]"]):
        run(book, "add", "worker_nodes", "node9", f"v{number}={value}")
        assert hosts(book, "worker_nodes")["node9"][f"v{number}"] == value


def test_refusals_name_the_way_out(book):
    done = run(book, "add", "worker_nodes", "devbox", good=False)
    assert done.returncode == 1 and "tools/inventory move devbox worker_nodes" in done.stderr
    assert run(book, "move", "nobody", "worker_nodes", good=False).returncode == 1
    assert run(book, "fly", good=False).returncode == 2 and run(book, good=False).returncode == 2
    book.write_text("all:\n  children: {worker_nodes: {hosts: {a: {ansible_host: 10.0.0.1}}}}\n")
    done = run(book, "add", "worker_nodes", "node9", good=False)
    assert done.returncode == 1 and "line 2" in done.stderr
    book.write_text("all: [\n")
    assert "not YAML" in run(book, "list", good=False).stderr


def test_check_finds_a_host_in_two_groups(book):
    run(book, "check")
    book.write_text(TEXT.replace("        node2: {}\n", "        devbox: {}\n"))
    done = run(book, "check", good=False)
    assert done.returncode == 1 and "devbox is in controller_nodes and in worker_nodes" in done.stderr


def test_a_missing_file_is_made(tmp_path):
    path = tmp_path / "inventory.yaml"
    run(path, "add", "controller_nodes", "atlas", "ansible_host=10.0.0.2", "ansible_connection=local")
    assert run(path, "get", "atlas", "ansible_host").stdout == "10.0.0.2\n"
    assert run(path, "find", "ansible_host=10.0.0.2").stdout == "atlas\n"
    assert run(path, "list").stdout == "atlas\tcontroller_nodes\t10.0.0.2\n"
    run(path, "check")
