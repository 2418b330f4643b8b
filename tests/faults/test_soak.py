"""Ten minutes at 70 % of what this machine can do, with another model every
half minute: memory flat, descriptors as many as before, and latency during a
reload at most three times what it is otherwise."""

import os
import re
import signal
import statistics
import time

from case import FaultCase, FaultRun, long_only, tell

SECONDS = int(os.environ.get("MILLRACE_SOAK_SECONDS", "600"))
RELOAD_EVERY_S = 30
SAMPLE_S = 2
WARM_UP_S = min(60, SECONDS / 5)
GROWTH_MAX = 1.05       # of resident memory, after the warm-up
LATENCY_TIMES_MAX = 3
LATENCY_FLOOR_S = 0.05  # below it the scheduler speaks, not the reload
BUCKET = re.compile(r'^millrace_event_latency_seconds_bucket\{.*le="([^"]+)"\} '
                    r"(\d+)$", re.M)


class Sample:
    """What the process holds, and the latency buckets so far."""

    def __init__(self, run):
        pid = run.process.pid
        with open(f"/proc/{pid}/statm", encoding="ascii") as f:
            self.bytes = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.buckets = {float(le): int(n)
                        for le, n in BUCKET.findall(run.get("/metrics")[1])}


def p99_s(before, after):
    """Of the events between two samples; None: there were none."""
    counts = [(le, n - before.buckets.get(le, 0))
              for le, n in sorted(after.buckets.items())]
    if not counts or counts[-1][1] == 0:
        return None
    return next(le for le, n in counts if n >= 0.99 * counts[-1][1])


@long_only
class SoakTest(FaultCase):
    def capacity(self, config):
        """Events a second, over a log that is there already."""
        run = FaultRun(self, config)
        run.wait(lambda: run.metric("millrace_events_scored_total") > 0,
                 "scoring")
        started = time.monotonic()
        first = run.metric("millrace_events_scored_total")
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        done = run.metric("millrace_events_scored_total") - first
        seconds = time.monotonic() - started
        run.stop()
        return done / seconds

    def other_model(self):
        """Of another shape, so that a reload has something to do."""
        first = self.options["model.dir"]
        self.options["model.dir"] = self.path("other-model")
        self.make_model(ffn=48)
        other, self.options["model.dir"] = self.options["model.dir"], first
        return other

    def switch_model(self, run, config, model):
        with open(config, encoding="utf-8") as f:
            text = f.read()
        with open(config, "w", encoding="utf-8") as f:
            f.write(re.sub(r"^model\.dir = .*$", f"model.dir = {model}", text,
                           flags=re.M))
        run.process.send_signal(signal.SIGHUP)

    def soak(self, run, config, models):
        """[(sample, was a reload in it)]"""
        samples, began, reloads = [], time.monotonic(), 0
        while time.monotonic() < began + SECONDS:
            due = time.monotonic() > began + RELOAD_EVERY_S * (reloads + 1)
            if due:
                reloads += 1
                self.switch_model(run, config, models[reloads % 2])
            time.sleep(SAMPLE_S)
            self.assertIsNone(run.ended(0), run.text())
            samples.append((Sample(run), due))
            if due and reloads % 4 == 0:
                tell(f"{reloads} reloads, "
                     f"{samples[-1][0].bytes / 2**20:.0f} MiB")
        self.assertEqual(run.metric("millrace_reload_failures_total"), 0)
        self.assertGreaterEqual(run.metric("millrace_reloads_total"),
                                reloads - 1)
        return samples

    def test_soak(self):
        config = self.start(60000)
        models = (self.options["model.dir"], self.other_model())
        rate = int(self.capacity(config) * 0.7)
        tell(f"{rate} events a second for {SECONDS} s")
        run = FaultRun(self, config)
        run.ready_s()
        self.feed(config, rate * (SECONDS + 60), rate)
        time.sleep(WARM_UP_S)
        samples = self.soak(run, config, models)
        self.feeding.kill()
        run.stop()
        self.check_flat([s for s, _ in samples])
        self.check_latency(samples)

    def check_flat(self, samples):
        quarter = len(samples) // 4
        early = statistics.median(s.bytes
                                  for s in samples[quarter:2 * quarter])
        late = statistics.median(s.bytes for s in samples[-quarter:])
        tell(f"memory {early / 2**20:.0f} MiB, at the end "
             f"{late / 2**20:.0f} MiB; descriptors "
             f"{min(s.descriptors for s in samples)} to "
             f"{max(s.descriptors for s in samples)}")
        self.assertLess(late, early * GROWTH_MAX)
        self.assertLessEqual(
            statistics.median(s.descriptors for s in samples[-quarter:]),
            statistics.median(s.descriptors for s in samples[:quarter]) + 2)

    def check_latency(self, samples):
        pairs = [(p99_s(a, b), due)
                 for (a, _), (b, due) in zip(samples, samples[1:])]
        calm = [p for p, due in pairs if p is not None and not due]
        during = [p for p, due in pairs if p is not None and due]
        normal, worst = statistics.median(calm), statistics.median(during)
        tell(f"p99 {normal * 1000:.1f} ms, during a reload "
             f"{worst * 1000:.1f} ms (median of {len(during)})")
        self.assertLessEqual(worst, max(normal * LATENCY_TIMES_MAX,
                                        LATENCY_FLOOR_S))
