"""Dead letters are counted, shown and sent back, each once."""

import io
import json
import shutil
import subprocess
import unittest

import fastavro

import harness
from harness import BIN, Run, log_ends, millrace, read_topic, schema


class DlqTest(harness.Case):
    def drain(self, config):
        """The end of the log may be the end of a transaction, which nobody
        commits: events are counted instead."""
        count = len(self.inputs())
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_events_total") -
                 run.metric("millrace_events_folded_total") >=
                 count - self.drained, "drained")
        run.stop()
        self.drained = count

    def event(self, i, schema_id):
        value = io.BytesIO()
        fastavro.schemaless_writer(value, schema("transaction"), {
            "event_id": f"late{i}", "user_id": f"u{i}", "item_id": "i000001",
            "time": 1700000000000 + i, "amount": 12.5, "category": "toys",
            "channel": "web", "type": "buy"})
        return bytes([0, 0, 0, 0, schema_id]) + value.getvalue()

    def dlq(self, *args, ok=True):
        done = millrace("dlq", *args, "--json", "--config", self.conf, ok=ok)
        return json.loads(done.stdout) if ok else done

    def setUp(self):
        super().setUp()
        self.conf = None
        self.drained = 0

    def test_to_the_dead_letters_and_back(self):
        self.conf = self.start(300)
        bad = [(f"u{i}", self.event(i, 99), [("trace", b"t%d" % i)])
               for i in range(3)]
        bad.append(("u9", b"\0\0\0\0\7" + b"\xff" * 40, [("trace", b"t9")]))
        self.produce(bad)
        self.drain(self.conf)

        listed = self.dlq("list")
        self.assertEqual((listed["waiting"], listed["redriven"]), (4, 0))
        self.assertEqual({r["reason"]: r["waiting"] for r in listed["reasons"]},
                         {"schema_id": 3, "bytes": 1})
        self.assertEqual(sum(s["waiting"] for s in listed["sources"]), 4)
        shown = millrace("dlq", "show", "--reason", "schema_id", "--config",
                         self.conf).stdout.splitlines()
        self.assertEqual({json.loads(line)["key"] for line in shown},
                         {"u0", "u1", "u2"})
        for line in shown:
            headers = dict(json.loads(line)["headers"])
            self.assertEqual(headers["millrace.reason"], "schema_id")
            self.assertIn("value_hex", json.loads(line))
        first = json.loads(shown[0])
        one = millrace("dlq", "show", str(first["partition"]),
                       str(first["offset"]), "--config", self.conf).stdout
        self.assertEqual(json.loads(one), first)

        # The schema comes; its letters go back, in two goes, and never again.
        self.assertNotEqual(
            self.dlq("redrive", "--reason", "schema_id", ok=False).returncode, 0)
        plan = self.dlq("redrive", "--reason", "schema_id", "--dry-run")
        self.assertEqual(plan["redriven"], 3)
        before = {(m.key, m.value): m
                  for m in read_topic(self.options["input.topic"])}
        shutil.copy(harness.ROLES["input.schema"],
                    f"{self.options['schemas.dir']}/99.avsc")
        go = ("redrive", "--reason", "schema_id", "--yes")
        self.assertEqual(self.dlq(*go, "--max", "2")["redriven"], 2)
        again = self.dlq(*go)
        self.assertEqual((again["redriven"], again["before"]), (1, 2))
        again = self.dlq(*go)
        self.assertEqual((again["redriven"], again["before"]), (0, 3))
        listed = self.dlq("list")
        self.assertEqual((listed["waiting"], listed["redriven"]), (1, 3))

        self.drain(self.conf)
        everything = read_topic(self.options["input.topic"])
        back = [m for m in everything if "millrace.redriven" in m.headers]
        self.assertEqual(len(everything), 300 + 4 + 3)
        self.assertEqual(len(back), 3)
        for m in back:
            original = before[(m.key, m.value)]
            self.assertEqual(m.partition, original.partition)
            self.assertEqual(m.timestamp, original.timestamp)
            self.assertEqual(m.headers, {**original.headers,
                                         "millrace.redriven": b"1"})
        self.assertEqual(len(self.outputs()[0]), 303)
        self.assertEqual(self.dlq("list")["waiting"], 1)

    def test_no_letter_goes_round_for_ever(self):
        self.conf = self.start()
        self.produce([("u9", b"\0\0\0\0\7" + b"\xff" * 40, None)])
        self.drain(self.conf)
        go = ("redrive", "--yes", "--times", "1")
        self.assertEqual(self.dlq(*go)["redriven"], 1)
        self.drain(self.conf)
        self.assertEqual(self.dlq("list")["waiting"], 1)
        stopped = self.dlq(*go)
        self.assertEqual((stopped["redriven"], stopped["too_often"]), (0, 1))
        self.assertEqual(self.dlq(*go, "--force")["redriven"], 1)
        counts = [m.headers.get("millrace.redriven")
                  for m in read_topic(self.options["input.topic"])]
        self.assertEqual(counts, [None, b"1", b"2"])

    def test_killed_redrives_send_once(self):
        """kill -9 as soon as something was sent, three times; the next goes
        on behind it."""
        self.conf = self.start()
        topic = self.options["input.topic"]
        count = 10000
        self.produce([(f"u{i}", b"\0\0\0\0\7" + b"\xff" * 40 + b"%d" % i, None)
                      for i in range(count)])
        self.drain(self.conf)
        for _ in range(3):
            before = sum(log_ends(topic).values())
            process = subprocess.Popen(
                [BIN, "dlq", "redrive", "--yes", "--config", self.conf],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
            while (sum(log_ends(topic).values()) == before and
                   process.poll() is None):
                pass
            process.kill()
            process.wait()
        last = self.dlq("redrive", "--yes")
        self.assertEqual(last["redriven"] + last["before"], count)
        self.assertGreater(last["before"], 0)
        values = [m.value for m in read_topic(self.options["input.topic"])
                  if "millrace.redriven" in m.headers]
        self.assertEqual(len(values), count)
        self.assertEqual(len(set(values)), count)


if __name__ == "__main__":
    unittest.main()
