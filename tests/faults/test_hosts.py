"""Partitions that go to another host by way of the changelog, killed at any
line of that: the new owner has what the old one had, and says nothing twice.

"Another host" is a process with a state.dir of its own, in which there is
nothing yet."""

from case import (SESSION, SMALL, SOME_ROWS, FaultCase, FaultRun, by_hand,
                  scaled, tell)
from test_commit import KILLED, SLICES

POINTS = ("before_produce", "after_send", "after_offsets", "committing",
          "commit_answer", "after_commit", "before_store", "after_store")


@by_hand
class ChangelogTest(FaultCase):
    def setUp(self):
        super().setUp()
        self.options["changelog.topic"] = f"{self.name}-rows"
        self.hosts = 0

    def another_host(self):
        self.hosts += 1
        return f"state.dir={self.path(f'host{self.hosts}')}"

    def state_dir(self):
        return self.path(f"host{self.hosts}")

    def restored(self, config, host, sabotage=None):
        """To the log's end, by a host that has nothing but the changelog."""
        run = FaultRun(self, config, SESSION, host, sabotage=sabotage)
        run.wait_drained(self.options["input.topic"],
                         self.options["group.id"])
        text = run.text()
        run.stop()
        self.assertIn("RESTOR", text)
        return self.findings(config, [self.state_dir()])

    def start_here(self, events):
        return self.start(events, **{**SLICES, "state_checkpoint_age": "1s"})

    def test_every_point(self):
        """Killed at each point here, and while another host restores; that
        one goes on where it was interrupted, and is the next to be killed."""
        rounds = scaled(1, 1, 4)
        config = self.start_here(9000 * rounds)
        for at in range(rounds):
            host = self.another_host()
            for point in ("restoring",) * (at > 0) + POINTS:
                nth = 1 if point == "restoring" else self.random.randint(2, 6)
                status = self.survive(config, f"{point}:{nth}:kill", SESSION,
                                      host, *SMALL)
                self.assertEqual(status, KILLED, point)
                leads = self.check_store_behind_log(config, self.state_dir())
                self.assertIsNone(leads, f"killed at {point}: {leads}")
            tell(f"round {at + 1} of {rounds}")
        host = self.another_host()
        self.survive(config, "restoring:1:kill", SESSION, host)
        self.assertEqual(self.restored(config, host), [])

    def moved(self, before=None, after=None):
        config = self.start_here(5000)
        self.survive(config, "after_store:25:kill", SESSION, *SMALL,
                     self.another_host(), sabotage=before)
        return self.restored(config, self.another_host(), after)

    def test_moved(self):
        self.assertEqual(self.moved(), [])

    def test_rows_unsent(self):
        self.assert_caught(SOME_ROWS, self.moved, before="rows_unsent")

    def test_no_fold(self):
        """What lies between the newest marker and the commit is left out."""
        self.assert_caught(SOME_ROWS, self.moved, after="no_fold")
