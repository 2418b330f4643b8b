"""A fault test: the program with fault points on a real broker, and the
checker over what it left behind."""

import concurrent.futures
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir, "e2e"))

import harness
from confluent_kafka import TopicPartition
from harness import BIN, Run, millrace, read_topic, schema

import checker

FAULTS_BIN = os.path.join(os.path.dirname(BIN), "millrace_faults")
WINDOWS = "1d,7d"
WINDOWS_MS = (86400000, 7 * 86400000)
READY_S = 120
# A killed member is not missed for long.
SESSION = "kafka.consumer.session.timeout.ms=6000"
# Small batches: a kill finds something half done.
SMALL = ("batch.events.max=16", "commit.interval=1ms")

# How much is done: "short" is for every run of the tests, "hand" takes a
# quarter of an hour in all, "long" an hour.
SCALE = os.environ.get("MILLRACE_FAULTS_SCALE", "short")


def scaled(short, hand, long):
    return {"short": short, "hand": hand, "long": long}[SCALE]



def by_hand(test):
    """run.py leaves it out of "short"."""
    test.by_hand = True
    return test



def long_only(case):
    """run.py leaves it out of "hand" too."""
    case.long_only = True
    return by_hand(case)


# What a verdict says of a fault that was seen.
SOME_MISSING = r"\b[1-9]\d* missing"
SOME_DUPLICATE = r"\b[1-9]\d* duplicate"
SOME_ROWS = r"\b[1-9]\d* rows"


def tell(text):
    """Progress, and figures for the summary."""
    print(f"        {text}", flush=True)


class FaultRun(Run):
    """The program with a fault to come, or a rule broken."""

    def __init__(self, case, config, *sets, fault=None, sabotage=None):
        self.started = time.monotonic()
        super().__init__(case, config, *sets, binary=FAULTS_BIN,
                         env={"MILLRACE_FAULT": fault or "",
                              "MILLRACE_SABOTAGE": sabotage or ""})

    def ready_s(self):
        """Waits until it is ready; seconds since its start."""
        while self.get("/readyz")[0] != 200:
            assert self.process.poll() is None, f"ended early\n{self.text()}"
            assert time.monotonic() < self.started + READY_S, \
                f"not ready\n{self.text()}"
            time.sleep(0.01)
        return time.monotonic() - self.started

    def ended(self, seconds):
        """Its exit status (negative: the signal), or None."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None


class FaultCase(harness.Case):
    """Windows and state as the checker expects them."""

    partitions = 3

    def setUp(self):
        super().setUp()
        self.random = random.Random(self._testMethodName)
        # No tiles: windows are exact for every user.
        self.options |= {"windows": WINDOWS, "windows.events": "65536"}

    def make_topics(self, config):
        harness.keep_all(self.options["output.recommendations.topic"],
                         self.partitions)
        millrace("topics", "--create", "--partitions", str(self.partitions),
                 "--config", config)

    # --- running -----------------------------------------------------------

    def drain(self, config, *sets, sabotage=None):
        """Runs to the end of the log, stops in order; seconds to ready."""
        run = FaultRun(self, config, *sets, sabotage=sabotage)
        ready_s = run.ready_s()
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        return ready_s

    def survive(self, config, fault, *sets, sabotage=None, seconds=60):
        """Runs until the fault has ended the process; its status."""
        run = FaultRun(self, config, *sets, fault=fault, sabotage=sabotage)
        status = run.ended(seconds)
        text = run.text()
        run.kill()
        self.assertIn("FAULT point=", text, f"{fault} was never reached")
        self.assertIsNotNone(status, f"{fault}: went on\n{text}")
        return status

    def feed(self, config, events, rate, seed=9):
        """Events that keep coming; fed() waits for the last."""
        self.feeding = subprocess.Popen(
            [BIN, "generate", "--events", str(events), "--rate", str(rate),
             "--users", "300", "--items", "500", "--seed", str(seed),
             "--schema-id", "7", "--topic", self.options["input.topic"],
             "--config", config], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.feeding.kill)

    def fed(self):
        self.assertEqual(self.feeding.wait(300), 0)

    # --- judging -----------------------------------------------------------

    def check_store_behind_log(self, config, state_dir=None):
        """I2: no store holds what the group has not committed."""
        said = json.loads(millrace(
            "inspect", "store", state_dir or self.options["state.dir"],
            "--json", "--config", config).stdout)
        topic = self.options["input.topic"]
        parts = [TopicPartition(topic, p) for p in range(self.partitions)]
        done = harness.committed(self.options["group.id"], parts)
        for family in said["families"]:
            partition = int(family["family"].rsplit("/", 1)[1])
            if family.get("applied", 0) > done.get(partition, 0):
                return (f"{family['family']} holds events up to "
                        f"{family['applied']}, committed is "
                        f"{done.get(partition, 0)}")
        return None

    def look(self, config, state_dirs):
        """inspect's word on a user, from the store that knows most."""
        def one(user):
            best = None
            for state_dir in state_dirs:
                done = millrace("inspect", "user", user, "--json", "--config",
                                config, "--set", "model.dir=", "--set",
                                f"state.dir={state_dir}", ok=False)
                if done.returncode != 0:
                    continue
                said = json.loads(done.stdout)
                if not best or said["applied_offset"] > best[0]:
                    best = (said["applied_offset"], done.stdout)
            return best[1] if best else None
        return one

    def judge(self, config, state_dirs=None, users=scaled(30, 100, 100000)):
        """The verdict over outputs and state. users: how many rows are
        looked at, the most active and others at random."""
        verdict = checker.Verdict()
        options = self.options
        log = checker.Log(read_topic(options["input.topic"]),
                          {7: schema("transaction")})
        fraud, lists = self.outputs()
        checker.judge_output(verdict, "scores", fraud, schema("fraud_score"),
                             log)
        checker.judge_output(verdict, "lists", lists,
                             schema("recommendations"), log)
        checker.judge_dead_letters(
            verdict, read_topic(options["dead.letters.topic"]), log)
        fraud_again, lists_again = self.replayed(config)
        checker.judge_bytes(verdict, "scores", fraud, fraud_again)
        checker.judge_bytes(verdict, "lists", lists, lists_again)
        self.judge_state(verdict, log, config, state_dirs, users)
        return verdict

    def judge_state(self, verdict, log, config, state_dirs, users):
        rows = checker.fold(log)
        chosen = sorted(rows, key=lambda u: -len(rows[u].events))
        if len(chosen) > users:
            busy = users // 3
            chosen = chosen[:busy] + self.random.sample(chosen[busy:],
                                                        users - busy)
        look = self.look(config, state_dirs or [self.options["state.dir"]])
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = dict(zip(chosen, pool.map(look, chosen)))
        checker.judge_rows(verdict, log, chosen, said.get, WINDOWS_MS)

    def findings(self, config, state_dirs=None):
        """What the checker has to say; [] if all is as it must be."""
        verdict = self.judge(config, state_dirs)
        tell(str(verdict)[:200])
        return [] if verdict.good else [str(verdict)]

    def assert_caught(self, pattern, scenario, *args, **kwargs):
        """A scenario with a rule broken must say so, in these words."""
        try:
            found = scenario(*args, **kwargs)
        except AssertionError as e:  # the program itself refused
            found = [str(e)]
        self.assertTrue(found, "the sabotage was not caught")
        self.assertRegex("\n".join(found), pattern)
