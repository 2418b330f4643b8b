"""State that moves: a host that has none takes it from the changelog, and
gives the bits that the old one would have given (design, "Moving between
hosts" and "On assignment")."""

import json
import shutil
import time
import unittest

from confluent_kafka import Consumer, TopicPartition

import harness
from harness import Run, millrace, read_topic

EVENTS = 9000


class ChangelogTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.options["changelog.topic"] = f"{self.name}-changelog"
        self.options["state.checkpoint.age"] = "1s"

    def drain(self, run):
        run.wait_drained(self.options["input.topic"], self.options["group.id"])

    def check(self, config, exactly_once=True):
        """Every input once, and the bits of a replay."""
        fraud, lists = self.outputs()
        counts = self.source_counts(fraud)
        self.assertEqual(set(counts), self.inputs())
        fraud_again, lists_again = self.replayed(config)
        if exactly_once:
            self.assert_same_bytes(fraud, fraud_again)
            self.assert_same_bytes(lists, lists_again)
        else:  # what came twice came with the same bits
            self.assertEqual({m.value for m in fraud},
                             {m.value for m in fraud_again})

    def restored(self, run):
        run.wait_ready()
        self.assertEqual(run.metric("millrace_partitions_restoring"), 0)
        return run.metric("millrace_restore_rows_total")

    def lose_state_and_go_on(self, delivery):
        """A process dies and its disk with it; one with an empty folder goes
        on from what the changelog has."""
        config = self.start(EVENTS, delivery=delivery)
        run = Run(self, config)
        self.drain(run)
        run.kill()
        shutil.rmtree(self.options["state.dir"])
        sets = ("kafka.consumer.session.timeout.ms=6000",)
        run = Run(self, config, *sets)
        self.assertGreater(self.restored(run), 0)
        # What was folded is the distance to the marker, not the whole log.
        self.assertLess(run.metric("millrace_events_folded_total"), EVENTS)
        self.generate(config, EVENTS // 3, seed=2)
        self.drain(run)
        run.stop()
        self.check(config, delivery == "exactly_once")

    def test_a_lost_disk_exactly_once(self):
        self.lose_state_and_go_on("exactly_once")

    def test_a_lost_disk_at_least_once(self):
        self.lose_state_and_go_on("at_least_once")


    def come_and_go(self, *sets):
        """One host, two, one, none, another: each with a state of its own."""
        config = self.start(EVENTS // 3)
        sets += ("kafka.consumer.session.timeout.ms=6000",)

        def host(name):
            return Run(self, config, f"state.dir={self.path(name)}", *sets)

        first = host("a")
        first.wait_ready()
        second = host("b")
        second.wait(lambda: second.metric("millrace_partitions") == 2,
                    "sharing the partitions")
        self.generate(config, EVENTS // 3, seed=2)
        second.wait(lambda: second.metric("millrace_events_scored_total") > 200,
                    "scoring")
        second.stop()
        self.generate(config, EVENTS // 3, seed=3)
        first.wait(lambda: first.metric("millrace_partitions") == 4,
                   "taking all of them")
        first.kill()
        third = host("c")
        self.assertGreater(self.restored(third), 0)
        self.drain(third)
        third.stop()
        self.check(config)

    def test_hosts_come_and_go_eager(self):
        self.come_and_go("group.assignment=eager")

    def test_hosts_come_and_go_cooperative(self):
        self.come_and_go("group.assignment=cooperative", "group.static=false")

    def test_hosts_come_and_go_cooperative_static(self):
        self.come_and_go("group.assignment=cooperative")

    def test_a_standby_takes_over(self):
        """Copies are there before they are needed: who takes over reads no
        changelog, or its last rows."""
        config = self.start(EVENTS // 3)
        sets = ("kafka.consumer.session.timeout.ms=6000", "standby.replicas=1")
        first = Run(self, config, *sets)
        first.wait_ready()
        second = Run(self, config, f"state.dir={self.path('state2')}", *sets)
        second.wait(lambda: second.metric("millrace_partitions") == 2,
                    "sharing the partitions")
        second.wait(lambda: second.text().count("follows from") >= 2,
                    "following")
        self.generate(config, EVENTS // 3, seed=2)
        self.drain(second)
        rows = second.metric("millrace_standby_rows_total")
        self.assertGreater(rows, 0)
        time.sleep(3)  # the last slice, and its way
        restored = second.metric("millrace_restore_rows_total")
        first.kill()
        second.wait(lambda: second.metric("millrace_partitions") == 4,
                    "taking all of them")
        second.wait_ready()
        self.assertIn("let go", second.text())
        self.assertEqual(second.metric("millrace_restore_rows_total"), restored)
        self.generate(config, EVENTS // 3, seed=3)
        self.drain(second)
        second.stop()
        self.check(config)

    def test_reset_takes_the_changelog_with_it(self):
        """What reset leaves is a start from nothing, on any host."""
        config = self.start(4000)
        run = Run(self, config)
        self.drain(run)
        run.stop()
        self.assertTrue(read_topic(self.options["changelog.topic"]))
        done = millrace("reset", "--yes", "--json", "--to", "earliest",
                        "--config", config)
        self.assertGreater(json.loads(done.stdout)["changelog_rows_cleared"], 0)
        newest = {}
        for m in read_topic(self.options["changelog.topic"]):
            newest[(m.partition, m.key)] = m.value
        self.assertEqual(set(newest.values()), {None})
        # All is scored again, by a host that has nothing.
        run = Run(self, config, f"state.dir={self.path('state2')}")
        self.assertEqual(self.restored(run), 0)
        self.drain(run)
        run.stop()
        fraud, _ = self.outputs()
        self.assertEqual(set(self.source_counts(fraud).values()), {2})
        self.assertEqual(len({m.value for m in fraud}), len(fraud) // 2)

    def test_an_operators_offset_reset_is_refused(self):
        """Offsets set back by hand: neither the own state nor the changelog
        fits, and nobody scores a second time."""
        config = self.start(3000)
        run = Run(self, config)
        self.drain(run)
        run.stop()
        topic, group = self.options["input.topic"], self.options["group.id"]
        consumer = Consumer({"bootstrap.servers": harness.SERVERS,
                             "group.id": group})
        consumer.commit(offsets=[TopicPartition(topic, p, 10)
                                 for p in range(harness.PARTITIONS)],
                        asynchronous=False)
        consumer.close()
        for sets in ((), ("--set", f"state.dir={self.path('state2')}")):
            done = millrace("run", "--config", config, "--set",
                            "admin.listen=", *sets, ok=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("committed only up to 10", done.stderr)
            self.assertIn("millrace reset", done.stderr)
        self.assertEqual(len(self.outputs()[0]), 3000)

    def test_partitions_must_match(self):
        config = self.start()
        name = f"{self.name}-narrow"
        millrace("topics", "--create", "--partitions", "2", "--config", config,
                 "--set", f"changelog.topic={name}", "--set",
                 "input.topic=" + name + "-in")
        done = millrace("run", "--config", config, "--set", "admin.listen=",
                        "--set", f"changelog.topic={name}", ok=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has 2 partitions", done.stderr)
        self.assertIn("topics --create", done.stderr)

    def test_topics_says_how_it_is_kept(self):
        config = self.start()
        topic = self.options["changelog.topic"]
        listed = json.loads(millrace("topics", "--json", "--config",
                                     config).stdout)["topics"]
        entry = next(t for t in listed if t["topic"] == topic)
        self.assertEqual(entry["settings"]["cleanup.policy"], "compact")
        self.assertEqual(entry["partitions"], harness.PARTITIONS)


if __name__ == "__main__":
    unittest.main()
