#!/usr/bin/env python3
"""From a generated log to a model, scores and metrics, all seen by Python.

Goal: what `millrace replay` writes is what fastavro reads, one score and one
list for each event in the order of the log, the same with two workers; and
what it says of their quality is what scikit-learn says of the same scores; the
rows of --features are what the events alone give.
Method: the commands as a user runs them, on a small log; labels, joins and
rankings are done again here in the plainest way.

usage: replay_oracle.py MILLRACE
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import fastavro
import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

EVENTS, USERS, ITEMS = 8000, 120, 60
DAY_MS = 86400000
DELAY_MS = 7 * DAY_MS
ROLES = """\
role.user = user_id
role.event_id = event_id
role.item = item_id
role.time = time
role.amount = amount
role.type = type
role.category = category
role.channel = channel
"""


def run(*command, status=0):
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n"
                 f"{done.stderr.decode()}")
    return done.stdout.decode()


def read(path):
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


def ms(time):
    return round(time.timestamp() * 1000)


def check(what, got, expected, tolerance=1e-9):
    if not math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance):
        sys.exit(f"{what}: millrace says {got}, Python {expected}")


def labels_of(events, labels):
    """1, 0 or None: silence is good once the delay has passed by the newest
    label."""
    known = {label["event_id"]: label["label"] for label in labels}
    newest = max(ms(label["labelled_at"]) for label in labels)
    return [known.get(event["event_id"],
                      0 if ms(event["time"]) <= newest - DELAY_MS else None)
            for event in events]


def check_order(events, scores, lists):
    assert len(events) == len(scores) == len(lists) == EVENTS
    for offset, (event, score, made) in enumerate(zip(events, scores, lists)):
        for record in (score, made):
            assert record["event_id"] == event["event_id"]
            assert record["user_id"] == event["user_id"]
            assert record["time"] == event["time"]
            assert record["source_offset"] == offset
        assert score["item_id"] == event["item_id"]
        assert 0 <= score["probability"] <= 1 and 0 <= score["anomaly"] <= 1
        assert score["flagged"] == (score["probability"] >= 0.5)
        ranks = [item["score"] for item in made["items"]]
        assert ranks == sorted(ranks, reverse=True)


def check_seen(events, lists):
    """Ten items, or as many as are left, and none of the user's history
    (history.events is more than any user has)."""
    seen, items = {}, len({event["item_id"] for event in events})
    for event, made in zip(events, lists):
        had = seen.setdefault(event["user_id"], set())
        had.add(event["item_id"])
        listed = {item["item_id"] for item in made["items"]}
        assert not had & listed
        assert len(listed) == len(made["items"]) == min(10, items - len(had))


def check_quality(said, labels, scores, chosen):
    for name, field in (("fraud", "probability"), ("anomaly", "anomaly")):
        rows = [(labels[i], scores[i][field]) for i in chosen
                if labels[i] is not None]
        truth, values = zip(*rows)
        assert said[name]["events"] == len(rows)
        assert said[name]["frauds"] == sum(truth) > 10
        check(f"{name} AUC", said[name]["auc_roc"],
              roc_auc_score(truth, values))
        check(f"{name} average precision", said[name]["average_precision"],
              average_precision_score(truth, values))


def check_next_item(said, events, lists, chosen):
    last, asked, hits, gain = {}, 0, 0, 0.0
    chosen = set(chosen)
    for i, event in enumerate(events):
        before = last.get(event["user_id"])
        last[event["user_id"]] = lists[i]
        if before is None or i not in chosen:
            continue
        asked += 1
        items = [item["item_id"] for item in before["items"]]
        if event["item_id"] in items:
            hits += 1
            gain += 1 / math.log2(items.index(event["item_id"]) + 2)
    assert said["next_item"]["events"] == asked > 100 and hits > 0
    check("HR@10", said["next_item"]["hr_at_10"], hits / asked)
    check("NDCG@10", said["next_item"]["ndcg_at_10"], gain / asked)


def part_of(count):
    return str(max(k for k in (1, 5, 10, 20, 50, 200) if k <= count))


def check_parts(said, events, lists, chosen):
    """By history and popularity, coverage, novelty, and the baseline that
    knows the last item alone."""
    said, chosen = said["next_item"], set(chosen)
    last, counts, listed, after = {}, {}, [], {}
    came, lengths, targets, hits, seen = {}, {}, {}, 0, {}
    every = {event["item_id"] for event in events}
    for i, event in enumerate(events):
        user, item = event["user_id"], event["item_id"]
        if user in last and i in chosen:
            items = [x["item_id"] for x in lists[last[user]]["items"]]
            listed += items[:10]
            got = 1 / math.log2(items.index(item) + 2) if item in items else 0
            for part, key in ((lengths, part_of(counts[user])),
                              (targets, item)):
                part.setdefault(key, []).append(got)
            before = events[last[user]]["item_id"]
            score = {x: (after.get((before, x), 0), came.get(x, 0))
                     for x in every - seen[user]}
            hits += item in score and sum(
                s >= score[item] for s in score.values()) <= 10
        if user in last:
            pair = (events[last[user]]["item_id"], item)
            after[pair] = after.get(pair, 0) + 1
        came[item] = came.get(item, 0) + 1
        seen.setdefault(user, set()).add(item)
        counts[user] = counts.get(user, 0) + 1
        last[user] = i
    for key, gains in lengths.items():
        assert said["by_history"][key]["events"] == len(gains)
        check(f"history {key}", said["by_history"][key]["ndcg_at_10"],
              sum(gains) / len(gains))
    total = sum(came.values())
    check("coverage", said["coverage_at_10"], len(set(listed)) / len(came))
    check("novelty", said["novelty_at_10"],
          -sum(math.log2(came[x] / total) for x in listed) / len(listed))
    check("co-occurrence", said["co_occurrence"]["hr_at_10"],
          hits / sum(map(len, targets.values())))
    first = max(came, key=came.get)  # 1 % of so few items is one
    band = said["by_popularity"]["0.01"]
    assert band["events"] == len(targets.get(first, []))


class Features:
    """The features of --features as the fraud head standardises them."""

    def __init__(self, rows):
        self.tables = load_file("model/model.safetensors")
        with open("model/config.json") as file:
            self.names = json.load(file)["features"]
        raw = np.array([[np.nan if row[name] is None else row[name]
                         for name in self.names] for row in rows])
        self.missing = np.isnan(raw)
        self.logs = np.sign(raw) * np.log1p(np.abs(raw))
        standard = ((self.logs - self.tables["table.feature_mean"]) *
                    self.tables["table.feature_scale"]).clip(-8, 8)
        self.inputs = np.hstack([np.nan_to_num(standard), self.missing])


def known_by(events, labels, cut):
    """What training may know at the cut: 1, 0 or -1."""
    known = {label["event_id"]: label["label"] for label in labels
             if ms(label["labelled_at"]) < cut}
    silent = min(cut, max(ms(label["labelled_at"]) for label in labels)) - DELAY_MS
    return np.array([known.get(event["event_id"],
                               0 if ms(event["time"]) <= silent else -1)
                     if ms(event["time"]) < cut else -1 for event in events])


def check_regression(said, rows, events, labels, truth, chosen, cut):
    """The baseline in the model is scikit-learn's of the training rows."""
    f = Features(rows)
    learned = known_by(events, labels, cut)
    fit = LogisticRegression(C=1, tol=1e-10, solver="newton-cholesky").fit(
        f.inputs[learned >= 0], learned[learned >= 0])
    ours = f.tables["baseline.regression"][0]
    theirs = np.append(fit.coef_[0], fit.intercept_)
    # A feature that never moves has no weight that matters.
    if np.abs(ours - theirs).max() > 2e-3:
        sys.exit(f"regression: off by {np.abs(ours - theirs).max()} at "
                 f"{np.abs(ours - theirs).argmax()} of {len(ours)}")
    at = [i for i in chosen if truth[i] is not None]
    check("regression AUC", said["regression"]["auc_roc"], roc_auc_score(
        [truth[i] for i in at], fit.predict_proba(f.inputs[at])[:, 1]), 1e-4)
    assert 0.5 < said["head_alone"]["auc_roc"] < 1
    check_drift(said, f, learned >= 0, chosen)


