#!/usr/bin/python3
"""tools/convert/whisper_ct2.py on a tiny made-up model, and tools/prepare-models when its input is missing or damaged."""

import io
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools/convert"))
try:
    import numpy as np
    import piper_split
    import whisper_ct2
except ImportError as error:
    print(f"1..0 # SKIP {error}; Debian: python3-numpy")
    sys.exit(0)

WIDTH, WORDS = 32, 5


def made_up_variables():
    rng = np.random.default_rng(7)
    f16, f32 = np.float16, np.float32
    out = {"encoder/position_encodings/encodings": (4, WIDTH), "decoder/position_encodings/encodings": (3, WIDTH)}
    out["decoder/embeddings/weight"] = (WORDS, WIDTH)
    for k, width in ((1, 80), (2, WIDTH)):
        out[f"encoder/conv{k}/weight"], out[f"encoder/conv{k}/bias"] = (WIDTH, width, 3), (WIDTH,)
    norms = ["encoder/layer_norm", "decoder/layer_norm"]
    linears = {}
    for side in ("encoder", "decoder"):
        layer = f"{side}/layer_0"
        norms += [f"{layer}/self_attention/layer_norm", f"{layer}/ffn/layer_norm"]
        linears |= {f"{layer}/self_attention/linear_0": (96, 32), f"{layer}/self_attention/linear_1": (32, 32)}
        linears |= {f"{layer}/ffn/linear_0": (128, 32), f"{layer}/ffn/linear_1": (32, 128)}
    norms.append("decoder/layer_0/attention/layer_norm")
    for k, rows in ((0, 32), (1, 64), (2, 32)):
        linears[f"decoder/layer_0/attention/linear_{k}"] = (rows, 32)
    for name in norms:
        out[name + "/gamma"], out[name + "/beta"] = (WIDTH,), (WIDTH,)
    for name, shape in linears.items():
        out[name + "/weight"], out[name + "/bias"] = shape, shape[:1]
    made = {name: rng.normal(size=shape).astype(f16) for name, shape in out.items()}
    for name in ("encoder/layer_0/self_attention/linear_0", "decoder/layer_0/self_attention/linear_0"):
        made[name + "/bias"][WIDTH : 2 * WIDTH] = 0
    made["decoder/layer_0/attention/linear_1/bias"][:WIDTH] = 0
    made["encoder/layer_norm/beta"] = made["encoder/layer_norm/beta"].astype(f32)
    return made


def ct2_file(variables):
    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<2I", 3, len(variables))
    for name, array in variables.items():
        out += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += struct.pack("<BI", {np.dtype(np.float32): 0, np.dtype(np.float16): 4}[array.dtype], array.nbytes) + array.tobytes()
    return out


def stub_file():
    header = struct.pack("<12i", 0x67676D6C, WORDS, 4, WIDTH, 2, 1, 3, WIDTH, 2, 1, 80, 1)
    filters = struct.pack("<2i", 2, 3) + bytes(4 * 6)
    words = struct.pack("<i", WORDS) + b"".join(struct.pack("<i", 2) + b"ab" for _ in range(WORDS))
    return header + filters + words, len(header + filters + words)


