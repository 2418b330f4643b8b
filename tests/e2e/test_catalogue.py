"""A catalogue on a real broker: lists hold what it offers, follow it while it
changes, say which record they saw, and are made again by a replay; profiles
beside them."""

import io
import shutil
import subprocess

import fastavro
from confluent_kafka import Producer

import harness
from harness import Run, decode, millrace, read_topic, schema

CATEGORY_MAX = 2


class CatalogueTest(harness.Case):
    def offer(self, items, value):
        """A record for each item: value(item), None for one that is gone."""
        producer = Producer({"bootstrap.servers": harness.SERVERS})
        for item in items:
            producer.produce(self.options["catalogue.topic"], value(item), item)
        self.assertEqual(producer.flush(30), 0)

    def item(self, item, available=True):
        """Behind a Confluent header."""
        out = io.BytesIO(b"\0\0\0\0\x08")
        out.seek(5)
        category = f"c{int(item[1:]) % 7}"
        fastavro.schemaless_writer(out, schema("catalogue"), {
            "item_id": item, "available": available, "category": category})
        return out.getvalue()

    def lists(self):
        parsed = schema("recommendations")
        return [decode(m, parsed) for m in self.outputs()[1]]

    def check(self, lists, offered):
        for made in lists:
            items = [entry["item_id"] for entry in made["items"]]
            self.assertEqual(len(items), 10)
            self.assertEqual(len(set(items)), 10)
            self.assertLessEqual(set(items), offered)
            categories = [int(item[1:]) % 7 for item in items]
            for c in categories:
                self.assertLessEqual(categories.count(c), CATEGORY_MAX)
            for entry in made["items"]:
                self.assertTrue(0 < entry["propensity"] <= 1)

    def check_profiles(self):
        """At most one for a user and a day, of all users."""
        parsed = schema("profile")
        messages = read_topic(self.options["output.profile.topic"])
        days = set()
        for m in messages:
            made = decode(m, parsed)
            self.assertEqual(m.key.decode(), made["user_id"])
            self.assertEqual(len(made["embedding"]), 32)
            days.add((made["user_id"], made["time"].date()))
        self.assertEqual(len(days), len(messages))
        events = read_topic(self.options["input.topic"])
        self.assertEqual({user for user, _ in days},
                         {m.key.decode() for m in events})

    def status(self, config, *args):
        return subprocess.run(
            [harness.BIN, "replay", "--config", config, "--topic",
             self.options["input.topic"], "--verify-topics", *args],
            capture_output=True, text=True, timeout=120).returncode

    def test_lists_follow_the_catalogue(self):
        self.options.update({
            "catalogue.topic": f"{self.name}-items",
            "recommend.category.max": str(CATEGORY_MAX),
            "recommend.events.min": "2",
            "explore.rate": "0.2",
            "explore.pool": "30",
            "output.profile.topic": f"{self.name}-profiles",
        })
        config = self.start(1000)
        shutil.copy(f"{harness.TOP}/schemas/catalogue.avsc",
                    f"{self.options['schemas.dir']}/8.avsc")
        names = [f"i{n:06}" for n in range(500)]
        self.offer(names[:300], self.item)
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        before = self.lists()
        self.assertEqual(len(before), 1000)
        self.check(before, set(names[:300]))
        self.assertEqual({made["catalogue_offset"] for made in before}, {299})
        self.assertEqual({made["source"] for made in before},
                         {"model", "popularity"})
        # Some are sold out, some gone, one record is none.
        self.offer(names[:100], lambda item: self.item(item, False))
        self.offer(names[100:150], lambda item: None)
        self.offer(["x"], lambda item: b"\0\0\0\0\x08\xff")
        run.wait(lambda: run.metric("millrace_catalogue_records_total") == 451,
                 "followed")
        self.assertEqual(run.metric("millrace_catalogue_bad_total"), 1)
        self.generate(config, 1000, seed=2)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        after = [made for made in self.lists()
                 if made["catalogue_offset"] != 299]
        self.check(after, set(names[150:300]))
        self.assertEqual(len(after), 1000)
        self.assertEqual({made["catalogue_offset"] for made in after}, {449})
        self.check_profiles()
        self.assertEqual(self.status(config), 0)
        self.assertEqual(self.status(config, "--set", "explore.seed=2"), 4)

    def test_a_catalogue_has_one_partition(self):
        self.options["catalogue.topic"] = f"{self.name}-items"
        harness.keep_all(self.options["catalogue.topic"])
        config = self.start()
        done = millrace("run", "--config", config, ok=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("it has 4 partitions", done.stderr)
