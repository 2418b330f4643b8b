"""Makes behaviour_v1.safetensors: a small behaviour transformer of random
weights, one user's tokens, and the hidden states that the formulas of
model/README.md give, worked out here in numpy with 64-bit floats.

    python3 make_behaviour.py behaviour_v1.safetensors

test_behaviour_golden.c reads the file; it never changes, a new version of the
model gets a new name."""

import sys

import numpy as np
from safetensors.numpy import save_file

LAYERS, WIDTH, HEADS, FFN, WINDOW = 2, 16, 2, 24, 20
ITEMS, BUCKETS, TYPES = 9, 2, 5
EPSILON = 1e-5


def distance_bucket(distance):
    """0 .. 15 each its own, then four to an octave, 32 in all."""
    if distance < 16:
        return distance
    octave = int(np.floor(np.log2(distance)))
    quarter = int((distance / 2.0**octave - 1) * 4)
    return min(31, 16 + 4 * (octave - 4) + quarter)


def time_bucket(query, key):
    """floor(log2(1 + gap)) of units of 1.024 s, late events at no gap."""
    gap = max(0, query - key)
    return min(31, int(np.floor(np.log2(1 + gap))))


def norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * weight + bias


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(w, layer, x, units):
    """Every token over itself and those before it."""
    tensor = lambda name: w[f"layers.{layer}.{name}"]
    query = x @ tensor("query.weight") + tensor("query.bias")
    both = x @ tensor("keyvalue.weight") + tensor("keyvalue.bias")
    key, value = both[:, :WIDTH], both[:, WIDTH:]
    size = WIDTH // HEADS
    out = np.zeros_like(x)
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        for i in range(len(x)):
            score = key[: i + 1, part] @ query[i, part] / np.sqrt(size)
            for j in range(i + 1):
                score[j] += tensor("distance.bias")[h, distance_bucket(i - j)]
                score[j] += tensor("time.bias")[h, time_bucket(units[i], units[j])]
            weight = np.exp(score - score.max())
            out[i, part] = weight @ value[: i + 1, part] / weight.sum()
    return out @ tensor("output.weight") + tensor("output.bias")


def forward(w, rows, time_ms):
    units = (time_ms - time_ms[0]) // 1024
    x = w["embedding.position.weight"][: len(rows)].copy()
    x += w["embedding.item.weight"][rows[:, 0]] * np.sqrt(WIDTH)
    x += w["embedding.type.weight"][rows[:, 1]]
    for l in range(LAYERS):
        tensor = lambda name: w[f"layers.{l}.{name}"]
        h = norm(x, tensor("norm1.weight"), tensor("norm1.bias"))
        x = x + attention(w, l, h, units)
        h = norm(x, tensor("norm2.weight"), tensor("norm2.bias"))
        h = gelu(h @ tensor("up.weight") + tensor("up.bias"))
        x = x + h @ tensor("down.weight") + tensor("down.bias")
    return norm(x, w["norm.weight"], w["norm.bias"])


def random_weights(rng):
    shapes = {
        "embedding.item.weight": (ITEMS + BUCKETS + 1, WIDTH),
        "embedding.type.weight": (TYPES, WIDTH),
        "embedding.position.weight": (2 * WINDOW, WIDTH),
        "norm.weight": (1, WIDTH),
        "norm.bias": (1, WIDTH),
    }
    for l in range(LAYERS):
        for name, shape in {
            "norm1.weight": (1, WIDTH),
            "norm1.bias": (1, WIDTH),
            "query.weight": (WIDTH, WIDTH),
            "query.bias": (1, WIDTH),
            "keyvalue.weight": (WIDTH, 2 * WIDTH),
            "keyvalue.bias": (1, 2 * WIDTH),
            "distance.bias": (HEADS, 32),
            "time.bias": (HEADS, 32),
            "output.weight": (WIDTH, WIDTH),
            "output.bias": (1, WIDTH),
            "norm2.weight": (1, WIDTH),
            "norm2.bias": (1, WIDTH),
            "up.weight": (WIDTH, FFN),
            "up.bias": (1, FFN),
            "down.weight": (FFN, WIDTH),
            "down.bias": (1, WIDTH),
        }.items():
            shapes[f"layers.{l}.{name}"] = shape
    weights = {}
    for name, shape in shapes.items():
        weights[name] = rng.normal(0, 0.35, shape).astype(np.float32)
        if name.endswith("norm.weight") or ".norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def main():
    rng = np.random.default_rng(20)
    weights = random_weights(rng)
    count = 2 * WINDOW
    rows = np.stack(
        [rng.integers(0, ITEMS + BUCKETS + 1, count), rng.integers(0, TYPES, count)],
        axis=1,
    ).astype(np.int32)
    # Gaps from a second to months, and some events that come late.
    gaps = np.exp(rng.uniform(np.log(1e3), np.log(3e9), count)).astype(np.int64)
    gaps[rng.random(count) < 0.2] *= -1
    time_ms = 1_600_000_000_000 + np.cumsum(gaps)
    exact = {k: v.astype(np.float64) for k, v in weights.items()}
    hidden = forward(exact, rows, time_ms)
    shape = [LAYERS, WIDTH, HEADS, FFN, WINDOW, ITEMS, BUCKETS, TYPES]
    save_file(
        weights
        | {
            "golden.shape": np.array(shape, np.int32),
            "golden.rows": rows,
            "golden.time_ms": time_ms,
            "golden.hidden": hidden.astype(np.float32),
        },
        sys.argv[1],
    )


if __name__ == "__main__":
    main()
