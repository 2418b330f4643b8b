"""run against a real broker: what it writes, how it stops, how it fails."""

import io
import re
import time
import unittest

import fastavro

import harness
from harness import Run, decode, make_topic, millrace, read_topic, schema

EVENTS = 20000


class RunTest(harness.Case):
    def drain(self, config, *sets):
        run = Run(self, config, *sets)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()

    def event(self, user, time_ms):
        """A transaction behind its Confluent header."""
        value = io.BytesIO()
        fastavro.schemaless_writer(value, schema("transaction"), {
            "event_id": "e1", "user_id": user, "item_id": "i000001",
            "time": time_ms, "amount": 12.5, "category": "toys",
            "channel": "web", "type": "buy"})
        return b"\0\0\0\0\7" + value.getvalue()

    def check_equal_to_replay(self, workers, delivery):
        config = self.start(EVENTS, delivery=delivery, workers=str(workers))
        self.drain(config)
        fraud, lists = self.outputs()
        fraud_again, lists_again = self.replayed(config)
        self.assertEqual(len(fraud), EVENTS)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)
        self.assertEqual(set(self.source_counts(fraud)), self.inputs())

    def test_one_worker_exactly_once_equals_replay(self):
        self.check_equal_to_replay(1, "exactly_once")

    def test_two_workers_at_least_once_equal_replay(self):
        self.check_equal_to_replay(2, "at_least_once")

    def test_outputs_read_by_fastavro(self):
        config = self.start(2000)
        self.drain(config)
        events = {}
        transaction = schema("transaction")
        for m in read_topic(self.options["input.topic"]):
            events[(m.partition, m.offset)] = decode(m, transaction)
        score_schema, list_schema = schema("fraud_score"), schema("recommendations")
        fraud, lists = self.outputs()
        for m in fraud:
            score = decode(m, score_schema)
            event = events[(score["source_partition"], score["source_offset"])]
            self.assertEqual(score["event_id"], event["event_id"])
            self.assertEqual(score["user_id"], event["user_id"])
            self.assertEqual(score["item_id"], event["item_id"])
            self.assertEqual(m.key.decode(), event["user_id"])
            self.assertTrue(0 <= score["probability"] <= 1)
            self.assertTrue(0 <= score["anomaly"] <= 1)
            self.assertEqual(score["source_topic"], self.options["input.topic"])
        self.assertEqual(len(fraud), len(events))
        for m in lists:
            ranked = decode(m, list_schema)
            self.assertEqual(m.key.decode(), ranked["user_id"])
            scores = [entry["score"] for entry in ranked["items"]]
            self.assertEqual(scores, sorted(scores, reverse=True))

    def test_sigterm_under_load(self):
        """Exits 0 within 5 s, and the group has no member left."""
        config = self.start(EVENTS)
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_events_scored_total") > 500,
                 "scoring")
        self.assertLess(run.stop(), 5)
        group = self.options["group.id"]
        described = harness.ADMIN.describe_consumer_groups([group])[group]
        self.assertEqual(described.result(10).members, [])
        # What it had committed is all there, and nothing beyond.
        counts = self.source_counts(self.outputs()[0])
        self.assertTrue(set(counts.values()) <= {1})

    def test_headers_pass_through(self):
        config = self.start()
        self.produce([("u1", self.event("u1", 1700000000000),
                       [("traceparent", b"00-abc-01"), ("empty", b"")])])
        self.drain(config)
        for messages in self.outputs():
            self.assertEqual(len(messages), 1)
            self.assertEqual(messages[0].headers["traceparent"], b"00-abc-01")
            self.assertEqual(messages[0].headers["empty"], b"")

    def test_dead_letters(self):
        """Bad bytes leave their neighbours alone and keep their own."""
        config = self.start(500)
        bad = [("u1", b"\0\0\0\0\7" + b"\xff" * 40, [("trace", b"t1")]),
               ("u2", b"", None),
               ("u3", b"\0\0\0\0\x63rest", None),
               (None, None, None)]
        self.produce(bad)
        self.generate(config, 500, seed=2)
        self.drain(config)
        dead = read_topic(self.options["dead.letters.topic"])
        self.assertEqual(len(dead), len(bad), [m.headers for m in dead])
        originals = {(m.partition, m.offset): m
                     for m in read_topic(self.options["input.topic"])}
        for m in dead:
            self.assertEqual(m.headers["millrace.source.topic"].decode(),
                             self.options["input.topic"])
            at = (int(m.headers["millrace.source.partition"]),
                  int(m.headers["millrace.source.offset"]))
            self.assertEqual(m.value, originals[at].value)
            self.assertEqual(m.key, originals[at].key)
            self.assertTrue(m.headers["millrace.reason"])
        self.assertIn(b"t1", [m.headers.get("trace") for m in dead])
        self.assertEqual(len(self.outputs()[0]), 1000)

    def test_what_a_topic_refuses_does_not_stop_the_stream(self):
        """A bad record larger than the dead letters' topic takes; good ones
        with a time that a broker refuses; headers without end."""
        dead_topic = self.options["dead.letters.topic"]
        make_topic(dead_topic, {"max.message.bytes": "20000"})
        make_topic(self.options["output.fraud.topic"],
                   {"message.timestamp.type": "CreateTime",
                    "message.timestamp.after.max.ms": "60000",
                    "message.timestamp.before.max.ms": "60000"})
        config = self.start()
        ahead = int((time.time() + 20 * 3600) * 1000)
        many = [("own", b"x" * 10000)] * 60
        self.produce([
            ("u1", self.event("u1", ahead), None),
            ("u2", b"\0\0\0\0\x63" + b"x" * 300000, [("trace", b"t1")]),
            ("u3" * 20000, b"\0\0\0\0\x63", [("trace", b"t2")]),
            ("u4", self.event("u4", 1), many),
            ("u5", self.event("u5", ahead), many),
        ])
        self.drain(config)
        self.assertEqual(len(self.outputs()[0]), 3)
        dead = read_topic(dead_topic)
        self.assertEqual(len(dead), 2)
        self.assertEqual({m.headers["millrace.reason"] for m in dead},
                         {b"schema_id"})
        large = next(m for m in dead if m.key == b"u2")
        self.assertEqual(large.headers["millrace.value"], b"omitted")
        self.assertEqual(large.headers["trace"], b"t1")
        self.assertFalse(large.value)
        bare = next(m for m in dead if m.key is None)
        self.assertEqual(bare.headers["millrace.key"], b"omitted")

    def test_compacted_dead_letters_are_refused(self):
        make_topic(self.options["dead.letters.topic"],
                   {"cleanup.policy": "compact"})
        done = millrace("run", "--config", self.start(), ok=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cleanup.policy", done.stderr)

    def test_missing_topic_names_the_cure(self):
        self.make_model()
        config = self.config()
        done = millrace("run", "--config", config, ok=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("topics --create", done.stderr)
        self.assertIn(self.options["input.topic"], done.stderr)

    def test_health_and_metrics(self):
        config = self.start(1000)
        run = Run(self, config)
        run.wait_ready()
        self.assertEqual(run.get("/livez")[0], 200)
        run.wait(lambda: run.metric("millrace_events_scored_total") == 1000,
                 "scored")
        page = run.get("/metrics")[1]
        self.assertTrue(re.search(r'^millrace_step_seconds_count\{step="forward"',
                                  page, re.M))
        self.assertEqual(run.metric("millrace_outputs_total"), 2000)
        run.stop()


if __name__ == "__main__":
    unittest.main()
