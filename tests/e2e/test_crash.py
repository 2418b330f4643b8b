"""kill -9, takeovers and restarts: I1 to I3 on a real broker."""

import random
import time
import unittest

import harness
from harness import Run

EVENTS = 30000
KILLS = 5


class CrashTest(harness.Case):
    def kill_and_drain(self, delivery, workers):
        """Kills at random moments of work, then lets one run to the end."""
        config = self.start(0, delivery=delivery, workers=str(workers),
                            state_checkpoint_age="1s", model_cache="2MiB")
        moments = random.Random(1)
        for n in range(KILLS):  # each life finds events nobody has scored
            self.generate(config, EVENTS // KILLS, seed=n + 1)
            run = Run(self, config)
            run.wait(lambda: run.metric("millrace_events_scored_total") > 200,
                     "scoring")
            time.sleep(moments.uniform(0, 0.15))
            run.kill()
            self.assertNotIn("STATEDAMAGED", run.text())
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        # What a dying process leaves is whole: none is taken for damage.
        self.assertEqual(run.metric("millrace_state_rebuilds_total"), 0)
        run.stop()
        return config

    def test_exactly_once_means_that(self):
        config = self.kill_and_drain("exactly_once", 1)
        fraud, lists = self.outputs()
        counts = self.source_counts(fraud)
        self.assertEqual(set(counts), self.inputs())
        self.assertEqual(set(counts.values()), {1})
        fraud_again, lists_again = self.replayed(config)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)

    def test_exactly_once_two_workers(self):
        self.kill_and_drain("exactly_once", 2)
        counts = self.source_counts(self.outputs()[0])
        self.assertEqual(set(counts), self.inputs())
        self.assertEqual(set(counts.values()), {1})

    def test_at_least_once_loses_nothing(self):
        config = self.kill_and_drain("at_least_once", 1)
        fraud, _ = self.outputs()
        self.assertEqual(set(self.source_counts(fraud)), self.inputs())
        # What came twice came with the same bits.
        again = {m.value for m in self.replayed(config)[0]}
        self.assertEqual({m.value for m in fraud}, again)

    def test_restart_folds(self):
        """Events after the checkpoint are folded, not scored again."""
        config = self.start(5000, state_checkpoint_age="10m")
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.kill()
        run = Run(self, config)
        run.wait_ready()
        run.wait(lambda: run.metric("millrace_events_folded_total") > 0,
                 "folding")
        self.generate(config, 5000, seed=2)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        fraud, lists = self.outputs()
        self.assertEqual(len(fraud), 10000)
        fraud_again, lists_again = self.replayed(config)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)

    def test_another_host_takes_over(self):
        """Two processes with stores of their own; one dies for good."""
        config = self.start(EVENTS // 2)
        sets = ("kafka.consumer.session.timeout.ms=6000",)
        first = Run(self, config, *sets)
        first.wait_ready()
        second = Run(self, config, f"state.dir={self.path('state2')}", *sets)
        second.wait(lambda: second.metric("millrace_partitions") == 2,
                    "sharing the partitions")
        self.generate(config, EVENTS // 2, seed=2)
        first.wait(lambda: first.metric("millrace_events_scored_total") > 200,
                   "scoring")
        first.kill()
        second.wait_drained(self.options["input.topic"],
                            self.options["group.id"])
        second.stop()
        fraud, _ = self.outputs()
        counts = self.source_counts(fraud)
        self.assertEqual(set(counts), self.inputs())
        self.assertEqual(set(counts.values()), {1})
        self.assert_same_bytes(fraud, self.replayed(config)[0])


if __name__ == "__main__":
    unittest.main()
