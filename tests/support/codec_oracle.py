#!/usr/bin/env python3
"""Our codec against fastavro, on random schemas, values and schema pairs.

Goal: whatever fastavro writes, we read as the same value, in the writer's
shape and resolved to another reader's; whatever we encode, fastavro reads.
Method: seeded random schemas and values. A reader's schema is the writer's
after random changes (promotions, fields removed, added with a default, moved,
renamed with an alias, unions made and unmade, enum symbols dropped). Our side
is codec_driver. Values are compared as repr, so NaN equals NaN and 1 differs
from 1.0. Where fastavro cannot resolve, we must fail too.

usage: codec_oracle.py DRIVER [CASES [SEED]]
"""
import copy
import io
import json
import math
import random
import struct
import subprocess
import sys

try:
    import fastavro
except ImportError:
    print("skipped: no fastavro for", sys.executable)
    sys.exit(77)

PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes",
              "string"]
PROMOTIONS = {"int": ["long", "float", "double"], "long": ["float", "double"],
              "float": ["double"], "string": ["bytes"], "bytes": ["string"]}


class Maker:
    def __init__(self, rnd):
        self.rnd = rnd
        self.names = 0

    def name(self, prefix):
        self.names += 1
        return f"{prefix}{self.names}"

    def schema(self, depth=0):
        rnd = self.rnd
        kinds = PRIMITIVES + ["enum", "fixed"]
        if depth < 4:
            kinds = kinds + ["array", "map", "union", "record"] * 2
        kind = "record" if depth == 0 and rnd.random() < .7 else rnd.choice(kinds)
        if kind in PRIMITIVES:
            return kind if rnd.random() < .8 else {"type": kind}
        if kind == "enum":
            return {"type": "enum", "name": self.name("E"),
                    "symbols": [f"S{i}" for i in range(rnd.randint(1, 5))]}
        if kind == "fixed":
            return {"type": "fixed", "name": self.name("F"),
                    "size": rnd.randint(1, 9)}
        if kind == "array":
            return {"type": "array", "items": self.schema(depth + 1)}
        if kind == "map":
            return {"type": "map", "values": self.schema(depth + 1)}
        if kind == "union":
            return self.union(depth)
        return {"type": "record", "name": self.name("R"), "fields": [
            {"name": f"f{i}", "type": self.schema(depth + 1)}
            for i in range(rnd.randint(0, 6))]}

    def union(self, depth):
        branches, seen = [], set()
        for _ in range(self.rnd.randint(1, 4)):
            branch = self.schema(depth + 1)
            if isinstance(branch, list):
                continue
            kind = kind_of(branch)
            # fastavro cannot tell these apart from the value alone.
            if kind in ("int", "long", "float", "double"):
                kind = "number"
            if kind in ("record", "map"):
                kind = "mapping"
            # Strings and bytes become each other: fastavro takes the first
            # branch that could, we one of the same type. It also writes
            # bytes as an array of longs where it can.
            if kind in ("string", "enum", "bytes", "fixed", "array"):
                kind = "text"
            if kind not in seen:
                seen.add(kind)
                branches.append(branch)
        return branches or ["null"]

    def value(self, schema):
        rnd = self.rnd
        kind = kind_of(schema)
        if kind == "union":
            return self.value(rnd.choice(schema))
        if kind == "null":
            return None
        if kind == "boolean":
            return rnd.random() < .5
        if kind in ("int", "long"):
            bits = rnd.randint(0, 31 if kind == "int" else 63)
            value = rnd.getrandbits(bits) if bits else 0
            return value if rnd.random() < .5 else -value - 1
        if kind in ("float", "double"):
            value = rnd.choice([0.0, -0.0, 1.5, math.inf, -math.inf, math.nan,
                                rnd.uniform(-1e6, 1e6), rnd.gauss(0, 1)])
            if kind == "float":
                value = struct.unpack("<f", struct.pack("<f", value))[0]
            return value
        if kind == "bytes":
            return rnd.randbytes(rnd.randint(0, 9))
        if kind == "string":
            return "".join(rnd.choice('ab"\\\n\x01é€😀') for _ in
                           range(rnd.randint(0, 9)))
        if kind == "fixed":
            return rnd.randbytes(schema["size"])
        if kind == "enum":
            return rnd.choice(schema["symbols"])
        if kind == "array":
            return [self.value(schema["items"])
                    for _ in range(rnd.choice([0, 1, 2, 5]))]
        if kind == "map":
            return {f"k{i}é": self.value(schema["values"])
                    for i in range(rnd.choice([0, 1, 3]))}
        return {f["name"]: self.value(f["type"]) for f in schema["fields"]}

    # A reader's schema: what a later, or earlier, program might have.
    def evolve(self, schema):
        rnd = self.rnd
        kind = kind_of(schema)
        if kind == "union":
            branches = distinct(self.evolve_branch(b) for b in schema)
            if rnd.random() < .2:
                rnd.shuffle(branches)
            if rnd.random() < .15 and len(branches) > 1:
                branches.pop(rnd.randrange(len(branches)))
            if rnd.random() < .1 and len(branches) == 1:
                return branches[0]
            return branches
        if rnd.random() < .1 and kind != "null":
            return ["null", self.evolve_branch(schema)]
        return self.evolve_branch(schema)

    def evolve_branch(self, schema):
        rnd = self.rnd
        kind = kind_of(schema)
        if kind in PROMOTIONS and rnd.random() < .15:
            # bytes that are no UTF-8 have no meaning as a string.
            return rnd.choice(PROMOTIONS[kind]) if kind != "bytes" else "bytes"
        if kind in PRIMITIVES and rnd.random() < .02:
            return rnd.choice(PRIMITIVES[1:6])
        if kind == "enum" and rnd.random() < .3:
            schema = dict(schema)
            schema["symbols"] = rnd.sample(schema["symbols"] + ["New"],
                                           len(schema["symbols"]))
            if rnd.random() < .5:
                schema["default"] = rnd.choice(schema["symbols"])
        if kind == "array":
            return {"type": "array", "items": self.evolve(schema["items"])}
        if kind == "map":
            return {"type": "map", "values": self.evolve(schema["values"])}
        if kind == "record":
            return self.evolve_record(schema)
        return schema

    def evolve_record(self, schema):
        rnd = self.rnd
        fields = []
        for f in schema["fields"]:
            if rnd.random() < .15:
                continue
            f = {"name": f["name"], "type": self.evolve(f["type"])}
            if rnd.random() < .1:
                f["aliases"] = [f["name"]]
                f["name"] = self.name("renamed")
            fields.append(f)
        for _ in range(rnd.choice([0, 0, 1, 2])):
            fields.insert(rnd.randint(0, len(fields)), self.added())
        if rnd.random() < .2:
            rnd.shuffle(fields)
        return {**schema, "fields": fields}

    def added(self):
        rnd = self.rnd
        name = self.name("new")
        schema, default = rnd.choice([
            ("int", 7), ("long", -1), ("string", "é\n"), ("boolean", True),
            ("double", 2.5), ("float", 1.5), (["null", "int"], None),
            (["int", "null"], 3), ({"type": "array", "items": "int"}, [1, 2]),
            ({"type": "map", "values": "string"}, {"a": "b"}),
            ({"type": "enum", "name": self.name("E"),
              "symbols": ["X", "Y"]}, "Y"),
            ({"type": "record", "name": self.name("R"), "fields": [
                {"name": "a", "type": "int"},
                {"name": "b", "type": "string", "default": "d"}]}, {"a": 1}),
        ])
        return {"name": name, "type": schema, "default": default}


