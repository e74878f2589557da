"""`choir bench node`: what one machine can do, measured by the engine's own kernels, and the sums made from it."""

import json
import os
import subprocess

import pytest
from conftest import BUILD

QUICK = ["--seconds", "0.002"]


def bench(*words, env=None):
    return subprocess.run([str(BUILD / "choir"), "bench", "node", *words], capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, **(env or {})})


@pytest.fixture(scope="module")
def figures():
    done = bench("--json", *QUICK)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_and_kernels_are_measured(figures):
    assert [row["threads"] for row in figures["memory"]][-1] == figures["threads"] == figures["cpu"]["processors"]
    assert figures["gb_s"] == max(row["gb_s"] for row in figures["memory"]) > 0.1
    types = {row["type"]: row for row in figures["kernels"]}
    assert {"q4_0", "q4_1", "q8_0", "q4_K", "q6_K", "f16"} <= set(types)
    for row in types.values():
        assert row["prefill_gmac_s"] > 0
        assert row["decode_gb_s"] == pytest.approx(row["decode_gmac_s"] * row["bits"] / 8)
    assert figures["gmac_s"] == types["q4_K"]["prefill_gmac_s"]
    assert figures["cpu"]["class"] in ("x86-64", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "avx512")
    assert figures["ram_mb"] > 500


def test_what_a_model_can_expect_follows_from_its_file(figures):
    """SmolLM2 Q4_1 has 66,355,200 bytes of q4_1 and, as the tied head, 30,081,024 of q8_0 (no prompt token needs that)."""
    types = {row["type"]: row for row in figures["kernels"]}
    model = next(row for row in figures["models"] if row["name"] == "SmolLM2-135M-Instruct")
    assert model["from"] == "file"
    assert model["fits"] is True
    seconds = 66355200 / 1e9 / types["q4_1"]["decode_gb_s"] + 30081024 / 1e9 / types["q8_0"]["decode_gb_s"]
    assert model["decode_t_s"] == pytest.approx(1 / seconds)
    assert model["prefill_t_s"] == pytest.approx(types["q4_1"]["prefill_gmac_s"] / 0.1061683200)
    assert model["bound_t_s"] == pytest.approx(figures["gb_s"] / 0.096436224)


def test_a_listed_model_that_is_not_here_is_judged_by_its_size(figures):
    rows = [row for row in figures["models"] if row["from"] == "size"]
    assert rows
    assert all(row["decode_t_s"] > 0 and row["prefill_t_s"] > 0 and row["bound_t_s"] > 0 for row in rows)


def test_the_variant_that_was_chosen_is_named(figures):
    done = bench("--json", *QUICK, env={"CHOIR_CPU_VARIANT": "core2"})
    assert done.returncode == 0, done.stderr
    forced = json.loads(done.stdout)
    assert forced["variant"]["name"] == "core2"
    assert "SSSE3 kernels over" in forced["variant"]["why"]
    assert figures["variant"]["name"]


def test_a_person_gets_a_table():
    done = bench(*QUICK)
    assert done.returncode == 0, done.stderr
    assert "SmolLM2-135M-Instruct" in done.stdout
    assert "GB/s" in done.stdout


@pytest.mark.parametrize(("words", "said"), [
    (["--threads", "-1"], "between 1 and 256"), (["--seconds", "0"], "between 0.001 and 60"), (["more"], "is not expected"),
])
def test_wrong_usage_is_said(words, said):
    done = bench(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_engine_that_is_not_there_is_said(tmp_path):
    done = bench("--engine", str(tmp_path))
    assert done.returncode == 1
    assert "no CPU back end" in done.stderr
    assert "./run --setup-only" in done.stderr
