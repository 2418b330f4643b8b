#!/usr/bin/env python3
"""ops/accuracy fraud: the fraud detection handbook's protocol, by commands.

A fold has a training week, seven days until its labels are known, and a test
week from which cards known to be defrauded are left out. Each is import,
train, replay by the program; nothing is measured here. chapter3 is the week
from 2018-08-08; chapter7 the four weeks from there, of a file that reaches to
2018-09-05; validation the four earlier ones on which settings are chosen."""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
MILLRACE = os.environ["MILLRACE_BIN"]
CONFIG = os.path.join(TOP, "config", "handbook.conf")
MAPPING = os.path.join(TOP, "config", "handbook.map")
TESTS = {
    "chapter3": ["2018-08-08"],
    "chapter7": ["2018-08-08", "2018-08-15", "2018-08-22", "2018-08-29"],
    "validation": ["2018-07-04", "2018-07-11", "2018-07-18", "2018-07-25"],
}
DAYS = 7  # of training, of the labels' delay, and of the test
# Chosen on the validation folds (model/README.md). With all labels an epoch
# has ten times as many as with a week's, so fewer do.
SETTINGS = ["--layers", "1", "--width", "32", "--ffn", "64", "--window", "16",
            "--negatives", "128", "--batch-tokens", "2048",
            "--learning-rate", "0.003", "--dropout", "0.3",
            "--fraud-heads", "8", "--segments", "0", "--patience", "0"]
EPOCHS = {
    "week": ["--pretrain-epochs", "2", "--epochs", "11"],
    "all": ["--pretrain-epochs", "1", "--epochs", "5", "--good-share", "0.1"],
}
KEYS = ("auc_roc", "average_precision", "card_precision_at_100",
        "observed_over_expected", "observed_over_expected_above_0.1",
        "calibration_slope", "log_loss")


def day(text, days):
    return str(datetime.date.fromisoformat(text) +
               datetime.timedelta(days=days))


def run(*words):
    """The last JSON object that a command prints."""
    done = subprocess.run([MILLRACE, *words, "--json"], check=False,
                          stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"ops/accuracy: millrace {words[0]} failed, see above")
    return json.loads(done.stdout.splitlines()[-1])


def train(log, model, test, options):
    """Settings are chosen, the probability is calibrated and the quantiles are
    filled on the two weeks before the test, as far as their labels are known
    by then; then the model learns from everything before the test."""
    span = ["--fraud-span", f"{DAYS}d"] if options.labels == "week" else []
    run("train", "behaviour", log, "--config", CONFIG, "--out", model,
        "--until", test, "--validate-from", day(test, -2 * DAYS),
        "--label-delay", f"{DAYS}d", "--known-span", f"{2 * DAYS}d",
        "--refit", "--seed", str(options.seed), *SETTINGS,
        *EPOCHS[options.labels], *span, *options.train)


def measure(log, model, test):
    report = run("replay", log, "--config", CONFIG,
                 "--set", "model.dir=" + model,
                 "--set", "recommend.when=never",
                 "--evaluate-from", test, "--evaluate-until", day(test, DAYS),
                 "--known-fraud-from", day(test, -2 * DAYS))
    fold = {"test_from": test, "events": report["fraud"]["events"],
            "frauds": report["fraud"]["frauds"],
            "model_hash": report["model_hash"]}
    fold |= {key: report["fraud"][key] for key in KEYS}
    for key in ("auc_roc", "average_precision", "good_share_above_0.99"):
        fold["anomaly_" + key] = report["anomaly"][key]
    return fold


def mean(folds):
    return {key: sum(f[key] for f in folds) / len(folds)
            for key in folds[0] if isinstance(folds[0][key], float)}


def say(name, numbers):
    print(f"{name:10}  AUC {numbers['auc_roc']:.4f}  average precision "
          f"{numbers['average_precision']:.4f}  CP@100 "
          f"{numbers['card_precision_at_100']:.4f}  observed/expected "
          f"{numbers['observed_over_expected']:.2f} "
          f"({numbers['observed_over_expected_above_0.1']:.2f} above 0.1)  "
          f"slope {numbers['calibration_slope']:.2f}  log loss "
          f"{numbers['log_loss']:.4f}  anomaly "
          f"{numbers['anomaly_average_precision']:.4f}, 99 % flags "
          f"{numbers['anomaly_good_share_above_0.99']:.2%}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="ops/accuracy fraud",
                                     description=__doc__)
    parser.add_argument("file", metavar="FILE", help="CSV, plain or xz")
    parser.add_argument("--folds", choices=TESTS, default="chapter3")
    parser.add_argument("--labels", choices=("week", "all"), default="all",
                        help="whose fraud is learned: the training week's, "
                        "as the book does, or all known by then")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true",
                        help="one object on stdout")
    parser.add_argument("train", nargs="*", metavar="-- OPTION",
                        help="more options of millrace train")
    return parser.parse_args()


def main():
    options = arguments()
    folds = []
    with tempfile.TemporaryDirectory(prefix="millrace-accuracy-") as folder:
        log = os.path.join(folder, "log.avro")
        run("import", options.file, "--to", log, "--mapping", MAPPING)
        for test in TESTS[options.folds]:
            model = os.path.join(folder, "model-" + test)
            train(log, model, test, options)
            folds.append(measure(log, model, test))
            if folds[-1]["events"] == 0:
                sys.exit(f"ops/accuracy: no event from {test} on in "
                         f"{options.file}")
            if not options.json:
                say(test, folds[-1])
    if options.json:
        print(json.dumps(mean(folds) | {"folds": folds, "mean": mean(folds)}))
    elif len(folds) > 1:
        say("mean", mean(folds))


if __name__ == "__main__":
    main()
