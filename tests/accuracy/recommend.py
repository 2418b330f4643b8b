#!/usr/bin/env python3
"""ops/accuracy recommend: the next item, by commands.

FILE has lines `user item`, or `user item item ...`, oldest first. Of each user
the last item is the test and the one before it validation; neither is learned
from, and the test is scored once. Import, train, replay: the test item is
ranked among all items, those the user has had left out; ties count against the
model, and an item that it never learned is a miss. Every set gets the same
options."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
MILLRACE = os.environ["MILLRACE_BIN"]
CONFIG = os.path.join(TOP, "config", "items.conf")
TRAIN = ("--leave-one-out", "--window", "200", "--epochs", "20",
         "--patience", "10")
CUTS = (1, 5, 10, 20)
PARTS = 2  # workers of a replay


def run(*words, each=None):
    """The last JSON object that a command prints; each gets all of them."""
    last = None
    with subprocess.Popen([MILLRACE, *words, "--json"], text=True,
                          stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            last = json.loads(line)
            if each:
                each(last)
    if process.returncode != 0:
        sys.exit(f"ops/accuracy: millrace {words[0]} failed, see above")
    return last


def ranking(report):
    out = {f"{name}@{k}": report[f"{name}_at_{k}"]
           for k in CUTS for name in ("hr", "ndcg")}
    if not all(math.isfinite(x) for x in out.values()):
        sys.exit("ops/accuracy: a score is not finite")
    return out


def train(log, model, seed, options):
    """Trains; what the epochs took and the validation of the best one."""
    epochs = []

    def keep(line):
        if line["event"] != "epoch":
            return
        epochs.append(line)
        if not options.json:
            print(f"seed {seed}  epoch {line['epoch']:3}  "
                  f"loss {line['loss']:.4f}  validation "
                  f"HR@10 {line['validation_hr_at_10']:.4f}  "
                  f"NDCG@10 {line['validation_ndcg_at_10']:.4f}  "
                  f"{line['seconds']:.0f} s", flush=True)

    done = run("train", "behaviour", log, "--config", CONFIG, "--out", model,
               "--seed", str(seed), *TRAIN, *options.train, each=keep)
    best = max(epochs, key=lambda line: line["validation_ndcg_at_10"])
    return {"items": done["items"], "epochs": len(epochs),
            "best_epoch": best["epoch"],
            "validation_hr@10": best["validation_hr_at_10"],
            "validation_ndcg@10": best["validation_ndcg_at_10"],
            "train_seconds": done["seconds"],
            "epoch_seconds": epochs[-1]["seconds"] / len(epochs)}


def fold(log, folder, seed, options):
    model = os.path.join(folder, f"model-{seed}")
    trained = train(log, model, seed, options)
    report = run("replay", log, "--config", CONFIG, "--leave-one-out",
                 "--set", "model.dir=" + model, "--workers", str(PARTS))
    left_out = report["leave_one_out"]
    return {"seed": seed, "users": left_out["events"],
            "unknown_items": left_out["unknown_items"],
            "model_hash": report["model_hash"]} | ranking(left_out) | trained \
        | {"popularity_" + key: value for key, value
           in ranking(left_out["popularity"]).items() if key.endswith("@10")}


def spread(folds, join):
    return {key: join([f[key] for f in folds])
            for key in folds[0] if isinstance(folds[0][key], float)}


def say(name, numbers):
    print(f"{name:8}  HR@10 {numbers['hr@10']:.4f}  NDCG@10 "
          f"{numbers['ndcg@10']:.4f}  popularity "
          f"{numbers['popularity_hr@10']:.4f} and "
          f"{numbers['popularity_ndcg@10']:.4f}  an epoch "
          f"{numbers['epoch_seconds']:.1f} s", flush=True)


def arguments():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="ops/accuracy recommend", description=__doc__,
        usage="%(prog)s [options] FILE [-- options of millrace train]")
    parser.add_argument("file", metavar="FILE", help="plain or xz")
    parser.add_argument("--seed", type=int, action="append",
                        help="1; may be given several times")
    parser.add_argument("--json", action="store_true",
                        help="one object on stdout")
    options = parser.parse_args(words[:cut])
    options.train = words[cut + 1:]
    return options


def main():
    options = arguments()
    folds = []
    with tempfile.TemporaryDirectory(prefix="millrace-accuracy-") as folder:
        log = os.path.join(folder, "log.avro")
        run("import", options.file, "--format", "sequence", "--to", log)
        for seed in options.seed or [1]:
            folds.append(fold(log, folder, seed, options))
            if not options.json:
                say(f"seed {seed}", folds[-1])
    mean = spread(folds, statistics.fmean)
    if options.json:
        out = mean if len(folds) > 1 else folds[0]
        print(json.dumps(out | {"folds": folds, "mean": mean, "deviation":
                                spread(folds, statistics.pstdev)}))
    elif len(folds) > 1:
        say("mean", mean)


if __name__ == "__main__":
    main()
