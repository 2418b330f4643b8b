"""Late, repeated and long unseen, by a few lines of Python, over kills; and a
replay that agrees."""

import io
import random
import time

import fastavro

import harness
from harness import Run, millrace, read_topic, schema

EVENTS = 12000
USERS = 150
KEPT, WINDOW = 32, 16  # history.events, and the model's W
HOUR_MS = 3600 * 1000
LATE_MS, TTL_MS = 24 * HOUR_MS, 20 * 24 * HOUR_MS
START_MS = 1700000000000


class User:
    """A row, as far as it decides."""

    def __init__(self):
        self.ids, self.total, self.newest = [], 0, None

    def fate(self, event, stream):
        if self.newest is not None and stream - self.newest > TTL_MS:
            self.__init__()
        if event["event_id"] in self.ids:
            after = self.ids[::-1].index(event["event_id"])
            n = self.total - 1 - after
            anchor = max(0, n // WINDOW - 1) * WINDOW
            enough = after + n - anchor + 1 <= len(self.ids)
            return "repeated" if enough else "skipped"
        if self.newest is not None and self.newest - event["time"] > LATE_MS:
            return "late"
        self.ids = (self.ids + [event["event_id"]])[-KEPT:]
        self.total += 1
        self.newest = max(event["time"], self.newest or 0)
        return "scored"


class TimeTest(harness.Case):
    def make_events(self):
        pick, events = random.Random(3), []
        for i in range(EVENTS):
            user = pick.randrange(USERS)
            if (user + i // 2000) % 3 == 0:  # away for a while
                user = (user + 1) % USERS
            event = {"event_id": f"e{i}", "user_id": f"u{user}",
                     "item_id": f"i{pick.randrange(500):06}",
                     "time": START_MS + i * HOUR_MS // 4,
                     "amount": pick.randrange(9000) / 4, "category": "toys",
                     "channel": "web", "type": "buy"}
            if i % 25 == 7:
                event["time"] -= LATE_MS * pick.randrange(1, 40)
            if i % 11 == 3:
                mine = [e for e in events if e["user_id"] == event["user_id"]]
                event = (mine or [event])[-min(len(mine) or 1,
                                               pick.randrange(1, 6))]
            if i % 1000 == 500:
                event = {**event, "event_id": f"ahead{i}",
                         "time": int(time.time() * 1000) + 72 * HOUR_MS}
            events.append(event)
        return events

    def fates(self):
        """What must become of everything that the input topic holds."""
        users, stream, fates = {}, {}, {}
        parsed = schema("transaction")
        for m in read_topic(self.options["input.topic"]):
            event = harness.decode(m, parsed)
            at = (m.partition, m.offset)
            if event["event_id"].startswith("ahead"):
                fates[at] = "ahead"
                continue
            event["time"] = round(event["time"].timestamp() * 1000)
            now = max(stream.get(m.partition, 0), event["time"])
            stream[m.partition] = now
            user = users.setdefault(event["user_id"], User())
            fates[at] = user.fate(event, now)
        return fates

    def test_fates_and_replay(self):
        self.options.update({
            "time.late.policy": "dead_letter", "repeat.policy": "reemit",
            "state.ttl": "20d", "delivery": "exactly_once",
            "state.checkpoint.age": "500ms", "state.cache": "1MiB"})
        config = self.start()
        encoded = []
        for event in self.make_events():
            value = io.BytesIO()
            fastavro.schemaless_writer(value, schema("transaction"), event)
            encoded.append((event["user_id"],
                            b"\0\0\0\0\7" + value.getvalue(), None))
        moments = random.Random(2)
        part = len(encoded) // 4
        for n in range(3):  # each life finds events that nobody has scored
            self.produce(encoded[n * part:(n + 1) * part])
            run = Run(self, config)
            run.wait(lambda: run.metric("millrace_events_scored_total") > 200,
                     "scoring")
            time.sleep(moments.uniform(0, 0.2))
            run.kill()
        self.produce(encoded[3 * part:])
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()

        fates = self.fates()
        for fate in ("scored", "repeated", "late", "ahead"):
            self.assertGreater(list(fates.values()).count(fate), 10, fate)
        fraud, _ = self.outputs()
        parsed, got = schema("fraud_score"), {}
        for m in fraud:
            score = harness.decode(m, parsed)
            at = (score["source_partition"], score["source_offset"])
            self.assertNotIn(at, got)
            got[at] = ("repeated" if "millrace.repeated" in m.headers
                       else "scored")
        for m in read_topic(self.options["dead.letters.topic"]):
            at = (int(m.headers["millrace.source.partition"]),
                  int(m.headers["millrace.source.offset"]))
            self.assertNotIn(at, got)
            got[at] = {b"late": "late", b"time": "ahead"}[
                m.headers["millrace.reason"]]
        self.assertEqual(got, {at: f for at, f in fates.items()
                               if f != "skipped"})
        millrace("replay", "--topic", self.options["input.topic"],
                 "--verify-topics", "--config", config)
