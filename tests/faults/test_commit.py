"""Killed, or failing, at any line of a commit: I1 to I3.

Every scenario ends with the checker, and is run again with a rule broken
that it must see."""

import time

from case import (SMALL, SOME_DUPLICATE, SOME_MISSING, SOME_ROWS, FaultCase,
                  FaultRun, by_hand, scaled, tell)

# Rows are written in small slices, so that a store stands at many commits.
SLICES = {"state_checkpoint_age": "2s", "state_checkpoint_rows": "40"}
POINTS = ("opening", "before_produce", "after_send", "after_offsets",
          "committing", "commit_answer", "after_commit", "before_store",
          "after_store", "folding")
# at least once has no transaction
POINTS_PLAIN = ("opening", "before_produce", "after_send", "after_commit",
                "before_store", "after_store", "folding")
KILLED = -9
SLOW_S = 10  # until ready: then its log is shown


class KillTest(FaultCase):
    def kill_at_points(self, config, points, rounds):
        """Dies at each point in turn; the store never leads the log."""
        for at in range(rounds):
            for point in points:
                nth = 1 if point in ("opening", "folding") else \
                    self.random.randint(1, 5)
                status = self.survive(config, f"{point}:{nth}:kill", *SMALL)
                self.assertEqual(status, KILLED, point)
                leads = self.check_store_behind_log(config)
                self.assertIsNone(leads, f"killed at {point}: {leads}")
            tell(f"round {at + 1} of {rounds}: killed at each of "
                 f"{len(points)} points")

    def test_every_point_exactly_once(self):
        rounds = scaled(1, 3, 10)
        config = self.start(6000 * rounds, **SLICES)
        self.kill_at_points(config, POINTS, rounds)
        ready_s = self.drain(config)
        tell(f"ready {ready_s:.2f} s after the last start")
        self.assertEqual(self.findings(config), [])

    @by_hand
    def test_every_point_at_least_once(self):
        """What comes twice comes with the same bytes."""
        rounds = scaled(1, 2, 5)
        config = self.start(8000, delivery="at_least_once", **SLICES)
        # Commits cost little here: a life may go through any log there is.
        self.feed(config, 1_000_000, 1000)
        self.kill_at_points(config, POINTS_PLAIN, rounds)
        self.feeding.kill()
        self.drain(config)
        verdict = self.judge(config)
        self.assertEqual((verdict.missing, verdict.foreign, verdict.rows),
                         (0, 0, 0), str(verdict))

    @by_hand
    def test_handing_over(self):
        """SIGTERM comes, and the kill while partitions are let go."""
        config = self.start(8000, **SLICES)
        for nth in range(1, scaled(2, 4, 4)):
            run = FaultRun(self, config, *SMALL,
                           fault=f"handing_over:{nth}:kill")
            run.wait(lambda r=run: r.metric("millrace_events_scored_total") >
                     200, "scoring")
            run.process.terminate()
            self.assertEqual(run.ended(20), KILLED, run.text())
        self.drain(config)
        self.assertEqual(self.findings(config), [])

    def test_random_moments(self):
        """kill -9 at moments that nobody chose, the start-up included."""
        kills = scaled(6, 40, 200)
        config = self.start(scaled(8000, 100000, 100000),
                            state_checkpoint_age="500ms")
        ready, slowest = [], ""
        for at in range(kills):
            run = FaultRun(self, config, *SMALL)
            if self.random.random() < 0.2:
                time.sleep(self.random.uniform(0, 0.5))
            else:
                ready.append(run.ready_s())
                if ready[-1] == max(ready):
                    slowest = run.text()
                time.sleep(self.random.uniform(0, 0.3))
            run.kill()
            if at % 20 == 19:
                tell(f"{at + 1} of {kills} kills")
        self.drain(config)
        ready.sort()
        tell(f"{kills} kills; ready after {ready[len(ready) // 2]:.2f} s "
             f"(middle), {ready[-1]:.2f} s (worst)")
        if ready[-1] > SLOW_S:
            tell(f"the slowest start:\n{slowest}")
        self.assertIsNone(self.check_store_behind_log(config))
        self.assertEqual(self.findings(config), [])


