"""What must stand in the outputs and in the state, from the input log alone.

Nothing of the program's own takes part but two commands whose words are
judged: `replay`, whose outputs must be the bytes that are there, and
`inspect user --json`, whose rows must be what a fold by hand gives.

    expected(log)   one score, one list for every readable event; one dead
                    letter for every other message
    judge(...)      missing, duplicate, foreign, different
    fold(log)       every user's row: how many events, up to which offset,
                    the newest of them, counts and sums of windows
"""

import collections
import dataclasses
import hashlib
import io
import json

import fastavro

HEADER_BYTES = 5  # magic, schema id


def read_value(value, schemas):
    """A message behind a Confluent header; None if it cannot be read as a
    whole by the schema that it names."""
    if value is None or len(value) < HEADER_BYTES or value[0] != 0:
        return None
    schema = schemas.get(int.from_bytes(value[1:HEADER_BYTES], "big"))
    if schema is None:
        return None
    body = io.BytesIO(value[HEADER_BYTES:])
    try:
        record = fastavro.schemaless_reader(body, schema)
    except Exception:  # whatever fastavro says of bytes that are not its own
        return None
    return record if body.read(1) == b"" else None


def place(record):
    """Which input an output says it was made from."""
    return (record["event_id"], record["source_partition"],
            record["source_offset"])


class Log:
    """The input topic, decoded."""

    def __init__(self, messages, schemas):
        self.events, self.bad = [], []
        for m in messages:
            event = read_value(m.value, schemas)
            at = (m.partition, m.offset)
            if event is None or not event["user_id"]:
                self.bad.append(at)
            else:
                self.events.append((at, event))

    def expected(self):
        return {(event["event_id"], *at) for at, event in self.events}


@dataclasses.dataclass
class Verdict:
    """How outputs and state differ from what they must be."""
    missing: int = 0
    duplicate: int = 0
    foreign: int = 0    # made from no input, or under another user's key
    different: int = 0  # other bytes than a replay of the log gives
    rows: int = 0       # users whose row is not the fold of the log
    examples: list = dataclasses.field(default_factory=list)

    @property
    def good(self):
        return not (self.missing or self.duplicate or self.foreign
                    or self.different or self.rows)

    def note(self, text):
        if len(self.examples) < 8:
            self.examples.append(text)

    def __str__(self):
        counts = ", ".join(f"{getattr(self, name)} {name}" for name in (
            "missing", "duplicate", "foreign", "different", "rows"))
        return "; ".join([counts, *self.examples])


def judge_places(verdict, what, found, expected):
    """found: how often each place occurs."""
    for at in expected - set(found):
        verdict.missing += 1
        verdict.note(f"{what}: nothing for {at}")
    for at, times in found.items():
        if at not in expected:
            verdict.foreign += times
            verdict.note(f"{what}: made from no input: {at}")
        elif times > 1:
            verdict.duplicate += times - 1
            verdict.note(f"{what}: {times} for {at}")


def judge_output(verdict, what, messages, schema, log):
    """One message for every event; each under its user's key."""
    users = {(e["event_id"], *at): e["user_id"] for at, e in log.events}
    found = collections.Counter()
    for m in messages:
        record = fastavro.schemaless_reader(
            io.BytesIO(m.value[HEADER_BYTES:]), schema)
        at = place(record)
        found[at] += 1
        if at in users and m.key.decode() != users[at]:
            verdict.foreign += 1
            verdict.note(f"{what}: {at} under key {m.key!r}")
    judge_places(verdict, what, found, log.expected())


def judge_dead_letters(verdict, messages, log):
    found = collections.Counter(
        (int(m.headers["millrace.source.partition"]),
         int(m.headers["millrace.source.offset"])) for m in messages)
    judge_places(verdict, "dead letters", found, set(log.bad))


def digests(messages):
    """For each key the hash of its values in order, and how many."""
    keys = {}
    for m in messages:
        one = keys.setdefault(m.key, [hashlib.sha256(), 0])
        one[0].update(len(m.value).to_bytes(4, "big") + m.value)
        one[1] += 1
    return {key: (h.hexdigest(), count) for key, (h, count) in keys.items()}


def judge_bytes(verdict, what, messages, replayed):
    """Of every key the same values in the same order."""
    got, again = digests(messages), digests(replayed)
    for key in got.keys() | again.keys():
        if got.get(key) != again.get(key):
            verdict.different += 1
            verdict.note(f"{what}: user {key!r} has other bytes than a replay")


# --- state -----------------------------------------------------------------

def cents(amount):
    """As the program keeps amounts: nearest integer of 1/100."""
    return round(amount * 100)


class Row:
    """One user's events, in offset order."""

    def __init__(self):
        self.events = []  # (offset, time in ms, cents)

    def windows(self, lengths_ms):
        newest = max(time for _, time, _ in self.events)
        return [(sum(1 for _, t, _ in self.events if t > newest - length),
                 sum(c for _, t, c in self.events if t > newest - length))
                for length in lengths_ms]


def millis(time):
    return time if isinstance(time, int) else round(time.timestamp() * 1000)


def fold(log):
    rows = collections.defaultdict(Row)
    for (_, offset), event in sorted(log.events, key=lambda one: one[0]):
        rows[event["user_id"]].events.append(
            (offset, millis(event["time"]), cents(event["amount"])))
    return rows


def differences(row, said, lengths_ms):
    """What `inspect user --json` says against the row; texts."""
    offset, _, _ = row.events[-1]
    newest = max(time for _, time, _ in row.events)
    checks = [("events_total", len(row.events), said["events_total"]),
              ("applied_offset", offset, said["applied_offset"]),
              ("newest_time_ms", newest, said["newest_time_ms"])]
    kept = row.events[len(row.events) - said["events_kept"]:]
    checks.append(("times of events kept", [t for _, t, _ in kept],
                   [e["time_ms"] for e in said["events"]]))
    checks.append(("amounts of events kept", [c for _, _, c in kept],
                   [cents(e["amount"]) for e in said["events"]]))
    if said["window_tiles"] == 0:  # beyond them windows are not exact
        checks.append(("windows", row.windows(lengths_ms),
                       [(w["count"], cents(w["amount_sum"]))
                        for w in said["windows"]]))
    return [f"{name} is {got}, must be {must}"
            for name, must, got in checks if must != got]


def judge_rows(verdict, log, users, look, lengths_ms):
    """look(user): what inspect says, as text; None: no such user."""
    rows = fold(log)
    for user in users if users is not None else rows:
        text = look(user)
        wrong = (["no row"] if text is None else
                 differences(rows[user], json.loads(text), lengths_ms))
        if wrong:
            verdict.rows += 1
            verdict.note(f"state of {user}: {'; '.join(wrong)[:300]}")
