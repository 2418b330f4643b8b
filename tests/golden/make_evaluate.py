#!/usr/bin/env python3
"""Makes evaluate.txt: seeded rows, and what scikit-learn and the fraud
handbook's definitions say of them (test_evaluate.c reads it).

    python3 tests/golden/make_evaluate.py > tests/golden/evaluate.txt

Card Precision and the rule of known frauds follow the definitions of
"Reproducible Machine Learning for Credit Card Fraud Detection", chapters 3
and 4, written anew over plain lists. Column 0 has many equal scores, column
1 none, so that Card Precision (whose ties the book leaves open) is compared
on column 1 alone.
"""
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (average_precision_score, brier_score_loss,
                             log_loss, precision_score, roc_auc_score,
                             roc_curve)

DAY_MS = 86_400_000
START_DAY = 17_737  # 2018-07-25
TRAIN_DAYS, DELAY_DAYS, TEST_DAYS = 7, 7, 7
CARD_K = 10


def make_rows(rng):
    rows = []
    compromised = set(rng.choice(120, 25, replace=False))
    for day in range(TRAIN_DAYS + DELAY_DAYS + TEST_DAYS):
        for _ in range(45):
            user = int(rng.integers(120))
            fraud = int(user in compromised and rng.random() < 0.35
                        or rng.random() < 0.01)
            logit = rng.normal() + 2.2 * fraud - 2
            smooth = np.float32(1 / (1 + np.exp(-logit)))
            coarse = np.float32(np.round(smooth * 20) / 20)
            time = (START_DAY + day) * DAY_MS + int(rng.integers(DAY_MS))
            rows.append((time, user, fraud, float(coarse), float(smooth)))
    assert len({r[4] for r in rows}) == len(rows)
    return rows


def known_users(rows, day):
    """Defrauded from the start of training to the day less the delay."""
    until = (day - DELAY_DAYS) * DAY_MS
    return {r[1] for r in rows if r[2] and START_DAY * DAY_MS <= r[0] < until}


def card_precision(rows, column, k):
    found, precisions = set(), []
    for day in sorted({r[0] // DAY_MS for r in rows}):
        cards = {}
        for r in rows:
            if r[0] // DAY_MS == day and r[1] not in found:
                score, fraud = cards.get(r[1], (-1.0, 0))
                cards[r[1]] = (max(score, r[column]), max(fraud, r[2]))
        top = sorted(cards.items(), key=lambda c: -c[1][0])[:k]
        hits = [user for user, (_, fraud) in top if fraud]
        precisions.append(len(hits) / k)
        found.update(hits)
    return float(np.mean(precisions))


def expect_detail(name, rows):
    """Of column 1, which has no equal scores."""
    truth = np.array([r[2] for r in rows])
    score = np.array([r[4] for r in rows], dtype=np.float64)
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.05):
        print(f"detail {name} recall_at_rate_{rate} "
              f"{tpr[fpr <= rate].max():.15g}")
        best = np.sort(score)[::-1][(fpr <= rate).sum() - 2]
        first = score[truth == 1][score[truth == 1] >= best].min()
        print(f"detail {name} precision_at_rate_{rate} "
              f"{precision_score(truth, score >= first):.15g}")
    top = truth[np.argsort(-score)[:100]]
    print(f"detail {name} precision_at_100 {top.mean():.15g}")
    print(f"detail {name} recall_at_100 {top.sum() / truth.sum():.15g}")
    print(f"detail {name} observed_over_expected {truth.sum() / score.sum():.15g}")
    high = score > 0.1
    print(f"detail {name} observed_over_expected_high "
          f"{truth[high].sum() / score[high].sum():.15g}")
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.log(score / (1 - score))[:, None], truth)
    print(f"detail {name} slope {fit.coef_[0, 0]:.15g}")
    print(f"detail {name} intercept {fit.intercept_[0]:.15g}")
    expect_intervals(name, rows)


def expect_intervals(name, rows):
    """By resampling users with replacement: another bootstrap, so that only
    widths are alike."""
    rng = np.random.default_rng(7)
    users = sorted({r[1] for r in rows})
    by_user = {u: [r for r in rows if r[1] == u] for u in users}
    areas, precisions = [], []
    for _ in range(1000):
        drawn = [r for u in rng.choice(users, len(users)) for r in by_user[u]]
        truth, score = [r[2] for r in drawn], [r[4] for r in drawn]
        areas.append(roc_auc_score(truth, score))
        precisions.append(average_precision_score(truth, score))
    for metric, values in (("auc_roc", areas), ("average_precision", precisions)):
        low, high = np.quantile(values, (0.025, 0.975))
        print(f"detail {name} {metric}_low {low:.6g}")
        print(f"detail {name} {metric}_high {high:.6g}")


def expect(name, rows):
    truth = np.array([r[2] for r in rows])
    print(f"expect {name} rows {len(rows)}")
    print(f"expect {name} positives {truth.sum()}")
    for column in (0, 1):
        score = np.array([r[3 + column] for r in rows], dtype=np.float64)
        for metric, value in (
                ("auc_roc", roc_auc_score(truth, score)),
                ("average_precision", average_precision_score(truth, score)),
                ("log_loss", log_loss(truth, score)),
                ("brier", brier_score_loss(truth, score))):
            print(f"expect {name} {metric}_{column} {value:.15g}")
    print(f"expect {name} card_precision_1 {card_precision(rows, 4, CARD_K):.15g}")


def main():
    rows = make_rows(np.random.default_rng(20180725))
    print(f"# made by make_evaluate.py, scikit-learn {sklearn.__version__}")
    for r in rows:
        print(f"row {r[0]} {r[1]} {r[2]} {r[3]:.9g} {r[4]:.9g}")
    first = START_DAY + TRAIN_DAYS + DELAY_DAYS
    test = [r for r in rows if r[0] // DAY_MS >= first]
    expect("test", test)
    expect("unknown", [r for r in test
                       if r[1] not in known_users(rows, r[0] // DAY_MS)])
    expect_detail("test", test)


main()