def shares(f, at, name):
    k = f.names.index(name)
    border = f.tables["table.feature_border"][k]
    bins = np.searchsorted(border[1:-1], f.logs[at, k].astype(np.float32),
                           side="right")
    bins[f.missing[at, k]] = len(border) - 1
    return np.bincount(bins, minlength=len(border)) / len(bins)


def check_drift(said, f, learned, chosen):
    for name in ("amount", "events_total", "gap_s"):
        p, q = (shares(f, at, name).clip(1e-4)
                for at in (np.flatnonzero(learned), chosen))
        check(f"drift of {name}", said["drift"]["features"][name],
              float(((q - p) * np.log(q / p)).sum()), 2e-2)
    # It counts what came before, so it moves away; an amount does not.
    drift = said["drift"]["features"]
    assert drift["events_total"] > 0.1 > drift["amount"]
    assert said["drift"]["scores"]["fraud"] is not None


def check_other_events(millrace, digest):
    """One event fewer, or one of another amount, is another digest."""
    with open("events.avro", "rb") as file:
        reader = fastavro.reader(file)
        schema, events = reader.writer_schema, list(reader)
    changed = [dict(event) for event in events]
    changed[100]["amount"] += 1
    for others in (events[:-1], changed):
        with open("other.avro", "wb") as file:
            fastavro.writer(file, schema, others)
        other = json.loads(run(millrace, "replay", "--config", "shop.conf",
                               "--set", "model.dir=model", "--json",
                               "other.avro"))
        assert other["events_digest"] != digest


