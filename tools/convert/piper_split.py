"""Splits a Piper voice (one ONNX graph) into two that a speaker can use piece by piece.

front:    input, input_lengths, scales -> z [1, channels, frames], durations [1, 1, ids] (frames for each phoneme id)
decoder:  z -> output, any run of frames at a time

The original computes both inside: durations is the value that Ceil makes (VITS: ceil(exp(logw) * length_scale)), z what
the first convolution of the decoder reads. Nodes and weights are copied byte for byte; only the lists of inputs and
outputs are new. The protobuf wire format is read directly, so that no onnx package is needed.
Format: onnx/onnx.proto3 (ModelProto.graph = 7; GraphProto.node = 1, name = 2, initializer = 5, input = 11, output = 12)."""

GRAPH = 7
NODE, NAME, INITIALIZER, INPUT, OUTPUT = 1, 2, 5, 11, 12
FLOAT = 1


class FormatError(Exception):
    """Not a Piper voice as exported by rhasspy's piper (VITS)."""


def varint(data, pos):
    value = shift = 0
    while True:
        if pos >= len(data) or shift > 63:
            raise FormatError("the file is cut off")
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, pos


def put_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, payload):
    return put_varint(number << 3 | 2) + put_varint(len(payload)) + payload


def fields(data):
    """(number, whole bytes of the field, payload or None) of each field of a message."""
    pos = 0
    while pos < len(data):
        start = pos
        tag, pos = varint(data, pos)
        kind, payload = tag & 7, None
        if kind == 0:
            _value, pos = varint(data, pos)
        elif kind == 2:
            length, pos = varint(data, pos)
            payload = data[pos : pos + length]
            if len(payload) != length:
                raise FormatError("the file is cut off")
            pos += length
        elif kind in (1, 5):
            pos += 8 if kind == 1 else 4
        else:
            raise FormatError("the file is no protobuf message")
        yield tag >> 3, data[start:pos], payload


def strings(message, number):
    return [bytes(payload).decode() for key, _raw, payload in fields(message) if key == number and payload is not None]


class Node:
    def __init__(self, raw, payload):
        self.raw = raw
        self.inputs = [name for name in strings(payload, 1) if name]
        self.outputs = strings(payload, 2)
        self.kind = (strings(payload, 4) or [""])[0]
        if any(key == 5 and b"g" in payload and has_subgraph(attribute) for key, _raw, attribute in fields(payload)):
            raise FormatError("the graph has branches")


def has_subgraph(attribute):
    return any(key in (6, 11) for key, _raw, _payload in fields(attribute))


class Graph:
    def __init__(self, model):
        self.rest = b""  # of the model, without the graph
        graph = None
        for key, raw, payload in fields(model):
            if key == GRAPH:
                graph = payload
            else:
                self.rest += bytes(raw)
        if graph is None:
            raise FormatError("the file holds no graph")
        self.nodes, self.weights, self.inputs, self.outputs = [], {}, {}, {}
        for key, raw, payload in fields(graph):
            if key == NODE:
                self.nodes.append(Node(raw, payload))
            elif key == INITIALIZER:
                self.weights[strings(payload, 8)[0]] = raw
            elif key in (INPUT, OUTPUT):
                (self.inputs if key == INPUT else self.outputs)[strings(payload, 1)[0]] = raw
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.outputs}

    def needed(self, targets, given):
        """Indices of the nodes, and names of the weights and inputs, that make targets out of given."""
        nodes, leaves, todo, seen = set(), set(), list(targets), set(given)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.maker:
                if self.maker[name] not in nodes:
                    nodes.add(self.maker[name])
                    todo += self.nodes[self.maker[name]].inputs
            else:
                leaves.add(name)
        return nodes, leaves

    def part(self, name, targets, given, before, after, ports):
        """A model of the nodes that make targets out of given; before and after are nodes added around them."""
        nodes, leaves = self.needed(targets, given)
        unknown = leaves - set(self.weights) - (set(self.inputs) if not given else set())
        if unknown:
            raise FormatError(f"the {name} needs {sorted(unknown)[0]} too")
        out = before + [bytes(self.nodes[i].raw) for i in sorted(nodes)] + after
        out.append(field(NAME, name.encode()))
        out += [bytes(self.weights[leaf]) for leaf in sorted(leaves & set(self.weights))]
        return self.rest + field(GRAPH, b"".join(out + ports))


def identity(old, new):
    return field(NODE, field(1, old.encode()) + field(2, new.encode()) + field(4, b"Identity"))


def floats(number, name, dims):
    """A ValueInfoProto of float32; dims are names or numbers."""
    shape = b"".join(field(1, field(2, d.encode()) if isinstance(d, str) else b"\x08" + put_varint(d)) for d in dims)
    tensor = b"\x08" + put_varint(FLOAT) + field(2, shape)
    return field(number, field(1, name.encode()) + field(2, field(1, tensor)))


def find_cut(graph):
    """Names of the durations and of the decoder's input."""
    ceil = [node for node in graph.nodes if node.kind == "Ceil" and node.outputs[0].startswith("/Ceil")]
    first = [node for node in graph.nodes if node.kind == "Conv" and any("/dec/conv_pre" in name for name in node.outputs)]
    if len(ceil) != 1 or len(first) != 1 or set(graph.inputs) != {"input", "input_lengths", "scales"} or "output" not in graph.outputs:
        raise FormatError("the graph is not that of a Piper voice with one speaker")
    return ceil[0].outputs[0], first[0].inputs[0]


def channels(graph, z):
    """Width of z: the second dimension of the first decoder convolution's weights."""
    conv = next(node for node in graph.nodes if node.kind == "Conv" and node.inputs[0] == z)
    for _key, _raw, payload in fields(bytes(graph.weights[conv.inputs[1]])):
        dims = []
        for key, raw, packed in fields(payload):
            if key == 1 and packed is None:
                dims.append(varint(raw, 1)[0])
            elif key == 1:
                pos = 0
                while pos < len(packed):
                    value, pos = varint(packed, pos)
                    dims.append(value)
        if len(dims) == 3:
            return dims[1]
    raise FormatError("the decoder's first convolution has another shape")


def split(model):
    """(front, decoder) as bytes. Deterministic."""
    graph = Graph(memoryview(model))
    durations, z = find_cut(graph)
    shape = [1, channels(graph, z), "frames"]
    front = graph.part("front", [z, durations], (), [], [identity(z, "z"), identity(durations, "durations")],
                       [bytes(raw) for raw in graph.inputs.values()]
                       + [floats(OUTPUT, "z", shape), floats(OUTPUT, "durations", [1, 1, "ids"])])
    decoder = graph.part("decoder", ["output"], [z], [identity("z", z)], [],
                         [floats(INPUT, "z", shape), bytes(graph.outputs["output"])])
    return front, decoder