def distinct(branches):
    """One branch of each kind that has no name."""
    kept, seen = [], set()
    for branch in branches:
        kind = kind_of(branch)
        if kind not in seen or kind in ("record", "enum", "fixed"):
            kept.append(branch)
        seen.add(kind)
    return kept


def kind_of(schema):
    if isinstance(schema, list):
        return "union"
    return schema["type"] if isinstance(schema, dict) else schema


def parse(schema):
    return fastavro.parse_schema(copy.deepcopy(schema))


def written(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse(schema), value)
    return out.getvalue()


def read(data, writer, reader=None):
    return fastavro.schemaless_reader(
        io.BytesIO(data), parse(writer), parse(reader) if reader else None)


def part(data):
    return struct.pack("<I", len(data)) + data


def make_cases(count, seed):
    rnd = random.Random(seed)
    while count:
        maker = Maker(rnd)
        schema = maker.schema()
        value = maker.value(schema)
        data = written(schema, value)
        reader = schema if rnd.random() < .4 else maker.evolve(schema)
        cut = rnd.random() < .05 and len(data) > 0
        if cut:
            data = data[:rnd.randrange(len(data))]
        yield schema, reader, data, cut
        count -= 1


def expected(schema, reader, data, cut):
    """What fastavro makes of it, or None where it cannot.

    Written and read once more, since fastavro leaves an int read as float
    unrounded, and a default's own missing fields missing.
    """
    if cut:  # no proper part of a message is one; fastavro may not notice
        return None
    stream = io.BytesIO(data)
    try:
        value = fastavro.schemaless_reader(
            stream, parse(schema), None if reader == schema else parse(reader))
    except Exception:  # fastavro raises many kinds for bad data
        return None
    return ("value", read(written(reader, value), reader))


