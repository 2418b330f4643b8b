"""The fraud handbook's transactions, as a user would take them: import,
train, run; outputs read by Python agree with replay of the same log.

Every 20th customer, so that it fits a test run; all of them by hand. Skips
without MILLRACE_DATA."""

import lzma
import os
import unittest

import harness
from harness import TOP, Run, decode, millrace, schema

DATA = os.path.join(os.environ.get("MILLRACE_DATA", ""), "fraud_handbook",
                    "transactions_to_2018-08-14.csv.xz")
ONE_IN = int(os.environ.get("MILLRACE_HANDBOOK_ONE_IN", "20"))


@unittest.skipUnless(os.path.exists(DATA), "no MILLRACE_DATA")
class HandbookTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.options |= {
            "input.schema": f"{TOP}/schemas/handbook.avsc",
            "history.events": "64",
            "windows": "1d,7d,30d",
        }
        del self.options["role.type"]

    def slice(self):
        """A CSV of every ONE_IN-th customer; how many rows."""
        rows = 0
        with lzma.open(DATA, "rt") as source, \
                open(self.path("slice.csv"), "w", encoding="utf-8") as out:
            header = next(source)
            customer = header.strip().split(",").index("customer_id")
            out.write(header)
            for line in source:
                if int(line.split(",")[customer]) % ONE_IN == 0:
                    out.write(line)
                    rows += 1
        return rows

    def train(self, config):
        """On what comes before July; one epoch of a small model will do."""
        millrace("import", self.path("slice.csv"), "--mapping",
                 f"{TOP}/config/handbook.map", "--to", self.path("log.avro"))
        millrace("train", "behaviour", "--config", config,
                 "--set", "role.label=fraud", "--set", "model.dir=",
                 "--epochs", "1", "--width", "32", "--ffn", "64",
                 "--window", "32", "--validate-from", "2018-06-20",
                 "--until", "2018-07-01", "--out", self.options["model.dir"],
                 self.path("log.avro"))

    def test_import_train_run(self):
        rows = self.slice()
        config = self.config(workers="2")
        self.train(config)
        self.make_topics(config)
        millrace("import", self.path("slice.csv"), "--mapping",
                 f"{TOP}/config/handbook.map", "--config", config,
                 "--topic", self.options["input.topic"])
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"],
                         self.options["group.id"])
        run.stop()
        fraud, lists = self.outputs()
        self.assertEqual(len(fraud), rows)
        fraud_again, lists_again = self.replayed(config)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)
        self.check_scores(fraud)

    def check_scores(self, fraud):
        """Every transaction once, with a probability of its own."""
        parsed = schema("fraud_score")
        with open(self.path("slice.csv"), encoding="utf-8") as f:
            place = next(f).strip().split(",").index("tx_id")
            expected = sorted(line.strip().split(",")[place] for line in f)
        scores = [decode(m, parsed) for m in fraud]
        self.assertEqual(sorted(s["event_id"] for s in scores), expected)
        self.assertTrue(all(0 <= s["probability"] <= 1 for s in scores))
        self.assertGreater(len({s["probability"] for s in scores}), 1000)


if __name__ == "__main__":
    unittest.main()