def check_off_policy(millrace):
    """From a log of lists with exploration: what lists without it earn, which
    a replay without it measures."""
    replay = [millrace, "replay", "--config", "shop.conf", "--set",
              "model.dir=model", "--codec", "deflate", "--json"]
    run(*replay, "--set", "explore.rate=0.3", "--set", "explore.pool=20",
        "--recommendations-to", "explored.avro", "events.avro")
    said = json.loads(run(*replay, "--workers", "2", "--off-policy",
                          "explored.avro", "events.avro"))
    got, truth = said["off_policy"], said["next_item"]["hr_at_10"]
    assert got["lists"] == said["next_item"]["events"]
    for name in ("ips", "snips", "dr"):
        assert got[f"{name}_low"] < truth < got[f"{name}_high"], (got, truth)
    assert got["effective_lists_all"] < got["effective_lists_first"]
    assert got["effective_lists_first"] < got["lists"]
    run(*replay, "--set", "explore.rate=0.3", "--off-policy", "explored.avro",
        "events.avro", status=1)
    run(*replay, "--off-policy", "fraud1.avro", "events.avro", status=1)


def check_features(rows, events, labels, scores):
    """Each feature is one that can be worked out of the events alone."""
    assert len(rows) == EVENTS
    seen = {}
    for i, (row, event, score) in enumerate(zip(rows, events, scores)):
        now, user = ms(event["time"]), event["user_id"]
        past = seen.setdefault(user, [])
        past.append((now, event["amount"]))
        assert row["event_id"] == event["event_id"] and row["offset"] == i
        assert row["user_id"] == user and ms(row["time"]) == now
        assert row["label"] == (None if labels[i] is None else bool(labels[i]))
        assert row["probability"] == score["probability"]
        assert row["anomaly"] == score["anomaly"]
        check("amount", row["amount"], event["amount"], 1e-5)
        check("events_total", row["events_total"], len(past))
        day = [a for t, a in past if now - DAY_MS < t <= now]
        check("count_1d", row["count_1d"], len(day))
        check("amount_sum_1d", row["amount_sum_1d"], sum(day), 1e-4)


