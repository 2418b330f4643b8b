"""Makes text_bert/ and text_distilbert/: small encoders of random weights, as
Hugging Face lays their directories out, each with expected.safetensors: the
ids of sentences, and what the formulas of model/README.md give for them,
worked out here in numpy with 64-bit floats.

    python3 make_text.py .

expected.safetensors has, sentence after sentence:
    counts (N), ids (T), types (T)
    first (N, D)    last hidden state of the first token
    along (T)       every token's last hidden state times direction (D)
    logits (N, L)   of the classification head
test_text.c reads them; they never change."""

import json
import os
import sys
from math import erf

import numpy as np
from safetensors.numpy import save_file

LAYERS, WIDTH, HEADS, FFN, IDS, POSITIONS, LABELS = 2, 32, 4, 64, 120, 48, 3
EPSILON = 1e-12
ERF = np.vectorize(erf)


def bf16(x):
    """Rounded to nearest even, as the upper halves of 32-bit floats."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def norm(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight + bias


def gelu(x):
    return 0.5 * x * (1 + ERF(x / np.sqrt(2)))


class Encoder:
    def __init__(self, weights, names, types):
        self.w = weights
        self.names = names
        self.types = types

    def dense(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, x, name):
        return norm(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def attention(self, x, layer):
        q, k, v = (self.dense(x, layer + self.names[i]).reshape(
            len(x), HEADS, -1).transpose(1, 0, 2) for i in range(3))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        return mixed.transpose(1, 0, 2).reshape(len(x), -1)

    def hidden(self, ids, types):
        e = "embeddings."
        x = self.w[e + "word_embeddings.weight"][ids] + \
            self.w[e + "position_embeddings.weight"][:len(ids)]
        if self.types:
            x = x + self.w[e + "token_type_embeddings.weight"][types]
        x = self.norm(x, e + "LayerNorm")
        for i in range(LAYERS):
            layer = f"{self.names[8]}.{i}."
            mixed = self.attention(x, layer)
            x = self.norm(x + self.dense(mixed, layer + self.names[3]),
                          layer + self.names[4])
            inner = gelu(self.dense(x, layer + self.names[5]))
            x = self.norm(x + self.dense(inner, layer + self.names[6]),
                          layer + self.names[7])
        return x


BERT = ["attention.self.query", "attention.self.key", "attention.self.value",
        "attention.output.dense", "attention.output.LayerNorm",
        "intermediate.dense", "output.dense", "output.LayerNorm",
        "encoder.layer"]
DISTILBERT = ["attention.q_lin", "attention.k_lin", "attention.v_lin",
              "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2",
              "output_layer_norm", "transformer.layer"]


def random_weights(rnd, names, types, pooler):
    w = {}

    def put(name, *shape, center=0.0, spread=0.1):
        w[name] = center + spread * rnd.standard_normal(shape)

    def dense(name, rows, cols, spread):
        put(name + ".weight", rows, cols, spread=spread)
        put(name + ".bias", rows)

    def norm_of(name):
        put(name + ".weight", WIDTH, center=1.0)
        put(name + ".bias", WIDTH)

    put("embeddings.word_embeddings.weight", IDS, WIDTH, spread=1.0)
    put("embeddings.position_embeddings.weight", POSITIONS, WIDTH, spread=0.5)
    if types:
        put("embeddings.token_type_embeddings.weight", 2, WIDTH, spread=0.5)
    norm_of("embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"{names[8]}.{i}."
        for part in (0, 1, 2, 3):
            dense(layer + names[part], WIDTH, WIDTH, 0.3)
        norm_of(layer + names[4])
        dense(layer + names[5], FFN, WIDTH, 0.3)
        dense(layer + names[6], WIDTH, FFN, 0.2)
        norm_of(layer + names[7])
    dense(pooler, WIDTH, WIDTH, 0.3)
    dense("classifier", LABELS, WIDTH, 0.5)
    return w


def sentences(rnd, count, types):
    made = []
    for _ in range(count):
        n = int(np.clip(np.exp(rnd.normal(2.5, 0.6)), 2, POSITIONS))
        ids = rnd.integers(5, IDS, n)
        ids[0], ids[-1] = 2, 3
        kind = np.zeros(n, np.int64)
        if types and rnd.random() < 0.3:
            kind[rnd.integers(1, n):] = 1
        made.append((ids, kind))
    return made


def write(rnd, folder, config, names, types, pooler, prefix, half):
    os.makedirs(folder, exist_ok=True)
    w = random_weights(rnd, names, types, pooler)
    heads = ("classifier", "pre_classifier")
    stored, read = {}, {}
    for name, value in w.items():
        full = name if name.startswith(heads) else prefix + name
        if half == "F16":
            stored[full] = value.astype(np.float16)
            read[name] = stored[full].astype(np.float64)
        else:
            bits = bf16(value)
            stored[full] = bits
            read[name] = (bits.astype(np.uint32) << 16).view(
                np.float32).astype(np.float64)
    path = os.path.join(folder, "model.safetensors")
    save_file(stored, path)
    if half == "BF16":  # numpy has no such type: the header is told
        with open(path, "rb") as f:
            raw = f.read()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + length])
        for entry in header.values():
            entry["dtype"] = "BF16"
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + raw[8 + length:])
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"{'##' if i % 3 == 0 else ''}{chr(97 + i % 26)}{i // 26 or ''}"
              for i in range(IDS - len(words))]
    with open(os.path.join(folder, "vocab.txt"), "w") as f:
        f.writelines(word + "\n" for word in words)

    encoder = Encoder(read, names, types)
    direction = rnd.choice([-1.0, 1.0], WIDTH)
    made = sentences(rnd, 1000, types)
    hidden = [encoder.hidden(ids, kind) for ids, kind in made]
    first = np.stack([h[0] for h in hidden])
    pooled = encoder.dense(first, pooler)
    pooled = np.tanh(pooled) if types else np.maximum(pooled, 0)
    save_file({
        "counts": np.array([len(i) for i, _ in made], np.int32),
        "ids": np.concatenate([i for i, _ in made]).astype(np.int32),
        "types": np.concatenate([t for _, t in made]).astype(np.uint8),
        "first": first.astype(np.float32),
        "along": np.concatenate([h @ direction for h in hidden]).astype(
            np.float32),
        "direction": direction.astype(np.float32),
        "logits": encoder.dense(pooled, "classifier").astype(np.float32),
    }, os.path.join(folder, "expected.safetensors"))


def main():
    rnd = np.random.default_rng(20)
    labels = {"0": "bad", "1": "fair", "2": "good"}
    shared = {"vocab_size": IDS, "max_position_embeddings": POSITIONS,
              "id2label": labels,
              "label2id": {name: int(i) for i, name in labels.items()}}
    write(rnd, os.path.join(sys.argv[1], "text_bert"), {
        "model_type": "bert", "hidden_size": WIDTH, "hidden_act": "gelu",
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": FFN, "type_vocab_size": 2,
        "layer_norm_eps": EPSILON, **shared}, BERT, True, "pooler.dense",
        "bert.", "BF16")
    write(rnd, os.path.join(sys.argv[1], "text_distilbert"), {
        "model_type": "distilbert", "dim": WIDTH, "activation": "gelu",
        "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": FFN, **shared},
        DISTILBERT, False, "pre_classifier", "distilbert.", "F16")


main()
