"""A store whose files were damaged: made anew from the log or the changelog,
in the same process, and no score differs."""

import glob
import os

import harness
from harness import Run, read_topic


class DamageTest(harness.Case):
    def filled(self, **changes):
        """Everything in tables, the process gone."""
        config = self.start(4000, state_checkpoint_age="500ms", **changes)
        for _ in range(2):  # the second start moves the logs into tables
            run = Run(self, config)
            run.wait_drained(self.options["input.topic"],
                             self.options["group.id"])
            run.wait_ready()
            run.stop()
        return config

    def tables(self):
        return sorted(glob.glob(f"{self.options['state.dir']}/rocksdb/*.sst"),
                      key=os.path.getsize, reverse=True)

    def flip(self, path, at):
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 0x20]))

    def go_on(self, config):
        """More events; the run's log."""
        self.generate(config, 4000, seed=2)
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        self.assertGreater(run.metric("millrace_state_rebuilds_total"), 0)
        run.stop()
        text = run.text()
        self.assertIn("STATEDAMAGED", text)
        for user in {m.key.decode()
                     for m in read_topic(self.options["input.topic"])}:
            self.assertNotIn(f" {user} ", text)
        fraud, lists = self.outputs()
        self.assertEqual(len(fraud), 8000)
        fraud_again, lists_again = self.replayed(config)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)
        return text

    def test_a_damaged_block_costs_its_partition(self):
        """The worker meets it, begins again, folds that partition; the others
        stay as they are."""
        config = self.filled(workers="2")
        table = self.tables()[0]
        self.flip(table, os.path.getsize(table) // 3)
        text = self.go_on(config)
        self.assertNotIn("rocksdb.damaged", text)

    def test_the_changelog_gives_it_back(self):
        """Rows come from there, and the log is not folded from its start."""
        self.options["changelog.topic"] = f"{self.name}-changelog"
        config = self.filled()
        os.unlink(self.tables()[0])
        self.generate(config, 4000, seed=2)
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        folded = run.metric("millrace_events_folded_total")
        run.stop()
        self.assertIn("rocksdb.damaged", run.text())
        self.assertLess(folded, 4000)
        fraud, _ = self.outputs()
        self.assertEqual(len(fraud), 8000)
        self.assert_same_bytes(fraud, self.replayed(config)[0])

    def test_a_database_that_does_not_open_is_put_aside(self):
        config = self.filled()
        os.unlink(self.tables()[0])
        text = self.go_on(config)
        self.assertIn("rocksdb.damaged", text)
        self.assertTrue(os.path.isdir(
            f"{self.options['state.dir']}/rocksdb.damaged"))


if __name__ == "__main__":
    harness.unittest.main()
