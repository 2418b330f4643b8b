#!/usr/bin/env python3
"""Our container files against fastavro.

Goal: what `millrace generate` writes, fastavro reads, value for value; what
fastavro writes, `millrace cat` prints. Method: both directions for each codec
that this Python has, with small and large blocks; compared as the JSON of
`millrace cat --avro-json`, read back by codec_oracle.from_json.

usage: container_oracle.py MILLRACE
"""
import json
import os
import random
import subprocess
import sys
import tempfile

from codec_oracle import Maker, fastavro, from_json, parse, plain


def cat(millrace, path):
    run = subprocess.run([millrace, "cat", "--avro-json", path],
                         stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def codecs():
    for codec in ("null", "deflate", "zstandard"):
        try:
            list(fastavro.reader(written(codec, "int", [1], 16000)))
            yield codec
        except ValueError as fault:
            print(f"skipped: {codec}: {fault}")


def written(codec, schema, values, interval):
    file = tempfile.TemporaryFile()
    fastavro.writer(file, parse(schema), values, codec=codec,
                    sync_interval=interval)
    file.seek(0)
    return file


def ours_to_theirs(millrace, folder, codec):
    path = os.path.join(folder, "ours.avro")
    subprocess.run([millrace, "generate", "--events", "3000", "--users", "50",
                    "--codec", codec, "--to", path], check=True,
                   stderr=subprocess.DEVNULL)
    with open(path, "rb") as file:
        reader = fastavro.reader(file)
        schema = reader.writer_schema
        theirs = list(reader)
    ours = [from_json(v, schema, {}) for v in cat(millrace, path)]
    assert len(ours) == 3000 and plain(ours) == plain(theirs), codec


def theirs_to_ours(millrace, folder, codec, rnd):
    path = os.path.join(folder, "theirs.avro")
    maker = Maker(rnd)
    schema = maker.schema()
    values = [maker.value(schema) for _ in range(rnd.choice([0, 1, 50]))]
    with open(path, "wb") as file:
        file.write(written(codec, schema, values,
                           rnd.choice([1, 100, 16000])).read())
    ours = [from_json(v, parse(schema), {}) for v in cat(millrace, path)]
    assert plain(ours) == plain(values), (codec, schema)
    return len(values)


def main():
    millrace = sys.argv[1]
    fastavro.read.LOGICAL_READERS.clear()  # times as the numbers they are
    rnd = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        for codec in codecs():
            ours_to_theirs(millrace, folder, codec)
            values = sum(theirs_to_ours(millrace, folder, codec, rnd)
                         for _ in range(25))
            print(f"{codec}: 3000 values of ours, {values} of theirs: equal")


if __name__ == "__main__":
    main()
