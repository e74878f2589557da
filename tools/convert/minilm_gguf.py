"""all-MiniLM-L6-v2 (BERT, safetensors, float32) to the GGUF file that llama-server reads, with 8 bit (q8_0) matrices.

Layouts: https://github.com/huggingface/safetensors and ggml's docs/gguf.md. llama.cpp's vocabulary of word pieces marks
the beginning of a word with U+2581 where BERT marks its continuation with ##."""

import json
import struct

import numpy as np

ALIGN = 32
F32, Q8_0 = 0, 8
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
NORMAL, CONTROL = 1, 3
NAMES = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
LAYERS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
UNUSED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}


class FormatError(Exception):
    """The input is not what this converter knows."""


def read_safetensors(data):
    """Returns {name: float32 array}."""
    if len(data) < 8:
        raise FormatError("the file of tensors ends too early")
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise FormatError("the file of tensors ends too early")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__" or name in UNUSED:
            continue
        begin, end = entry["data_offsets"]
        count = int(np.prod(entry["shape"]))
        if entry["dtype"] != "F32" or end - begin != 4 * count or 8 + length + end > len(data):
            raise FormatError(f"tensor {name!r} is damaged or not float32")
        tensors[name] = np.frombuffer(data, np.float32, count, 8 + length + begin).reshape(entry["shape"])
    return tensors


def rename(name):
    if name in NAMES:
        return NAMES[name]
    parts = name.split(".", 3)
    if len(parts) == 4 and parts[:2] == ["encoder", "layer"] and parts[2].isdigit():
        base, _, suffix = parts[3].rpartition(".")
        if base in LAYERS:
            return f"blk.{parts[2]}.{LAYERS[base]}.{suffix}"
    raise FormatError(f"there is no place for tensor {name!r}")


def q8_0(array):
    """Blocks of 32 values: one half float scale, 32 signed bytes. Rounds as ggml's quantize_row_q8_0_ref does."""
    blocks = array.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    values = blocks * inverse
    rounded = np.trunc(values + np.copysign(np.float32(0.5), values)).astype(np.int8)
    return np.hstack([scale.astype(np.float16).view(np.uint8), rounded.view(np.uint8)]).tobytes()


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key, kind, value):
    head = text(key) + struct.pack("<I", kind)
    if kind == STRING:
        return head + text(value)
    if kind == ARRAY:
        inner, values = value
        body = b"".join(text(v) if inner == STRING else struct.pack("<i", v) for v in values)
        return head + struct.pack("<IQ", inner, len(values)) + body
    return head + struct.pack({U32: "<I", FLOAT: "<f", BOOL: "<?"}[kind], value)


def metadata(config, vocabulary):
    tokens, kinds = [], []
    for token in vocabulary:
        control = token.startswith("[") and token.endswith("]") and len(token) > 2
        tokens.append(token if control else token[2:] if token.startswith("##") else "\u2581" + token)
        kinds.append(CONTROL if control else NORMAL)
    index = vocabulary.index
    return [
        pair("general.architecture", STRING, "bert"),
        pair("general.name", STRING, "all-MiniLM-L6-v2"),
        pair("general.file_type", U32, 7),
        pair("general.quantization_version", U32, 2),
        pair("bert.context_length", U32, config["max_position_embeddings"]),
        pair("bert.embedding_length", U32, config["hidden_size"]),
        pair("bert.feed_forward_length", U32, config["intermediate_size"]),
        pair("bert.block_count", U32, config["num_hidden_layers"]),
        pair("bert.attention.head_count", U32, config["num_attention_heads"]),
        pair("bert.attention.layer_norm_epsilon", FLOAT, config["layer_norm_eps"]),
        pair("bert.attention.causal", BOOL, False),
        pair("bert.pooling_type", U32, 1),
        pair("tokenizer.ggml.model", STRING, "bert"),
        pair("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        pair("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        pair("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        pair("tokenizer.ggml.unknown_token_id", U32, index("[UNK]")),
        pair("tokenizer.ggml.seperator_token_id", U32, index("[SEP]")),
        pair("tokenizer.ggml.padding_token_id", U32, index("[PAD]")),
        pair("tokenizer.ggml.mask_token_id", U32, index("[MASK]")),
        pair("tokenizer.ggml.bos_token_id", U32, index("[CLS]")),
        pair("tokenizer.ggml.cls_token_id", U32, index("[CLS]")),
        pair("tokenizer.ggml.eos_token_id", U32, index("[SEP]")),
    ]


def convert(config, vocabulary, safetensors, out):
    """config: the bytes of config.json; vocabulary: of vocab.txt; safetensors: of model.safetensors."""
    pairs = metadata(json.loads(config), vocabulary.decode().rstrip("\n").split("\n"))
    infos, blobs, offset = [], [], 0
    for name, array in read_safetensors(safetensors).items():
        target = rename(name.removeprefix("bert."))
        plain = array.ndim != 2 or target in ("position_embd.weight", "token_types.weight")
        blob = array.tobytes() if plain else q8_0(array)
        dims = struct.pack(f"<I{array.ndim}Q", array.ndim, *reversed(array.shape))
        infos.append(text(target) + dims + struct.pack("<IQ", F32 if plain else Q8_0, offset))
        blobs.append(blob + bytes(-len(blob) % ALIGN))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    out.write(head + bytes(-len(head) % ALIGN))
    for blob in blobs:
        out.write(blob)