def check(case, line):
    reader = case[1]
    want = expected(*case)
    kind, _, rest = line.partition(" ")
    lacks = kind == "compile" or line.startswith("decode avro: a union branch "
                                                 "that the reader lacks")
    if want and lacks and has_empty(want[1]):
        return None  # fastavro never met the types that do not match
    if want is None or kind != "ok":
        if (want is None) == (kind != "ok"):
            return None
        return f"fastavro: {want!r}\nours: {line}"
    hexed, _, text = rest.partition(" ")
    ours = read(bytes.fromhex(hexed), reader)
    if plain(ours) != plain(want[1]):
        return f"fastavro: {want[1]!r}\nours, re-read: {ours!r}"
    shown = from_json(json.loads(text), reader, {})
    if plain(shown) != plain(want[1]):
        return f"fastavro: {want[1]!r}\nour JSON: {text}"
    return None


def has_empty(value):
    if isinstance(value, dict):
        return not value or any(map(has_empty, value.values()))
    return isinstance(value, list) and (not value or any(map(has_empty, value)))


def plain(value):
    """repr, with the order of keys put aside."""
    if isinstance(value, dict):
        return repr(sorted((k, plain(v)) for k, v in value.items()))
    if isinstance(value, list):
        return repr([plain(v) for v in value])
    return repr(value)


def from_json(value, schema, named):
    """The specification's JSON encoding, read back."""
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    kind = kind_of(schema)
    if kind == "union":
        if value is None:
            return None
        (name, inner), = value.items()
        branch = next(b for b in schema if name_of(b) == name)
        return from_json(inner, branch, named)
    if kind in ("record", "enum", "fixed"):
        named[schema["name"]] = schema
    if kind == "record":
        assert list(value) == [f["name"] for f in schema["fields"]]
        return {f["name"]: from_json(value[f["name"]], f["type"], named)
                for f in schema["fields"]}
    if kind == "array":
        return [from_json(v, schema["items"], named) for v in value]
    if kind == "map":
        return {k: from_json(v, schema["values"], named)
                for k, v in value.items()}
    if kind in ("bytes", "fixed"):
        return value.encode("latin-1")
    if kind == "double":
        return float(value)
    if kind == "float":
        return struct.unpack("<f", struct.pack("<f", float(value)))[0]
    return value


def name_of(schema):
    return schema["name"] if isinstance(schema, dict) and "name" in schema \
        else kind_of(schema)


def main():
    driver = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    cases = list(make_cases(count, seed))
    text = b"".join(part(json.dumps(s).encode()) + part(json.dumps(r).encode())
                    + part(d) for s, r, d, _ in cases)
    run = subprocess.run([driver], input=text, stdout=subprocess.PIPE,
                         check=True)
    lines = run.stdout.decode().split("\n")[:-1]
    assert len(lines) == count, f"{len(lines)} answers to {count} cases"
    failed = 0
    kinds = {}
    for case, line in zip(cases, lines):
        kind = line.split(" ")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
        fault = check(case, line)
        if not fault:
            continue
        failed += 1
        if failed <= 3:
            print("writer:", json.dumps(case[0]), "\nreader:",
                  json.dumps(case[1]), "\nbytes:", case[2].hex())
            print(fault, "\n")
    print(f"seed {seed}: {count} cases, {failed} differ; ours:", kinds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
