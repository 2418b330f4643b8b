"""snapshot on a real broker: of a process at work and of a stopped one; runs
and replays that begin with it; a warm start of a new topic."""

import json
import os
import subprocess

import harness
from harness import Run, decode, log_ends, millrace, read_topic, schema

TOKEN = "0123456789abcdef"


class SnapshotTest(harness.Case):
    def start(self, events=0, **changes):
        self.options["admin.token"] = TOKEN
        return super().start(events, **changes)

    def drained(self, config, *sets):
        run = Run(self, config, *sets)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        return run

    def snapshot(self, config, name, *args, ok=True):
        done = subprocess.run(
            [harness.BIN, "snapshot", "--config", config, "--json", "--out",
             self.path(name), *args], capture_output=True, text=True,
            timeout=60, cwd=self.dir)
        if ok:
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def parts(self, snapshot):
        return {p["partition"]: (p["offset"], p["rows"], p["rows_hash"])
                for p in snapshot["partitions"]}

    def replay(self, config, name, *args):
        """Fraud scores of a replay, by place."""
        out = self.path(name)
        millrace("replay", "--config", config, "--fraud-to", out, *args)
        import fastavro
        with open(out, "rb") as f:
            return {(r["source_partition"], r["source_offset"]): r
                    for r in fastavro.reader(f)}

    def test_at_work_stopped_and_replayed_agree(self):
        """The rows of a running process, those it leaves when it ends, and
        those of a fold of the log are the same."""
        config = self.start(6000, workers="2", state_checkpoint_age="10m")
        run = self.drained(config)
        running = self.snapshot(config, "running", "--set",
                                f"admin.listen=127.0.0.1:{run.port}")
        self.assertEqual(self.parts(running).keys(),
                         set(range(harness.PARTITIONS)))
        self.assertEqual(
            {p: v[0] for p, v in self.parts(running).items()},
            log_ends(self.options["input.topic"]))
        run.stop()
        stopped = self.snapshot(config, "stopped")
        self.assertEqual(self.parts(stopped), self.parts(running))
        millrace("replay", "--config", config, "--topic",
                 self.options["input.topic"], "--workers", "2",
                 "--state-out", self.path("folded"))
        folded = json.loads(millrace("snapshot", "--json", "--show",
                                     self.path("folded")).stdout)
        self.assertEqual(self.parts(folded), self.parts(running))
        for key in ("model_hash", "schema_hash", "policy_hash", "shape"):
            self.assertEqual(folded[key], running[key], key)

    def check_verify(self, config, topic, after):
        """What the run made after the snapshot, a replay from there makes;
        from the middle without rows there is nothing to compare."""
        verify = ["replay", "--config", config, "--topic", topic,
                  "--verify-topics", "--json"]
        said = json.loads(millrace(*verify, "--snapshot",
                                   self.path("snapshot")).stdout)["verify"]
        self.assertEqual(said["equal"], 2 * after)
        self.assertGreater(said["outside"], 0)
        self.assertIsNone(said["first"])
        refused = millrace(*verify, "--from-offset", "5", ok=False)
        self.assertEqual(refused.returncode, 3)
        self.assertIn("--snapshot", refused.stderr)

    def test_while_events_flow_and_on_from_there(self):
        """A replay and another installation that begin with a snapshot give
        the bits of a run that never stopped."""
        config = self.start(8000, workers="2")
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_events_scored_total") > 500,
                 "scoring")
        snapshot = self.snapshot(config, "snapshot", "--set",
                                 f"admin.listen=127.0.0.1:{run.port}")
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        at = {p: v[0] for p, v in self.parts(snapshot).items()}
        topic = self.options["input.topic"]
        whole = self.replay(config, "whole.avro", "--topic", topic)
        rest = self.replay(config, "rest.avro", "--topic", topic, "--snapshot",
                           self.path("snapshot"), "--workers", "2")
        self.assertEqual(rest, {k: v for k, v in whole.items()
                                if k[1] >= at[k[0]]})
        self.assertLess(len(rest), len(whole))
        self.check_verify(config, topic, len(rest))
        # Another group, another host: it scores what comes after.
        self.options["group.id"] += "-other"
        self.options["output.fraud.topic"] += "-other"
        self.options["state.dir"] = self.path("other-state")
        self.options["state.snapshot"] = self.path("snapshot")
        other = self.config()
        self.make_topics(other)
        run = Run(self, other)
        run.wait(lambda: run.metric("millrace_events_scored_total") ==
                 len(rest), "scored")
        run.stop()
        parsed = schema("fraud_score")
        scores = [decode(m, parsed)
                  for m in read_topic(self.options["output.fraud.topic"])]
        self.assertEqual({(s["source_partition"], s["source_offset"]): s
                          for s in scores}, rest)

    def test_a_new_topic_starts_warm(self):
        """Old files, a new topic: the first event there is the next one of
        its user."""
        config = self.start()
        millrace("generate", "--events", "2000", "--users", "50", "--items",
                 "500", "--to", self.path("old.avro"), "--config", config)
        millrace("replay", "--config", config, "--state-out",
                 self.path("warm"), "--state-partitions",
                 str(harness.PARTITIONS), self.path("old.avro"))
        warm = json.loads(millrace("snapshot", "--json", "--show",
                                   self.path("warm")).stdout)
        self.assertEqual({p["offset"] for p in warm["partitions"]}, {0})
        self.options["state.snapshot"] = self.path("warm")
        self.generate(config, 500, seed=3, users=50)
        config = self.config()
        run = self.drained(config)
        run.stop()
        user = read_topic(self.options["input.topic"])[0].key.decode()
        row = json.loads(millrace("inspect", "user", user, "--config", config,
                                  "--json").stdout)
        own = sum(m.key.decode() == user
                  for m in read_topic(self.options["input.topic"]))
        self.assertGreater(row["events_total"], own)

    def test_refused(self):
        config = self.start(1000)
        run = self.drained(config)
        listen = f"admin.listen=127.0.0.1:{run.port}"
        self.snapshot(config, "one", "--set", listen)
        self.assertIn("there already",
                      self.snapshot(config, "one", "--set", listen, ok=False))
        self.assertIn("admin.token", self.snapshot(
            config, "two", "--set", listen, "--set", "admin.token=",
            ok=False))
        words = self.snapshot(config, "two", "--set", listen, "--set",
                              "admin.token=fedcba9876543210", ok=False)
        self.assertNotIn("fedcba", words)
        run.kill()
        # Another shape, before anything is made of it.
        self.options["state.dir"] = self.path("fresh")
        self.options["state.snapshot"] = self.path("one")
        self.options["windows"] = "1d"
        other = self.config()
        done = subprocess.run([harness.BIN, "run", "--config", other, "--set",
                               "admin.listen="], capture_output=True,
                              text=True, timeout=30)
        self.assertEqual(done.returncode, 3)
        self.assertIn("other options", done.stderr)
        self.assertFalse(os.path.exists(self.path("two")))

    def test_a_forgotten_user_leaves_it(self):
        config = self.start(2000, state_checkpoint_age="500ms")
        run = self.drained(config)
        self.snapshot(config, "one", "--set",
                      f"admin.listen=127.0.0.1:{run.port}")
        user = read_topic(self.options["input.topic"])[0].key.decode()
        done = millrace("forget", user, "--yes", "--config", config,
                        "--snapshot", self.path("one"))
        receipt = json.loads(done.stdout)
        self.assertEqual(receipt["rows_out_of_snapshots"], 1)
        with open(self.path("receipt"), "w", encoding="utf-8") as f:
            json.dump(receipt, f)
        check = ["forget", user, "--config", config, "--verify",
                 self.path("receipt"), "--snapshot"]
        millrace(*check, self.path("one"))
        run.stop()


if __name__ == "__main__":
    harness.unittest.main()