def check_verify(millrace):
    """The record proves equal; with another threshold, and so another policy
    in every output, it does not."""
    replay = [millrace, "replay", "--config", "shop.conf", "--set",
              "model.dir=model", "--json", "--verify", "fraud1.avro",
              "--verify", "lists1.avro"]
    same = json.loads(run(*replay, "events.avro"))["verify"]
    assert same == {"equal": 2 * EVENTS, "differ": 0, "missing": 0,
                    "extra": 0, "repeated": 0, "outside": 0, "first": None}
    other = json.loads(run(*replay, "--set", "fraud.threshold=0.4",
                           "events.avro", status=4))["verify"]
    assert other["differ"] == 2 * EVENTS and other["equal"] == 0
    assert (other["first"]["offset"], other["first"]["output"]) == (0, "fraud")
    assert other["first"]["field"] == "threshold"
    assert other["first"]["recorded"]["threshold"] == 0.5
    assert other["first"]["made"]["threshold"] == 0.4
    run(millrace, "replay", "--config", "shop.conf", "--set",
        "model.dir=model", "--verify", "absent.avro", "events.avro", status=1)


def main(millrace):
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("shop.conf", "w") as file:
            file.write(ROLES + "history.events = 4096\n")
        run(millrace, "generate", "--events", str(EVENTS), "--users",
            str(USERS), "--items", str(ITEMS), "--fraud-rate", "0.05",
            "--codec", "deflate", "--to", "events.avro", "--labels-to",
            "labels.avro")
        events, labels = read("events.avro"), read("labels.avro")
        cut = events[EVENTS // 2]["time"]
        run(millrace, "train", "behaviour", "--config", "shop.conf",
            "--labels", "labels.avro", "--epochs", "1", "--width", "16",
            "--heads", "2", "--layers", "1", "--ffn", "32", "--window", "8",
            "--validate-from", str(ms(cut)), "--out", "model", "events.avro")
        said = None
        for workers in ("1", "2"):
            report = json.loads(run(
                millrace, "replay", "--config", "shop.conf", "--set",
                "model.dir=model", "--labels", "labels.avro",
                "--evaluate-from", str(ms(cut)), "--workers", workers,
                "--codec", "deflate", "--fraud-to", f"fraud{workers}.avro",
                "--recommendations-to", f"lists{workers}.avro", "--json",
                *(["--baselines"] if workers == "1" else []),
                "events.avro"))
            assert report["events"] == report["scored"] == EVENTS
            said = said or report
        scores, lists = read("fraud1.avro"), read("lists1.avro")
        assert scores == read("fraud2.avro") and lists == read("lists2.avro")
        assert said["events_digest"] == report["events_digest"]
        check_other_events(millrace, said["events_digest"])
        check_verify(millrace)
        check_order(events, scores, lists)
        check_seen(events, lists)
        chosen = [i for i in range(EVENTS) if events[i]["time"] >= cut]
        truth = labels_of(events, labels)
        check_quality(said, truth, scores, chosen)
        run(millrace, "replay", "--config", "shop.conf", "--set",
            "model.dir=model", "--labels", "labels.avro", "--workers", "1",
            "--codec", "deflate", "--features", "rows.avro", "events.avro")
        check_features(read("rows.avro"), events, truth, scores)
        check_regression(said, read("rows.avro"), events, labels, truth,
                         chosen, ms(cut))
        check_off_policy(millrace)
        run(millrace, "replay", "--config", "shop.conf", "--set",
            "model.dir=model", "--workers", "2", "--features", "two.avro",
            "events.avro", status=1)
        check_next_item(said, events, lists, chosen)
        check_parts(said, events, lists, chosen)
        print(f"{EVENTS} events: order, lists, "
              f"AUC {said['fraud']['auc_roc']:.4f}, "
              f"HR@10 {said['next_item']['hr_at_10']:.4f} agree")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
