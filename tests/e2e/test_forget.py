"""forget on a real broker: gone from memory, store and files, and not back
after a fold; refused where it would do half of it."""

import glob
import json
import os
import subprocess

import harness
from harness import Run, decode, log_ends, millrace, read_topic, schema


class ForgetTest(harness.Case):
    def forget(self, config, user, *args):
        """Exit status, the JSON on stdout, the words on stderr."""
        done = subprocess.run(
            [harness.BIN, "forget", user, "--config", config, *args],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=60)
        out = json.loads(done.stdout) if done.stdout else None
        return done.returncode, out, done.stderr

    def start_run(self, **changes):
        config = self.start(5000, state_checkpoint_age="500ms", **changes)
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        return config, run

    def busiest(self):
        counts = {}
        for m in read_topic(self.options["input.topic"]):
            counts[m.key.decode()] = counts.get(m.key.decode(), 0) + 1
        return max(counts, key=counts.get)

    def stored(self, config, user):
        """Events that the store has of the user; 0: no row."""
        done = subprocess.run(
            [harness.BIN, "inspect", "user", user, "--config", config,
             "--json"], capture_output=True, text=True, timeout=60)
        return (json.loads(done.stdout)["events_total"]
                if done.returncode == 0 else 0)

    def files_with(self, text):
        found = []
        for path in glob.glob(f"{self.options['state.dir']}/**",
                              recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    if text.encode() in f.read():
                        found.append(path)
        return found

    def keep(self, receipt):
        path = self.path("receipt.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(receipt, f)
        return path

    def test_forget_while_running(self):
        config, run = self.start_run()
        user = self.busiest()
        run.wait(lambda: self.stored(config, user) > 10, "stored")
        self.assertNotEqual(self.files_with(user), [])
        status, receipt, words = self.forget(config, user, "--yes")
        self.assertEqual(status, 0, words)
        self.assertTrue(receipt["complete"])
        self.assertTrue(receipt["committed"])
        self.assertNotIn(user, json.dumps(receipt))
        self.assertEqual(self.stored(config, user), 0)
        self.assertEqual(self.files_with(user), [])
        self.assertNotIn(user, run.text())
        path = self.keep(receipt)
        self.assertEqual(self.forget(config, user, "--verify", path)[0], 0)
        self.assertEqual(self.forget(config, "u9", "--verify", path)[0], 1)
        # Killed and folded again, nothing comes back; new events begin anew.
        run.kill()
        run = Run(self, config)
        run.wait_ready()
        self.generate(config, 3000, seed=2)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        self.assertEqual(self.forget(config, user, "--verify", path)[0], 0)
        after = sum(m.key.decode() == user and m.value is not None and
                    m.partition == receipt["partition"] and
                    m.offset > receipt["offset"]
                    for m in read_topic(self.options["input.topic"]))
        self.assertEqual(self.stored(config, user), after)
        fraud, lists = self.outputs()
        self.assertEqual(len(fraud), 8000)
        fraud_again, lists_again = self.replayed(config)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)

    def test_nobody_reads_then_somebody_does(self):
        config, run = self.start_run()
        user = self.busiest()
        run.stop()
        status, receipt, words = self.forget(config, user, "--yes",
                                             "--wait", "1s")
        self.assertEqual(status, 1)
        self.assertIn("--verify", words)
        self.assertFalse(receipt["complete"])
        path = self.keep(receipt)
        status, found, _ = self.forget(config, user, "--verify", path)
        self.assertEqual((status, found["verified"]), (4, False))
        run = Run(self, config)
        run.wait(lambda: self.forget(config, user, "--verify", path)[0] == 0,
                 "forgotten", 20)
        self.assertEqual(self.files_with(user), [])
        run.stop()

    def test_the_changelog_forgets_too(self):
        """A host that takes the rows from the changelog never has the user."""
        self.options["changelog.topic"] = f"{self.name}-changelog"
        config, run = self.start_run()
        user = self.busiest()
        run.wait(lambda: self.stored(config, user) > 10, "stored")
        status, receipt, words = self.forget(config, user, "--yes")
        self.assertEqual(status, 0, words)
        self.assertIn("erased", receipt["changelog"])
        run.stop()
        path = self.keep(receipt)
        self.options["state.dir"] = self.path("other-state")
        other = self.config(state_checkpoint_age="500ms")
        run = Run(self, other)
        run.wait_ready()
        run.wait(lambda: self.forget(other, user, "--verify", path)[0] == 0,
                 "forgotten", 20)
        self.assertEqual(self.stored(other, user), 0)
        self.assertGreater(self.stored(other, next(
            m.key.decode() for m in read_topic(self.options["input.topic"])
            if m.key.decode() != user)), 0)
        run.stop()

    def test_dry_run_writes_nothing(self):
        config, run = self.start_run()
        run.stop()
        before = log_ends(self.options["input.topic"])
        status, plan, _ = self.forget(config, self.busiest(), "--dry-run")
        self.assertEqual(status, 0)
        self.assertEqual(plan["rows"], 1)
        self.assertEqual(log_ends(self.options["input.topic"]), before)

    def test_a_topic_not_keyed_by_user_is_refused(self):
        config = self.start(500)
        message = read_topic(self.options["input.topic"])[0]
        user = decode(message, schema("transaction"))["user_id"]
        self.produce([(b"order-1", message.value, None)] * 40)
        before = log_ends(self.options["input.topic"])
        status, _, words = self.forget(
            config, "order-1", "--yes", "--wait", "1s")
        self.assertEqual(status, 1)
        self.assertIn("keyed by user", words)
        status, _, words = self.forget(config, "x" * 300, "--yes")
        self.assertIn("user.bytes.max", words)
        self.assertEqual(log_ends(self.options["input.topic"]), before)
        self.assertTrue(user)

    def test_usage(self):
        config = self.config()
        self.assertEqual(self.forget(config, "u1")[0], 2)  # nobody to ask
        self.assertEqual(self.forget(config, "", "--yes")[0], 2)
        self.assertIn("millrace forget", millrace("forget", "--help").stdout)


if __name__ == "__main__":
    harness.unittest.main()
