#!/usr/bin/env python3
"""Makes the import_* files that test_import.c reads:

    python3 tests/golden/make_import.py tests/golden

import_cells.csv      nasty cells, written by Python's csv module
import_cells.txt      the same cells as csv reads them: in hex, one record a
                      line, cells divided by commas
import_records.csv    plain records, also as .jsonl, .csv.gz (two members)
                      and .csv.xz
import_records.avsc   the schema that they fill
import_records.bin    what fastavro encodes them to, one after the other,
                      each with its length before it (4 bytes, little endian)
"""
import csv
import datetime
import gzip
import io
import json
import lzma
import random
import struct
import sys

import fastavro

SCHEMA = {
    "type": "record",
    "name": "Golden",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "time",
         "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "micros",
         "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "amount", "type": "double"},
        {"name": "ratio", "type": "float"},
        {"name": "count", "type": ["null", "int"], "default": None},
        {"name": "flag", "type": "boolean"},
        {"name": "colour",
         "type": {"type": "enum", "name": "Colour",
                  "symbols": ["red", "green", "blue"]}},
        {"name": "note", "type": ["string", "null"]},
        {"name": "source", "type": "string"},
    ],
}
PIECES = ["", "a", "plain text", 'say "hi"', ",", ",,", "\n", "\r\n", '"',
          '""', " lead", "trail ", "x\ny", "\u00e4\u00f6", "\u65e5\u672c",
          "tab\tbed", "'", "1,5", "\\", "\U0001f600"]


def write_cells(folder, rng):
    rows = [[rng.choice(PIECES) + rng.choice(PIECES) for _ in range(5)]
            for _ in range(400)]
    with open(f"{folder}/import_cells.csv", "w", newline="",
              encoding="utf-8") as f:
        for i, row in enumerate(rows):
            csv.writer(f, lineterminator="\r\n" if i % 2 else "\n",
                       quoting=csv.QUOTE_ALL if i % 5 == 0
                       else csv.QUOTE_MINIMAL).writerow(row)
    with open(f"{folder}/import_cells.csv", newline="", encoding="utf-8") as f:
        back = list(csv.reader(f))
    assert back == rows
    with open(f"{folder}/import_cells.txt", "w") as f:
        for row in back:
            f.write(",".join(c.encode().hex() for c in row) + "\n")


def make_records(rng):
    start = datetime.datetime(2019, 12, 28, tzinfo=datetime.timezone.utc)
    for i in range(300):
        yield {
            "id": f"r{i}",
            "time": start + datetime.timedelta(seconds=rng.randrange(10 ** 7)),
            "cents": rng.randrange(-10 ** 6, 10 ** 8),
            "ratio": rng.randrange(10 ** 4) / 8,
            "count": rng.choice([None, rng.randrange(-2 ** 31, 2 ** 31)]),
            "flag": rng.random() < 0.5,
            "colour": rng.choice(["red", "green", "blue"]),
            "note": rng.choice([None, "one", "t\u00fcr, \"zu\"", "a\nb"]),
        }


def to_avro(r):
    return {**r, "micros": r["time"], "day": r["time"].date(),
            "amount": r["cents"] / 100, "source": "golden"}


def to_text(r):
    time = r["time"]
    return {
        "id": r["id"],
        "when": time.strftime("%d/%m/%Y %H:%M:%S"),
        "since_2019": int((time - datetime.datetime(
            2019, 1, 1, tzinfo=datetime.timezone.utc)).total_seconds()),
        "day": time.date().isoformat(),
        "cents": r["cents"],
        "ratio": r["ratio"],
        "count": r["count"],
        "flag": r["flag"],
        "colour": r["colour"],
        "note": r["note"],
    }


def write_records(folder, rng):
    schema = fastavro.parse_schema(SCHEMA)
    records = list(make_records(rng))
    with open(f"{folder}/import_records.avsc", "w") as f:
        json.dump(SCHEMA, f, indent=1)
        f.write("\n")
    with open(f"{folder}/import_records.bin", "wb") as f:
        for r in records:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, schema, to_avro(r))
            f.write(struct.pack("<I", len(out.getvalue())) + out.getvalue())
    with open(f"{folder}/import_records.jsonl", "w", encoding="utf-8") as f:
        for r in records:
            f.write(json.dumps(to_text(r), ensure_ascii=False) + "\n")
    text = io.StringIO(newline="")
    w = csv.DictWriter(text, list(to_text(records[0])))
    w.writeheader()
    for r in records:
        w.writerow({k: "" if v is None else str(v).lower() if k == "flag"
                    else v for k, v in to_text(r).items()})
    plain = text.getvalue().encode()
    with open(f"{folder}/import_records.csv", "wb") as f:
        f.write(plain)
    half = len(plain) // 2
    with open(f"{folder}/import_records.csv.gz", "wb") as f:
        f.write(gzip.compress(plain[:half], mtime=0) +
                gzip.compress(plain[half:], mtime=0))
    with lzma.open(f"{folder}/import_records.csv.xz", "wb") as f:
        f.write(plain)


if __name__ == "__main__":
    write_cells(sys.argv[1], random.Random(3))
    write_records(sys.argv[1], random.Random(4))
