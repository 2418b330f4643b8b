"""Processes that are stopped, moved, multiplied and cut off: I1 to I3, I7."""

import os
import re
import signal
import subprocess
import time

import harness
from case import (SESSION, SMALL, SOME_DUPLICATE, SOME_ROWS, FaultCase,
                  FaultRun, by_hand, scaled, tell)
from harness import TOP

STOP_S_MAX = 5
# What may end a process when its broker goes; a restart goes on.
ENDS = "FENCED_INSTANCE_ID|outcome of a transaction unknown"


class MoveCase(FaultCase):
    partitions = 4

    def own_state(self, number):
        return f"state.dir={self.path(f'state{number}')}"

    def drained(self, run, seconds=harness.DRAIN_S):
        """As Run.wait_drained, whoever of the group does it."""
        topic, group = self.options["input.topic"], self.options["group.id"]
        run.wait_drained(topic, group, seconds)


@by_hand
class StoppedTest(MoveCase):
    """SIGSTOP between a transaction's outputs and its offsets. Another takes
    its partitions meanwhile; what it does when it wakes counts once."""

    def overtaken(self, stopped_s, *sets, sabotage=None):
        config = self.start(6000)
        first = FaultRun(self, config, SESSION, *SMALL, self.own_state(0),
                         *sets, fault="after_send:20:stop", sabotage=sabotage)
        first.wait(lambda: "FAULT point=" in first.text(), "stopped")
        stopped = time.monotonic()
        second = FaultRun(self, config, SESSION, self.own_state(1), *sets)
        second.wait(lambda: second.metric("millrace_partitions") == 4,
                    "the owner of all")
        second.wait(lambda: second.metric("millrace_lag_events") == 0,
                    "at the log's end")
        time.sleep(max(0, stopped + stopped_s - time.monotonic()))
        first.process.send_signal(signal.SIGCONT)
        status = first.ended(15)
        tell(f"woken after {stopped_s} s: " + (
            "went on as a member" if status is None else f"status {status}"))
        words = first.text()
        if status is None:
            first.stop()
        self.drained(second)
        second.stop()
        self.assertRegex(words, "REWIND|LOST|fence")
        return self.findings(config, [self.path("state0"),
                                      self.path("state1")])

    def test_stopped_and_overtaken(self):
        self.assertEqual(self.overtaken(30), [])

    def test_stopped_with_its_transaction_still_open(self):
        """Only the group's generation is in its way."""
        self.assertEqual(self.overtaken(
            12, "kafka.producer.transaction.timeout.ms=60000"), [])

    def test_sabotaged(self):
        """Outputs twice; or the other's store then leads what the woken one
        committed, and it refuses to go on."""
        self.assert_caught(SOME_DUPLICATE + "|store leads the log",
                           self.overtaken, 12,
                           "kafka.producer.transaction.timeout.ms=60000",
                           sabotage="unfenced")


@by_hand
class RescaleTest(MoveCase):
    """1, 4, 2 processes in turn, each with a store of its own, while events
    keep coming. Some leave in order, some are killed."""

    rate = 1500

    def resize(self, config, runs, count, sets, sabotage):
        while len(runs) > count:
            run = runs.pop(self.random.randrange(len(runs)))
            if self.random.random() < 0.3:
                run.kill()
            else:
                self.leave(run)
            self.free.append(run.number)
        while len(runs) < count:
            number = self.free.pop(0)
            run = FaultRun(self, config, SESSION, self.own_state(number),
                           *sets, sabotage=sabotage)
            run.number = number
            runs.append(run)

    def leave(self, run):
        """In order; in the middle of a rebalance it may be too late for
        that, and it says so."""
        run.process.terminate()
        if run.ended(20) != 0:
            self.assertIn("UNDRAINED", run.text())
            tell("one left undrained")

    def rescale(self, seconds, *sets, sabotage=None):
        config = self.start(2000, state_checkpoint_age="2s")
        self.feed(config, int(self.rate * seconds * 0.9), self.rate)
        self.free, runs, moves = [0, 1, 2, 3], [], 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.resize(config, runs, (1, 4, 2)[moves % 3], sets, sabotage)
            moves += 1
            time.sleep(self.random.uniform(3, 7))
        self.fed()
        self.drained(runs[0], 120)
        for run in runs:
            self.leave(run)
        tell(f"{moves} changes in {seconds} s")
        return self.findings(config, [self.path(f"state{n}")
                                      for n in range(4)])

    def test_eager(self):
        self.assertEqual(self.rescale(scaled(0, 40, 300)), [])

    def test_with_changelog(self):
        self.options["changelog.topic"] = f"{self.name}-rows"
        self.assertEqual(self.rescale(scaled(0, 40, 300)), [])

    def test_sabotaged(self):
        self.assert_caught(SOME_ROWS, self.rescale, 25, sabotage="no_fold")