class FailTest(FaultCase):
    """Calls that fail: the worker rewinds and goes on."""

    def rewinds(self, sabotage=None):
        config = self.start(4000, **SLICES)
        run = FaultRun(self, config, *SMALL, sabotage=sabotage, fault=(
            "before_produce:500:error,after_send:9:error,"
            "after_offsets:17:error"))
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        rewinds = run.metric("millrace_rewinds_total")
        run.stop()
        self.assertGreaterEqual(rewinds, 3)
        return self.findings(config)

    def test_rewinds(self):
        self.assertEqual(self.rewinds(), [])

    def test_rewinds_sabotaged(self):
        self.assert_caught(SOME_MISSING, self.rewinds, "no_rewind")

    @by_hand
    def test_commit_with_unknown_outcome(self):
        """The answer of a commit is lost, before and after it happened."""
        config = self.start(4000, **SLICES)
        for fault in ("commit_answer:9:error", "committing:9:error"):
            run = FaultRun(self, config, *SMALL, fault=fault)
            run.wait(lambda r=run: "FAULT point=" in r.text(), "failing")
            if run.ended(3) is None:  # settled, and goes on
                run.stop()
        self.drain(config)
        self.assertEqual(self.findings(config), [])

    @by_hand
    def test_store_that_cannot_be_written(self):
        """Stops with a message; the next start goes on."""
        config = self.start(4000, **SLICES)
        status = self.survive(config, "before_store:3:error", *SMALL)
        self.assertEqual(status, 1)
        self.drain(config)
        self.assertEqual(self.findings(config), [])


class SabotageTest(FaultCase):
    """A rule is broken, and killed at the one place where that shows; then a
    start with every rule in its place. Or the other way round: the rule of a
    restart is broken after an honest kill. The checker must say what."""

    def cut(self, fault, before=None, after=None, sets=(), **changes):
        config = self.start(4000, **{**SLICES, **changes})
        self.survive(config, fault, *SMALL, *sets, sabotage=before)
        leads = self.check_store_behind_log(config)
        if leads:
            return [leads]
        self.drain(config, *sets, sabotage=after)
        return self.findings(config)

    def test_store_first(self):
        self.assert_caught("holds events", self.cut, "after_offsets:9:kill",
                           before="store_first")

    def test_checkpoint_ahead(self):
        self.assert_caught(SOME_ROWS, self.cut, "after_store:9:kill",
                           before="checkpoint_ahead",
                           state_checkpoint_rows="1")

    def test_plain_producer(self):
        self.assert_caught(SOME_DUPLICATE, self.cut, "after_send:9:kill",
                           before="plain_producer")

    @by_hand
    def test_unacknowledged(self):
        self.assert_caught(SOME_MISSING, self.cut, "after_commit:9:kill",
                           before="unacknowledged", delivery="at_least_once",
                           sets=("kafka.producer.linger.ms=2000",))

    @by_hand
    def test_offsets_outside(self):
        self.assert_caught(SOME_MISSING, self.cut, "after_offsets:9:kill",
                           before="offsets_outside")

    @by_hand
    def test_applied_twice(self):
        """Rows must stand at different commits for that."""
        self.assert_caught(SOME_ROWS, self.cut, "after_store:40:kill",
                           after="applied_twice", state_checkpoint_rows="2")

    @by_hand
    def test_folds_speak(self):
        self.assert_caught(SOME_DUPLICATE, self.cut, "after_commit:20:kill",
                           after="folds_speak")

    @by_hand
    def test_no_fold(self):
        self.assert_caught(SOME_ROWS, self.cut, "after_commit:20:kill",
                           after="no_fold")

    @by_hand
    def test_nothing_broken(self):
        """None of them is caught where nothing is broken."""
        self.assertEqual(self.cut("after_store:20:kill"), [])
