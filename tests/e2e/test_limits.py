"""What no input may do: a poisoned topic, one user who is everybody."""

import io
import random
import time

import fastavro

import harness
from harness import PARTITIONS, Run, read_topic, schema

EVENTS = 20000
EVENTS_PER_SECOND_MIN = 300  # of a busy machine; alone it is thirty times that
MEMORY_GROWTH_MAX = 48 << 20


class LimitsTest(harness.Case):
    def event(self, i, user):
        value = io.BytesIO()
        fastavro.schemaless_writer(value, self.schema, {
            "event_id": f"e{i}", "user_id": user,
            "item_id": f"i{i * 7 % 500:06}", "time": 1700000000000 + i * 1000,
            "amount": i % 900 / 4, "category": "toys", "channel": "web",
            "type": "buy"})
        return b"\0\0\0\0\7" + value.getvalue()

    def poison(self, i, good):
        """One of several kinds of records that cannot be used."""
        pick = random.Random(i)
        kinds = [lambda: pick.randbytes(pick.randrange(1, 200)),
                 lambda: good[:pick.randrange(5, len(good) - 1)],
                 lambda: good + b"\0",
                 lambda: b"\0\0\0\1\7" + good[5:],
                 lambda: b"\0\0\0\0\7" + b"\xff" * pick.randrange(1, 3000),
                 lambda: b""]
        return kinds[i % len(kinds)]()

    def drain(self, config):
        """Runs to the end; seconds of it and growth of memory."""
        run = Run(self, config)
        run.wait_ready()
        memory = run.metric("process_resident_memory_bytes")
        started = time.monotonic()
        run.wait(lambda: run.metric("millrace_events_total") >= EVENTS, "read")
        seconds = time.monotonic() - started
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        growth = run.metric("process_resident_memory_bytes") - memory
        self.assertLess(run.metric("process_resident_memory_bytes"),
                        run.metric("millrace_memory_budget_bytes"))
        self.dead_counted = run.metric("millrace_dead_letters_total")
        run.stop()
        print(f"{self._testMethodName}: {EVENTS / seconds:.0f} events/s, "
              f"{growth / 2**20:.0f} MiB more")
        self.assertGreater(EVENTS / seconds, EVENTS_PER_SECOND_MIN)
        self.assertLess(growth, MEMORY_GROWTH_MAX)

    def check_poison(self, share):
        self.schema = schema("transaction")
        config = self.start()
        bad, messages = set(), []
        for i in range(EVENTS):
            value = self.event(i, f"u{i % 400}")
            if random.Random(i + 10**9).random() < share:
                value = self.poison(i, value)
                bad.add(i)
            messages.append((f"u{i % 400}", value, [("i", str(i).encode())]))
        self.produce(messages)
        self.drain(config)

        dead = read_topic(self.options["dead.letters.topic"])
        self.assertEqual(sorted(int(m.headers["i"]) for m in dead),
                         sorted(bad))
        self.assertEqual(self.dead_counted, len(bad))
        by_number = {int(m.headers["i"]): m for m in dead}
        for i in list(bad)[:500]:
            self.assertEqual(by_number[i].value or b"", messages[i][1])
        fraud, lists = self.outputs()
        good = sorted(set(range(EVENTS)) - bad)
        for outputs in (fraud, lists):
            self.assertEqual(sorted(int(m.headers["i"]) for m in outputs), good)

    def test_poison_1_percent(self):
        self.check_poison(0.01)

    def test_poison_50_percent(self):
        self.check_poison(0.5)

    def test_poison_100_percent(self):
        self.check_poison(1)

    def test_memory_is_bounded(self):
        """Records, texts and headers as large as they come, everything full:
        the process stays below the sum that `explain` shows, and a sum above
        memory.max is refused."""
        self.schema = schema("transaction")
        tight = {"state.cache": "8MiB", "model.cache": "8MiB",
                 "state.store.memory": "8MiB", "input.queue": "4MiB",
                 "output.queue": "4MiB", "record.bytes.max": "256KiB"}
        self.options.update(tight)
        config = self.start()
        large = [("junk", b"x" * 1000)] * 20
        self.produce([(f"u{i}", self.event(i, f"u{i}") if i % 9 else b"x" * 20000,
                       large if i % 20 == 0 else None)
                      for i in range(EVENTS)])
        self.drain(config)
        done = harness.millrace("run", "--config", config, "--set",
                                "memory.max=64MiB", ok=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("memory.max is 64 MiB", done.stderr)
        shown = harness.millrace("config", "explain", "memory.max",
                                 "--config", config)
        self.assertIn("MiB  at most", shown.stdout)

    def test_one_user_is_everybody(self):
        """A hot key: one partition works, its row stays as large as any, and
        every event has the score that a replay gives it."""
        self.schema = schema("transaction")
        config = self.start()
        self.produce([("u1", self.event(i, "u1"), None)
                      for i in range(EVENTS)])
        self.drain(config)
        fraud, lists = self.outputs()
        self.assertEqual(len({m.partition for m in fraud}), 1)
        self.assertGreater(PARTITIONS, 1)
        fraud_again, lists_again = self.replayed(config)
        self.assertEqual(len(fraud), EVENTS)
        self.assert_same_bytes(fraud, fraud_again)
        self.assert_same_bytes(lists, lists_again)
