"""Whisper weights of CTranslate2 (float16) to the ggml file that whisper.cpp reads, with 8 bit (q8_0) matrices.

CTranslate2's layout is that of its models/model_spec.py: version, spec name, revision, then named variables. It keeps
query, key and value of an attention layer in one matrix; ggml wants three. Header, mel filters and vocabulary come from
whisper.cpp's own empty model. The rules of what is quantised are those of whisper.cpp's examples/quantize: matrices
whose rows are a multiple of 32, not the convolutions, not the positional embeddings."""

import struct

import numpy as np

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
GGML_F32, GGML_F16, GGML_Q8_0 = 0, 1, 8
FILE_TYPE_Q8_0 = 2007  # 1000 * quantisation version 2 + ftype 7
BLOCK = 32


class FormatError(Exception):
    """The input is not what this converter knows."""


def read_ct2(data):
    """Returns {name: array} of a CTranslate2 model file given as bytes."""
    pos = 0

    def take(fmt):
        nonlocal pos
        size = struct.calcsize("<" + fmt)
        if pos + size > len(data):
            raise FormatError("the CTranslate2 file ends too early")
        values = struct.unpack_from("<" + fmt, data, pos)
        pos += size
        return values

    def text():
        (length,) = take("H")
        return take(f"{length}s")[0].rstrip(b"\0").decode()

    (version,) = take("I")
    spec = text()
    if spec != "WhisperSpec" or version != 6:
        raise FormatError(f"expected WhisperSpec in file version 6, found {spec!r} in version {version}")
    _revision, count = take("2I")
    variables = {}
    for _ in range(count):
        name = text()
        (rank,) = take("B")
        shape = take(f"{rank}I") if rank else ()
        kind, size = take("BI")
        if kind not in DTYPES or pos + size > len(data):
            raise FormatError(f"variable {name!r} is damaged")
        variables[name] = np.frombuffer(data, DTYPES[kind], size // DTYPES[kind]().itemsize, pos).reshape(shape)
        pos += size
    return variables


def read_header(stub):
    """Returns (hyper-parameters, header bytes) of whisper.cpp's model without tensors."""
    hyper = struct.unpack_from("<12i", stub, 0)
    pos = 48
    mels, bins = struct.unpack_from("<2i", stub, pos)
    pos += 8 + 4 * mels * bins
    (words,) = struct.unpack_from("<i", stub, pos)
    pos += 4
    for _ in range(words):
        (length,) = struct.unpack_from("<i", stub, pos)
        pos += 4 + length
    return hyper, bytearray(stub[:pos])


def q8_0(array):
    """Blocks of 32 values: one f16 scale, 32 signed bytes."""
    x = array.astype(np.float32).reshape(-1, BLOCK)
    scale = np.abs(x).max(1) / 127
    inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
    out = np.empty((len(x), 2 + BLOCK), np.uint8)
    out[:, :2] = scale.astype(np.float16).view(np.uint8).reshape(-1, 2)
    out[:, 2:] = np.rint(x * inverse[:, None]).astype(np.int8).view(np.uint8)
    return out.tobytes()


class Writer:
    """Writes ggml tensors to a file."""

    KEEP_F32 = ("encoder.positional_embedding", "decoder.positional_embedding")
    KEEP_F16 = ("encoder.conv1.weight", "encoder.conv2.weight")

    def __init__(self, out):
        self.out = out
        self.count = 0

    def put(self, name, array):
        if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
            array = array.reshape(-1, 1)
            kind = GGML_F32
        elif array.ndim < 2 or name in self.KEEP_F32:
            kind = GGML_F32
        elif name in self.KEEP_F16 or array.shape[-1] % BLOCK:
            kind = GGML_F16
        else:
            kind = GGML_Q8_0
        if kind == GGML_Q8_0:
            payload = q8_0(np.ascontiguousarray(array, np.float16))
        else:
            payload = np.ascontiguousarray(array, np.float32 if kind == GGML_F32 else np.float16).tobytes()
        label = name.encode()
        self.out.write(struct.pack("<3i", array.ndim, len(label), kind))
        self.out.write(struct.pack(f"<{array.ndim}i", *reversed(array.shape)))
        self.out.write(label)
        self.out.write(payload)
        self.count += 1


def layer(writer, variables, width, side, index):
    """One transformer block."""
    source, target = f"{side}/layer_{index}", f"{side}.blocks.{index}"

    def norm(name, origin):
        writer.put(name + ".weight", variables[origin + "/gamma"])
        writer.put(name + ".bias", variables[origin + "/beta"])

    def linear(name, origin):
        writer.put(name + ".weight", variables[origin + "/weight"])
        writer.put(name + ".bias", variables[origin + "/bias"])

    def fused(name, origin, parts):
        weight, bias = variables[origin + "/weight"], variables[origin + "/bias"]
        for k, part in enumerate(parts):
            rows = slice(k * width, (k + 1) * width)
            writer.put(f"{name}.{part}.weight", weight[rows])
            if part != "key":
                writer.put(f"{name}.{part}.bias", bias[rows])
            elif np.any(bias[rows]):
                raise FormatError(f"{origin}: Whisper's keys have no bias, this file has one")

    norm(target + ".attn_ln", source + "/self_attention/layer_norm")
    fused(target + ".attn", source + "/self_attention/linear_0", ("query", "key", "value"))
    linear(target + ".attn.out", source + "/self_attention/linear_1")
    if side == "decoder":
        norm(target + ".cross_attn_ln", source + "/attention/layer_norm")
        linear(target + ".cross_attn.query", source + "/attention/linear_0")
        fused(target + ".cross_attn", source + "/attention/linear_1", ("key", "value"))
        linear(target + ".cross_attn.out", source + "/attention/linear_2")
    norm(target + ".mlp_ln", source + "/ffn/layer_norm")
    linear(target + ".mlp.0", source + "/ffn/linear_0")
    linear(target + ".mlp.2", source + "/ffn/linear_1")


def convert(model, stub, out, progress):
    """model, stub: bytes; out: binary file; progress(fraction) is called after each block."""
    variables = read_ct2(model)
    hyper, header = read_header(stub)
    vocabulary, width, encoders, decoders = hyper[1], hyper[3], hyper[5], hyper[9]
    if variables["decoder/embeddings/weight"].shape != (vocabulary, width):
        raise FormatError("weights and vocabulary belong to different models")
    struct.pack_into("<i", header, 44, FILE_TYPE_Q8_0)
    out.write(header)
    writer = Writer(out)
    writer.put("encoder.positional_embedding", variables["encoder/position_encodings/encodings"])
    for k in (1, 2):
        writer.put(f"encoder.conv{k}.weight", variables[f"encoder/conv{k}/weight"])
        writer.put(f"encoder.conv{k}.bias", variables[f"encoder/conv{k}/bias"])
    writer.put("encoder.ln_post.weight", variables["encoder/layer_norm/gamma"])
    writer.put("encoder.ln_post.bias", variables["encoder/layer_norm/beta"])
    writer.put("decoder.positional_embedding", variables["decoder/position_encodings/encodings"])
    writer.put("decoder.token_embedding.weight", variables["decoder/embeddings/weight"])
    writer.put("decoder.ln.weight", variables["decoder/layer_norm/gamma"])
    writer.put("decoder.ln.bias", variables["decoder/layer_norm/beta"])
    done, total = 0, encoders + decoders
    for side, blocks in (("encoder", encoders), ("decoder", decoders)):
        for index in range(blocks):
            layer(writer, variables, width, side, index)
            done += 1
            progress(done / total)
    return writer.count
