"""State that moves: a host that has none takes it from the changelog, and
gives the bits that the old one would have given (design, "Moving between
hosts" and "On assignment")."""

import shutil
import unittest

import harness
from harness import ADMIN, Run, millrace, read_topic

EVENTS = 15000


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


if __name__ == "__main__":
    unittest.main()
