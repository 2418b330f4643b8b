#!/usr/bin/env python3
"""Our codec against fastavro, on random schemas, values and schema pairs.

Goal: whatever fastavro writes, we read as the same value, in the writer's
shape and resolved to another reader's; whatever we encode, fastavro reads.
Method: seeded random schemas and values. A reader's schema is the writer's
after random changes (promotions, fields removed, added with a default, moved,
renamed with an alias, unions made and unmade, enum symbols dropped with and
without a default, types renamed with an alias or moved to another namespace).
Our side is codec_driver. Values are compared as repr, so NaN equals NaN and 1
differs from 1.0. Where fastavro cannot resolve, we must fail too. The
fingerprints of both schemas (CRC-64-AVRO of the canonical form) must be
fastavro's.

Where fastavro does not do as the specification says, no case goes:
- a type of another namespace matches an alias without one;
- a named type matches one of another kind (an enum a record) by name;
- of a reader's union the first branch that could be promoted to is taken
  before one of the writer's own type (the specification can be read so; we do
  as the Java implementation does);
- an int or long read as float keeps digits that no float has, and a default
  keeps the JSON of its missing fields: both are rounded here by writing the
  value once more.
- bytes that are no UTF-8 fail as a string, and a union without a branch in
  common is only noticed in a value that has it (see has_empty).

usage: codec_oracle.py DRIVER [CASES [SEED]]; 10000 by hand for a change of the codec
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
        self.records = {}  # those that hold themselves, by full name

    def name(self, prefix):
        self.names += 1
        return f"{prefix}{self.names}"

    def type_name(self, prefix):
        """Full, or in the namespace around it."""
        space = self.rnd.choice(["", "", "a.", "b.c."])
        return space + self.name(prefix)

    def schema(self, depth=0):
        rnd = self.rnd
        kinds = PRIMITIVES + ["enum", "fixed"]
        if depth < 4:
            kinds = kinds + ["array", "map", "union", "record"] * 2
        kind = "record" if depth == 0 and rnd.random() < .7 else rnd.choice(kinds)
        if kind in PRIMITIVES:
            return kind if rnd.random() < .8 else {"type": kind}
        if kind == "enum":
            return {"type": "enum", "name": self.type_name("E"),
                    "symbols": [f"S{i}" for i in range(rnd.randint(1, 5))]}
        if kind == "fixed":
            return {"type": "fixed", "name": self.type_name("F"),
                    "size": rnd.randint(1, 9)}
        if kind == "array":
            return {"type": "array", "items": self.schema(depth + 1)}
        if kind == "map":
            return {"type": "map", "values": self.schema(depth + 1)}
        if kind == "union":
            return self.union(depth)
        return self.record(depth)

    def record(self, depth):
        rnd = self.rnd
        name = self.type_name("R")
        fields = [{"name": f"f{i}", "type": self.schema(depth + 1)}
                  for i in range(rnd.randint(0, 6))]
        schema = {"type": "record", "name": name, "fields": fields}
        if "." in name and rnd.random() < .3:
            fields.append({"name": "again", "type": rnd.choice(
                [["null", name], {"type": "array", "items": name},
                 {"type": "map", "values": name}])})
            self.records[name] = schema
        return schema

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

    def value(self, schema, depth=0):
        rnd = self.rnd
        schema = self.records.get(schema, schema) \
            if isinstance(schema, str) else schema
        kind = kind_of(schema)
        depth += 1
        if kind == "union":
            deep = depth > 12 and "null" in schema
            return self.value("null" if deep else rnd.choice(schema), depth)
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
            return [self.value(schema["items"], depth) for _ in
                    range(0 if depth > 8 else rnd.choice([0, 1, 2, 5]))]
        if kind == "map":
            return {f"k{i}é": self.value(schema["values"], depth) for i in
                    range(0 if depth > 8 else rnd.choice([0, 1, 3]))}
        return {f["name"]: self.value(f["type"], depth)
                for f in schema["fields"]}

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
            schema = self.evolve_record(schema)
        if kind in ("record", "enum", "fixed"):
            schema = self.evolve_name(schema)
        return schema

    def evolve_name(self, schema):
        """schema has the full name that it was written with."""
        return renamed(self.other_name(schema), schema["name"])

    def other_name(self, schema):
        rnd = self.rnd
        change = rnd.random()
        if change < .15 and "." in schema["name"]:  # with an alias
            return {**schema, "aliases": [schema["name"]] + rnd.choice(
                        [[], ["other.Name"]]),
                    "name": self.name("new.Renamed")}
        if change < .18:  # renamed without: they do not match
            return {**schema, "name": self.name("new.Renamed")}
        if change < .3:  # moved: unqualified names match
            return {**schema, "name": "moved." + schema["name"].split(".")[-1]}
        return schema

    def evolve_record(self, schema):
        rnd = self.rnd
        fields = []
        for f in schema["fields"]:
            if rnd.random() < .15:
                continue
            again = f["name"] == "again"  # without its union it had no end
            f = {"name": f["name"],
                 "type": f["type"] if again else self.evolve(f["type"])}
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
    """One branch of each kind that has no name, and one number."""
    kept, seen = [], set()
    for branch in branches:
        kind = kind_of(branch)
        if kind in ("int", "long", "float", "double"):
            kind = "number"
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


def renamed(schema, name):
    """What refers to the type by the name that it had refers to it still."""
    def walk(part):
        if isinstance(part, list):
            return [walk(p) for p in part]
        if isinstance(part, dict):
            return {k: walk(v) if k in ("type", "items", "values", "fields")
                    else v for k, v in part.items()}
        return schema["name"] if part == name else part
    return walk(schema)


def with_full_names(schema, space=""):
    """The same, with the namespace that a name inherits written into it, so
    that it may be moved about."""
    if isinstance(schema, list):
        return [with_full_names(s, space) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    if "name" in schema:
        if "." not in schema["name"] and space:
            schema["name"] = f"{space}.{schema['name']}"
        space = schema["name"].rpartition(".")[0]
    for key in ("items", "values"):
        if key in schema:
            schema[key] = with_full_names(schema[key], space)
    if "fields" in schema:
        schema["fields"] = [{**f, "type": with_full_names(f["type"], space)}
                            for f in schema["fields"]]
    return schema


def part(data):
    return struct.pack("<I", len(data)) + data


def make_cases(count, seed):
    rnd = random.Random(seed)
    while count:
        maker = Maker(rnd)
        schema = with_full_names(maker.schema())
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


def print_of(schema):
    form = fastavro.schema.to_parsing_canonical_form(copy.deepcopy(schema))
    return fastavro.schema.fingerprint(form, "CRC-64-AVRO")


def check(case, line):
    reader = case[1]
    *prints, line = line.split(" ", 2)
    if prints != [print_of(case[0]), print_of(reader)]:
        return f"fastavro: {print_of(case[0])}, {print_of(reader)}\n" \
               f"ours: {prints}"
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
    shown = from_json(json.loads(text), parse(reader), {})
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
        kind = line.split(" ")[2]
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