def read_tensors(data, pos):
    tensors = {}
    while pos < len(data):
        rank, length, kind = struct.unpack_from("<3i", data, pos)
        shape = struct.unpack_from(f"<{rank}i", data, pos + 12)[::-1]
        pos += 12 + 4 * rank
        name = data[pos : pos + length].decode()
        pos += length
        count = int(np.prod(shape))
        if kind == 8:
            blocks = np.frombuffer(data, np.uint8, count // 32 * 34, pos).reshape(-1, 34)
            scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
            values = blocks[:, 2:].view(np.int8) * scale
            pos += blocks.nbytes
        else:
            values = np.frombuffer(data, np.float16 if kind == 1 else np.float32, count, pos)
            pos += values.nbytes
        tensors[name] = (kind, values.astype(np.float32).reshape(shape))
    assert pos == len(data)
    return tensors


def convert(variables):
    stub, header = stub_file()
    out = io.BytesIO()
    count = whisper_ct2.convert(ct2_file(variables), stub, out, lambda fraction: None)
    tensors = read_tensors(out.getvalue(), header)
    assert len(tensors) == count
    return out.getvalue(), tensors


def test_tensors():
    variables = made_up_variables()
    data, tensors = convert(variables)
    assert struct.unpack_from("<i", data, 44) == (2007,)
    fused = variables["encoder/layer_0/self_attention/linear_0/weight"].astype(np.float32)
    for k, part in enumerate(("query", "key", "value")):
        kind, values = tensors[f"encoder.blocks.0.attn.{part}.weight"]
        assert kind == 8 and np.abs(values - fused[k * WIDTH : (k + 1) * WIDTH]).max() < 0.03
    assert "encoder.blocks.0.attn.key.bias" not in tensors and "decoder.blocks.0.cross_attn.key.bias" not in tensors
    assert tensors["encoder.conv1.weight"][0] == 1 and tensors["encoder.conv1.weight"][1].shape == (WIDTH, 80, 3)
    assert tensors["encoder.conv2.bias"][1].shape == (WIDTH, 1)
    assert tensors["decoder.positional_embedding"][0] == 0
    assert np.array_equal(tensors["encoder.ln_post.bias"][1], variables["encoder/layer_norm/beta"])
    assert len(tensors) == 11 + 15 + 24, len(tensors)


def test_quantised_zero():
    block = whisper_ct2.q8_0(np.zeros((1, 32), np.float16))
    assert block == bytes(34)


def refuses(action):
    try:
        action()
    except whisper_ct2.FormatError:
        return
    raise AssertionError("a damaged file was taken")


def test_damaged():
    good = ct2_file(made_up_variables())
    refuses(lambda: whisper_ct2.read_ct2(good[: len(good) // 2]))
    refuses(lambda: whisper_ct2.read_ct2(b""))
    refuses(lambda: whisper_ct2.read_ct2(struct.pack("<I", 7) + good[4:]))
    variables = made_up_variables()
    variables["encoder/layer_0/self_attention/linear_0/bias"][WIDTH] = 1
    refuses(lambda: convert(variables))
    variables = made_up_variables()
    variables["decoder/embeddings/weight"] = variables["decoder/embeddings/weight"][:-1]
    refuses(lambda: convert(variables))


def node(kind, inputs, outputs):
    names = b"".join(piper_split.field(1, n.encode()) for n in inputs) + b"".join(piper_split.field(2, n.encode()) for n in outputs)
    return piper_split.field(1, names + piper_split.field(4, kind.encode()))


def made_up_voice(kind="Ceil"):
    """A graph with the joints of a Piper voice: durations by Ceil, the decoder's first convolution."""
    weights = b"".join(
        piper_split.field(5, b"\x08\x02\x08" + bytes([width]) + b"\x08\x03" + piper_split.field(8, name.encode()))
        for name, width in (("enc.weight", 4), ("dec.weight", 6))
    )
    ports = b"".join(piper_split.floats(11, name, [1]) for name in ("input", "input_lengths", "scales"))
    ports += piper_split.floats(12, "output", [1, 1, "time"])
    graph = node("Gather", ["enc.weight", "input"], ["x"]) + node("Mul", ["x", "input_lengths", "scales"], ["w"])
    graph += node(kind, ["w"], ["/Ceil_output_0"]) + node("Mul", ["x", "/Ceil_output_0"], ["latent"])
    graph += node("Conv", ["latent", "dec.weight"], ["/dec/conv_pre/Conv_output_0"])
    graph += node("Tanh", ["/dec/conv_pre/Conv_output_0"], ["output"])
    return b"\x08\x08" + piper_split.field(7, graph + weights + ports)


def read_part(model):
    graph = piper_split.Graph(memoryview(model))
    return [n.kind for n in graph.nodes], set(graph.weights), set(graph.inputs), set(graph.outputs)


def test_split_voice():
    front, decoder = piper_split.split(made_up_voice())
    kinds, weights, inputs, outputs = read_part(front)
    assert kinds == ["Gather", "Mul", "Ceil", "Mul", "Identity", "Identity"], kinds
    assert weights == {"enc.weight"} and inputs == {"input", "input_lengths", "scales"} and outputs == {"z", "durations"}
    kinds, weights, inputs, outputs = read_part(decoder)
    assert kinds == ["Identity", "Conv", "Tanh"], kinds
    assert weights == {"dec.weight"} and inputs == {"z"} and outputs == {"output"}
    assert front.startswith(b"\x08\x08") and decoder.startswith(b"\x08\x08")


def test_split_damaged():
    good = made_up_voice()
    for bad in (b"", good[: len(good) // 2], good[:-3], made_up_voice("Floor"), b"\xff" * 40, b"\x3a\x00"):
        try:
            piper_split.split(bad)
        except piper_split.FormatError:
            continue
        raise AssertionError(f"{len(bad)} damaged bytes were taken")


def prepare(cache, *options):
    env = dict(os.environ, XDG_CACHE_HOME=str(cache))
    command = ["/usr/bin/python3", str(ROOT / "tools/prepare-models"), *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def test_prepare_says_what_is_wrong():
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "choir" / "parts"
        code, said = prepare(folder)
        assert code == 1 and "run tools/fetch-parts first" in said and "\n" not in said, said
        parts.mkdir(parents=True)
        (parts / "silero_vad-6.2.3-py3-none-any.whl").write_bytes(b"cut off")
        code, said = prepare(folder, "--models-only")
        assert code == 1 and "\n" not in said, said
        assert not list((Path(folder) / "choir" / "models").glob("*.tmp"))
        assert prepare(folder, "--wrong")[0] == 2


def main():
    tests = {name[5:].replace("_", " "): run for name, run in globals().items() if name.startswith("test_")}
    print(f"1..{len(tests)}")
    failed = 0
    for i, (name, run) in enumerate(tests.items(), 1):
        try:
            run()
            print(f"ok {i} - {name}")
        except AssertionError as why:
            failed += 1
            print(f"# line {why.__traceback__.tb_next.tb_lineno}: {why}\nnot ok {i} - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
