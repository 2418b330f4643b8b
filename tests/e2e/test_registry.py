"""run with a schema registry: down at the start, gone at a restart, asked for
the ids of outputs; messages that name their schema in a header."""

import io
import json
import os
import struct
import unittest

import fastavro

import harness
from harness import Run, decode, free_port, millrace, read_topic, schema
from registry import Registry

EVENTS = 3000


def text_of(name):
    with open(f"{harness.TOP}/schemas/{name}.avsc", encoding="utf-8") as f:
        return f.read()


class RegistryTest(harness.Case):
    def start_with(self, url, **changes):
        config = self.start(0, registry_url=url,
                            schemas_dir=self.path("kept"),
                            registry_timeout="500ms", **changes)
        self.generate(config, EVENTS)
        return config

    def dead(self):
        return read_topic(self.options["dead.letters.topic"])

    def wait_drained(self, run):
        run.wait_drained(self.options["input.topic"], self.options["group.id"])

    def test_down_at_the_start_then_gone_at_a_restart(self):
        port = free_port()
        config = self.start_with(f"http://127.0.0.1:{port}")
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_partitions_held") ==
                 harness.PARTITIONS, "held")
        status, why = run.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("wait for a schema", why)
        self.assertIn("REGISTRY", run.text())
        self.assertLess(run.stop(), 5)
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_partitions_held") ==
                 harness.PARTITIONS, "held")
        registry = Registry(self, port)
        registry.mode = 503
        registry.add(7, text_of("transaction"))
        run.wait(lambda: registry.requests, "asking")
        self.assertEqual(run.metric("millrace_events_scored_total"), 0)
        registry.mode = "well"
        self.wait_drained(run)
        run.wait_ready()
        run.stop()
        self.assertTrue(os.path.exists(self.path("kept/7.avsc")))
        registry.stop()
        self.generate(config, EVENTS, seed=2)
        run = Run(self, config)
        self.wait_drained(run)
        run.stop()
        fraud, _ = self.outputs()
        counts = self.source_counts(fraud)
        self.assertEqual(set(counts), self.inputs())
        self.assertEqual(set(counts.values()), {1})
        self.assertEqual(len(fraud), 2 * EVENTS)
        self.assertEqual(self.dead(), [])

    def test_one_unknown_schema_among_many(self):
        """A new producer's schema, that the registry does not give at first,
        in one partition; with a password that must not be seen."""
        with open(self.path("password"), "w", encoding="utf-8") as f:
            f.write("hunter2")
        registry = Registry(self, user="ann", password="hunter2")
        registry.add(7, text_of("transaction"))
        config = self.start_with(
            registry.url, registry_user="ann", schemas_retry="100ms",
            registry_password=f"${{file:{self.path('password')}}}")
        run = Run(self, config)
        self.wait_drained(run)
        registry.mode = "hang"
        newer = json.loads(text_of("transaction"))
        newer["fields"].insert(0, {"name": "more", "type": "string"})
        event = {"event_id": "e1", "user_id": "ann", "item_id": "i000001",
                 "time": 1700000000000, "amount": 12.5, "category": "toys",
                 "channel": "web", "type": "buy", "more": "x"}
        value = io.BytesIO()
        fastavro.schemaless_writer(value, fastavro.parse_schema(newer), event)
        header = [("__value_schema_id", struct.pack(">bI", 0, 8)),
                  ("trace", b"t")]
        self.produce([("ann", value.getvalue(), header)] * 3)
        run.wait(lambda: run.metric("millrace_partitions_held") == 1, "held")
        scored = run.metric("millrace_events_scored_total")
        self.generate(config, 500, seed=3)
        run.wait(lambda: run.metric("millrace_events_scored_total") > scored,
                 "scoring the other partitions")
        self.assertEqual(run.metric("millrace_partitions_held"), 1)
        registry.add(8, json.dumps(newer))
        registry.mode = "well"
        self.wait_drained(run)
        self.assertNotIn("hunter2", run.text() + run.get("/metrics")[1])
        run.stop()
        self.assertEqual(self.dead(), [])
        of_ann = [m for m in self.outputs()[0] if m.key == b"ann"]
        self.assertEqual(len(of_ann), 3)
        for m in of_ann:
            self.assertEqual(m.headers, {"trace": b"t"})
            self.assertEqual(decode(m, schema("fraud_score"))["event_id"], "e1")

    def test_ids_of_outputs(self):
        port = free_port()
        config = self.start_with(f"http://127.0.0.1:{port}",
                                 registry_register="true")
        done = millrace("run", "--config", config, ok=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("output.fraud.schema.id is not set", done.stderr)
        registry = Registry(self, port)
        registry.add(7, text_of("transaction"))
        run = Run(self, config)
        self.wait_drained(run)
        run.stop()
        registry.stop()
        run = Run(self, config)  # with what it said before
        self.generate(config, EVENTS, seed=2)
        self.wait_drained(run)
        run.stop()
        fraud, lists = self.outputs()
        self.assertEqual(len(fraud), 2 * EVENTS)
        for messages, name in (fraud, "fraud_score"), (lists, "recommendations"):
            ids = {struct.unpack(">I", m.value[1:5])[0] for m in messages}
            self.assertEqual([registry.schemas[i] for i in ids],
                             [text_of(name)])


if __name__ == "__main__":
    unittest.main()