@by_hand
class BrokerTest(MoveCase):
    """The broker is restarted, killed, and away for 20 seconds; the process
    stays, and goes on."""

    def kafka(self, command):
        subprocess.run([f"{TOP}/ops/kafka", command], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ,
                            "MILLRACE_KAFKA_PORT": str(harness.PORT)})

    def kill_broker(self):
        with open(f"{TOP}/.kafka/{harness.PORT}/pid", encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGKILL)
        time.sleep(2)

    def goes_on(self, config, run):
        """To the log's end. A fatal error of the client may end the process,
        with a message: then it is started again."""
        for _ in range(3):
            if run.ended(0) is None:
                try:
                    self.drained(run, 120)
                    run.stop()
                    return
                except AssertionError:
                    self.assertIsNotNone(run.ended(0), run.text())
            self.assertEqual(run.ended(0), 1, run.text())
            self.assertRegex(run.text(), ENDS)
            tell(f"ended ({re.search(ENDS, run.text())[0]}), started again")
            run = FaultRun(self, config)
        self.fail(run.text())

    def away(self, how, seconds):
        config = self.start(9000)
        run = FaultRun(self, config, *SMALL)
        run.wait(lambda: run.metric("millrace_events_scored_total") > 2000,
                 "scoring")
        how()
        time.sleep(seconds)
        self.kafka("up")
        self.goes_on(config, run)
        return self.findings(config)

    def test_restarted(self):
        self.assertEqual(self.away(lambda: self.kafka("down"), 0), [])

    def test_killed(self):
        self.assertEqual(self.away(self.kill_broker, 0), [])

    def test_away_for_20_seconds(self):
        self.assertEqual(self.away(lambda: self.kafka("down"), 20), [])


@by_hand
class SigtermTest(MoveCase):
    """Under load, at any moment after the start: out in 5 s, status 0."""

    def stops(self, times, sabotage=None):
        config = self.start(3000)
        self.feed(config, 1500 * times, 1500)
        worst_s = 0
        for at in range(times):
            run = FaultRun(self, config, sabotage=sabotage)
            run.ready_s()
            time.sleep(self.random.uniform(0, 0.3))
            worst_s = max(worst_s, run.stop())
            self.assertLess(worst_s, STOP_S_MAX, "SIGTERM was not obeyed")
            if at % 20 == 19:
                tell(f"{at + 1} of {times}, the slowest took {worst_s:.2f} s")
        self.feeding.kill()
        self.drain(config)
        return self.findings(config)

    def test_sigterm(self):
        self.assertEqual(self.stops(scaled(0, 25, 100)), [])

    def test_sabotaged(self):
        self.assert_caught("not obeyed|status", self.stops, 1,
                           sabotage="slow_stop")


@by_hand
class PoisonTest(FaultCase):
    """Bad messages among good: each in the dead letters once, each good one
    scored, whatever their share."""

    def poisoned(self, share):
        config = self.start(0)
        good = [] if share == 1 else self.good_values(config, 3000)
        messages = []
        for key, value in good or [("u", b"")] * 3000:
            if self.random.random() < share:
                value = self.spoil(value)
            messages.append((key, value, None))
        self.produce(messages)
        self.drain(config)
        return self.findings(config)

    def good_values(self, config, count):
        """What generate writes, taken from another topic."""
        topic = self.options["input.topic"]
        self.options["input.topic"] = f"{topic}-good"
        harness.keep_all(self.options["input.topic"], self.partitions)
        self.generate(config, count)
        messages = harness.read_topic(self.options["input.topic"])
        self.options["input.topic"] = topic
        return [(m.key, m.value) for m in messages]

    def spoil(self, value):
        return self.random.choice([
            b"", b"\0\0\0\0\7", value[:-1], value + b"x", b"\1" + value[1:],
            b"\0\0\0\0\x63" + value[5:], b"\0\0\0\0\7" + b"\xff" * 40])

    def test_one_in_a_hundred(self):
        self.assertEqual(self.poisoned(0.01), [])

    def test_half(self):
        self.assertEqual(self.poisoned(0.5), [])

    def test_all(self):
        self.assertEqual(self.poisoned(1), [])
