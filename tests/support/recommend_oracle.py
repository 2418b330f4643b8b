#!/usr/bin/env python3
"""ops/accuracy recommend on a made-up set with something to learn in it.

Goal: the last item of each user is the test, an item learned by nobody stays
in the denominator, what the user had is masked and ties count against; the
model beats popularity. Method: users walk through the items in steps of their
own; some end with an item that is nowhere else, some have one or two events.
The popularity ranking, which goes by the same rules as the model's, is counted
here a second time. Both forms of the file give the same numbers. Then the log
grows by new items, and training goes on from a model of the old one.

usage: recommend_oracle.py MILLRACE SOURCE_DIR"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter

USERS, ITEMS, UNSEEN_EVERY = 400, 60, 25
STEPS = (1, 7, 13)
QUICK = ("--width", "32", "--window", "20", "--ffn", "64", "--layers", "1",
         "--epochs", "14", "--batch-tokens", "1024", "--learning-rate", "0.005",
         "--warmup-steps", "10")


def walks():
    draw = random.Random(5)
    for user in range(USERS):
        item, length = draw.randrange(ITEMS), draw.choice((1, 2, 3, 9, 14, 20))
        walk = []
        while len(walk) < length:
            walk.append(item)
            item = (item + STEPS[user % len(STEPS)]) % ITEMS \
                if draw.random() < 0.8 else draw.randrange(ITEMS)
            if item in walk:
                break
        if user % UNSEEN_EVERY == 0:
            walk[-1] = f"only-{user}"
        yield [str(x) for x in walk]


def popularity(users, cut):
    """Tested users, those whose item nobody had, HR and NDCG at the cut."""
    counts, known = Counter(), set()
    for walk in users:
        counts.update(walk[:-1])
        known.update(walk[:-1] if len(walk) < 3 else walk[:-2])
    tested, unknown, hits, gain = 0, 0, 0, 0.0
    for walk in users:
        if len(walk) < 2:
            continue
        tested += 1
        target, seen = walk[-1], set(walk[:-1])
        if target not in known:
            unknown += 1
            continue
        rank = 1 + sum(counts[item] >= counts[target] for item in known
                       if item != target and item not in seen)
        if rank <= cut:
            hits += 1
            gain += 1 / math.log2(rank + 1)
    return tested, unknown, hits / tested, gain / tested


def measure(millrace, source, path):
    done = subprocess.run(
        [os.path.join(source, "ops", "accuracy"), "recommend", path, "--json",
         "--", *QUICK], env=os.environ | {"MILLRACE_BIN": millrace},
        stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def command(millrace, *words):
    return subprocess.run([millrace, *words], capture_output=True, text=True,
                          check=False)


def ids(model):
    with open(os.path.join(model, "item.ids"), encoding="ascii") as file:
        return file.read().splitlines()


def go_on(millrace, source, pairs, folder):
    """Old ids keep their lines, new ones come behind them; another shape, or
    what is no model, is refused with what to do."""
    first, log = os.path.join(folder, "first"), os.path.join(folder, "a.avro")
    newer, more = os.path.join(folder, "newer"), os.path.join(folder, "b.avro")
    train = ("train", "behaviour", "--config",
             os.path.join(source, "config", "items.conf"), "--leave-one-out")
    assert command(millrace, "import", pairs, "--to", log,
                   "--format", "pairs").returncode == 0
    assert command(millrace, *train, log, "--out", first, *QUICK,
                   "--epochs", "2").returncode == 0
    with open(pairs, "a", encoding="ascii") as file:
        file.writelines(f"v{user} new-{user % 4 + i}\n"
                        for user in range(30) for i in range(4))
    assert command(millrace, "import", pairs, "--to", more,
                   "--format", "pairs").returncode == 0
    done = command(millrace, *train, more, "--out", newer, "--from", first,
                   "--epochs", "1")
    assert done.returncode == 0, done.stderr
    old, new = ids(first), ids(newer)
    assert new[:len(old)] == old
    assert {line.split(":", 1)[1] for line in new[len(old):]} == {
        f"new-{i}" for i in range(5)}  # the others are held back
    for words, status, says in (
            (("--from", first, "--window", "30"), 1, "--window 20, not 30"),
            (("--from", "2026-01-01"), 2, "--learn-from")):
        done = command(millrace, *train, more, "--out", newer, *words)
        assert (done.returncode, says in done.stderr) == (status, True), done


def main():
    millrace, source = sys.argv[1:]
    users = list(walks())
    with tempfile.TemporaryDirectory() as folder:
        pairs = os.path.join(folder, "pairs.txt")
        lists = os.path.join(folder, "lists.txt")
        with open(pairs, "w", encoding="ascii") as file:
            file.writelines(f"u{user} {item}\n" for user, walk in
                            enumerate(users) for item in walk)
        with open(lists, "w", encoding="ascii") as file:
            file.writelines(f"u{user} {' '.join(walk)}\n"
                            for user, walk in enumerate(users))
        got = measure(millrace, source, pairs)
        again = measure(millrace, source, lists)
        go_on(millrace, source, pairs, folder)
    tested, unknown, hit_rate, ndcg = popularity(users, 10)
    print(f"HR@10 {got['hr@10']:.3f}, NDCG@10 {got['ndcg@10']:.3f}; popularity "
          f"{hit_rate:.3f}, {ndcg:.3f}; {unknown} of {tested} items unknown")
    assert unknown >= USERS // UNSEEN_EVERY // 2
    assert (got["users"], got["unknown_items"]) == (tested, unknown)
    assert abs(got["popularity_hr@10"] - hit_rate) < 1e-9
    assert abs(got["popularity_ndcg@10"] - ndcg) < 1e-9
    assert got["hr@10"] > 2 * hit_rate and got["ndcg@10"] > 2 * ndcg
    assert got["hr@10"] <= 1 - unknown / tested
    assert got["model_hash"] == again["model_hash"]
    assert got["hr@10"] == again["hr@10"]


if __name__ == "__main__":
    main()
