#!/usr/bin/env python3
"""Models that this program trains against what others reach on the same data.

Goal: fraud: on the handbook's chapter-3 split (labels of 2018-07-25..31, test
2018-08-08..14, cards known to be defrauded left out) average precision above
that of scikit-learn's two gradient boostings on the same inputs: the users'
own amounts and times, no terminal on either side. items: on a slice of
MovieLens-1M, one out, full ranking, a hit rate far above popularity's. Method:
import, train and replay by the command line; the window features are computed
here a second time, in numpy, from the definitions in
pipeline/windows_features.c. The settings of both sides were chosen inside the
training week (model/README.md; boosting's by the command below), so nothing
but the two numbers compared ever sees the test week. The fraud log begins on
2018-06-20, so that its longest window is full where it matters and the test
stays short.

usage: quality_oracle.py fraud|items MILLRACE SOURCE_DIR (data: MILLRACE_DATA)
       quality_oracle.py boosting   settings of boosting by average precision
                                    inside the training week: a quarter of an
                                    hour
"""
import itertools
import json
import lzma
import os
import subprocess
import sys
import tempfile

import numpy as np

SKIPPED = 77
DAY = 86400
# Days since 2018-04-01.
LOG_FROM, LEARN_FROM, LEARN_UNTIL, TEST_FROM, TEST_UNTIL = 80, 115, 122, 129, 136
DELAY_DAYS = 7
WINDOWS_DAYS = (1, 7, 30)
ITEM_USERS = 1500
# To learn from [LEARN_FROM, first), to validate on [first, second).
CUTS = ((118, 120), (120, 122))
KNOWN_FROM = 104  # frauds that validation days know of, delay included


def command(*words):
    run = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()
            if line.startswith(b"{")]


def data_path(*names):
    path = os.path.join(os.environ.get("MILLRACE_DATA", ""), *names)
    if not os.path.exists(path):
        print(f"skipped: no {path}; set MILLRACE_DATA")
        sys.exit(SKIPPED)
    return path


# --- fraud -------------------------------------------------------------------

def window_features(t, amount, days):
    """(now - W, now]: count, mean, sum, deviation; ratio and z to earlier."""
    end = np.arange(1, len(t) + 1)
    start = np.searchsorted(t, t - days * DAY, side="right")
    sums = np.r_[0, np.cumsum(amount)]
    squares = np.r_[0, np.cumsum(amount * amount)]

    def mean_and_deviation(until):
        n = until - start
        total = sums[until] - sums[start]
        spread = n * (squares[until] - squares[start]) - total * total
        mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        deviation = np.sqrt(np.maximum(spread, 0)) / np.maximum(n, 1)
        return n, mean, total, np.where(n > 1, deviation, np.nan)

    n, mean, total, deviation = mean_and_deviation(end)
    _, before, _, before_deviation = mean_and_deviation(end - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(before > 0, amount / before, np.nan)
        z = np.where(before_deviation > 0,
                     (amount - before) / before_deviation, np.nan)
    return n, mean / 100, total / 100, deviation / 100, ratio, z


def user_features(t, amount):
    count = np.arange(len(t))
    before = np.r_[0, np.cumsum(amount)[:-1]] / np.maximum(count, 1) / 100
    ratio = np.log((amount / 100 + 1) / (before + 1))
    hour = t % DAY // 3600
    base = [amount / 100, np.where(count > 0, ratio, np.nan),
            np.r_[np.nan, np.diff(t)], hour,
            (t // DAY + 6) % 7 >= 5,  # 2018-04-01 was a Sunday
            hour <= 6, count + 1]
    for days in WINDOWS_DAYS:
        base.extend(window_features(t, amount, days))
    return np.stack([np.asarray(x, float) for x in base], axis=1)


def read_transactions(path):
    with lzma.open(path, "rt") as file:
        header = file.readline()
        lines = [line for line in file
                 if int(line.split(",", 2)[1]) >= LOG_FROM * DAY]
    rows = np.array([line.split(",")[1:6] for line in lines], np.int64)
    return header, lines, rows


def known_cards_left_out(t, user, fraud, days, known_from):
    """Which rows of these days the book keeps: on each day not those of cards
    with a fraud since then that is known by the day."""
    day, kept = t // DAY, np.zeros(len(t), bool)
    for at in days:
        known = np.unique(user[(fraud == 1) & (day >= known_from) &
                               (day < at - DELAY_DAYS)])
        kept |= (day == at) & ~np.isin(user, known)
    return kept


def boosted_rows(rows):
    """Time, user, fraud and features of each row."""
    order = np.argsort(rows[:, 1], kind="stable")
    t, user, _, amount, fraud = rows[order].T
    cuts = np.flatnonzero(np.diff(user)) + 1
    x = np.concatenate([user_features(a, b.astype(float)) for a, b in
                        zip(np.split(t, cuts), np.split(amount, cuts))])
    return t, user, fraud, x


def boosting(kind, **settings):
    from sklearn.ensemble import (GradientBoostingClassifier,
                                  HistGradientBoostingClassifier)
    if kind == "hist":
        return HistGradientBoostingClassifier(
            random_state=0, early_stopping=False, **settings)
    return GradientBoostingClassifier(random_state=0, **settings)


# Chosen inside the training week; `quality_oracle.py boosting` measures these
# and their neighbours there.
CHOSEN = (("hist", dict(learning_rate=0.05, max_iter=300, max_leaf_nodes=3,
                        min_samples_leaf=20, l2_regularization=1)),
          ("plain", dict(learning_rate=0.05, n_estimators=200, max_depth=5,
                         min_samples_leaf=50, subsample=0.5,
                         max_features="sqrt")))


def boosted_precision(kind, settings, data, learn, test):
    from sklearn.metrics import average_precision_score
    _, _, fraud, x = data
    if kind != "hist":
        x = np.nan_to_num(x, nan=-1)  # it takes no gaps
    model = boosting(kind, **settings)
    model.fit(x[learn], fraud[learn])
    return average_precision_score(fraud[test],
                                   model.predict_proba(x[test])[:, 1])


def days_between(t, first, until):
    return (t >= first * DAY) & (t < until * DAY)


def best_boosting(rows):
    """On the test week, of both kinds as they were chosen."""
    data = t, user, fraud, _ = boosted_rows(rows)
    test = known_cards_left_out(t, user, fraud, range(TEST_FROM, TEST_UNTIL),
                                LEARN_FROM)
    learn = days_between(t, LEARN_FROM, LEARN_UNTIL)
    return {kind: boosted_precision(kind, settings, data, learn, test)
            for kind, settings in CHOSEN}


def grid():
    for rate, count, leaves, least in itertools.product(
            (0.05, 0.2), (100, 300), (3, 7, 15), (20, 50)):
        yield "hist", dict(learning_rate=rate, max_iter=count,
                           max_leaf_nodes=leaves, min_samples_leaf=least,
                           l2_regularization=1)
    for count, depth, least in itertools.product((100, 200), (3, 5), (20, 50)):
        yield "plain", dict(learning_rate=0.05, n_estimators=count,
                            max_depth=depth, min_samples_leaf=least,
                            subsample=0.5, max_features="sqrt")


def choose_boosting():
    _, _, rows = read_transactions(
        data_path("fraud_handbook", "transactions_to_2018-08-14.csv.xz"))
    data = t, user, fraud, _ = boosted_rows(rows)
    reached = []
    for kind, settings in grid():
        each = [boosted_precision(
            kind, settings, data, days_between(t, LEARN_FROM, first),
            known_cards_left_out(t, user, fraud, range(first, until),
                                 KNOWN_FROM))
                for first, until in CUTS]
        reached.append((float(np.mean(each)), kind, settings))
        print(f"{reached[-1][0]:.4f} {kind} {settings}", flush=True)
    for kind, _ in CHOSEN:
        print("best", *max((r for r in reached if r[1] == kind),
                           key=lambda r: r[0]))


def check_fraud(millrace, source, folder):
    path = data_path("fraud_handbook", "transactions_to_2018-08-14.csv.xz")
    header, lines, rows = read_transactions(path)
    csv, log, model = (os.path.join(folder, name)
                       for name in ("log.csv", "log.avro", "model"))
    with open(csv, "w") as file:
        file.writelines([header] + lines)
    config = ("--config", os.path.join(source, "config", "handbook.conf"),
              "--set", "role.item=")
    command(millrace, "import", csv, "--to", log, "--mapping",
            os.path.join(source, "config", "handbook.map"))
    command(millrace, "train", "behaviour", log, *config, "--out", model,
            "--from", "2018-07-18", "--fraud-from", "2018-07-25",
            "--validate-from", "2018-08-01", "--until", "2018-08-01",
            "--layers", "1", "--width", "32", "--ffn", "64", "--window", "16",
            "--batch-tokens", "2048", "--learning-rate", "0.003",
            "--dropout", "0.3", "--fraud-heads", "8", "--epochs", "8")
    ours = command(millrace, "replay", log, *config, "--json",
                   "--set", "model.dir=" + model,
                   "--evaluate-from", "2018-08-08",
                   "--evaluate-until", "2018-08-15",
                   "--known-fraud-from", "2018-07-25")[-1]
    theirs = best_boosting(rows)
    print(f"average precision {ours['fraud']['average_precision']:.4f}, "
          f"gradient boosting {theirs['hist']:.4f} (histograms) and "
          f"{theirs['plain']:.4f} ({ours['fraud']['events']} events, "
          f"{ours['fraud']['frauds']} frauds); anomaly, without labels, "
          f"{ours['anomaly']['average_precision']:.4f}")
    assert ours["fraud"]["events"] == 58264  # the book's
    assert ours["fraud"]["average_precision"] > max(theirs.values())


# --- items -------------------------------------------------------------------

def check_items(millrace, source, folder):
    path = data_path("rec_ml1m", "ml-1m.txt.xz")
    pairs, log, model, config = (
        os.path.join(folder, name)
        for name in ("pairs.txt", "log.avro", "model", "items.conf"))
    with lzma.open(path, "rt") as file, open(pairs, "w") as out:
        out.writelines(line for line in file
                       if int(line.split()[0]) <= ITEM_USERS)
    with open(config, "w") as file:
        file.write("input.schema = " +
                   os.path.join(source, "schemas", "interaction.avsc") + "\n"
                   "input.format = plain\nrole.user = user_id\n"
                   "role.item = item_id\nhistory.events = 200\n")
    command(millrace, "import", pairs, "--to", log, "--format", "pairs",
            "--schema", "interaction", "--map", "user_id=user",
            "--map", "item_id=item")
    command(millrace, "train", "behaviour", log, "--config", config,
            "--out", model, "--leave-one-out", "--window", "50",
            "--layers", "1", "--width", "32", "--ffn", "64",
            "--negatives", "256", "--batch-tokens", "4096",
            "--learning-rate", "0.004", "--epochs", "12")
    ours = command(millrace, "replay", log, "--config", config, "--json",
                   "--set", "model.dir=" + model, "--leave-one-out")[-1]
    reached = ours["leave_one_out"]["hr_at_10"]
    popular = ours["leave_one_out"]["popularity"]["hr_at_10"]
    print(f"hit rate at 10 {reached:.4f}, popularity {popular:.4f} "
          f"({ours['leave_one_out']['events']} users)")
    assert ours["leave_one_out"]["events"] == ITEM_USERS
    assert reached > 2 * popular


def main():
    if sys.argv[1:] == ["boosting"]:
        choose_boosting()
        return
    what, millrace, source = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"fraud": check_fraud, "items": check_items}[what](millrace, source,
                                                           folder)


main()
