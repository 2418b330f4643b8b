"""The whole program on a real broker: NUMBERS section 1.

Events of Zipf-distributed users are loaded into a topic; run scores them
with a model of random weights and the given shape, caches cold. A reader of
committed records counts both outputs as they come: the rate is taken from
the second fifth of them to the last. A sample is compared with replay.
"""

import argparse
import multiprocessing
import random
import re
import sys
import time

import fastavro
from confluent_kafka import Consumer, TopicPartition

import live
from live import MODES, Bench, harness, say

WARM = 0.2  # of the outputs pass before the clock starts
SAMPLE = 1000
BATCH = 20000


def read_outputs(topics, partitions, total, every, channel):
    """In a process of its own. Sends ("warm", time) and ("done", time,
    counts, sampled values)."""
    consumer = Consumer({"bootstrap.servers": harness.SERVERS,
                         "group.id": "bench-reader",
                         "isolation.level": "read_committed",
                         "enable.auto.commit": False,
                         "fetch.min.bytes": 200000,
                         "fetch.wait.max.ms": 50,
                         "queued.max.messages.kbytes": 65536})
    consumer.assign([TopicPartition(t, p, 0) for t in topics
                     for p in range(partitions)])
    counts = dict.fromkeys(topics, 0)
    sample = {t: [] for t in topics}
    seen, warm = 0, False
    while seen < total:
        for m in consumer.consume(BATCH, 0.1):
            if m.error():
                continue
            counts[m.topic()] += 1
            if counts[m.topic()] % every == 0:
                sample[m.topic()].append(m.value())
            seen += 1
        if not warm and seen >= WARM * total:
            warm = True
            channel.put(("warm", time.monotonic(), seen))
    channel.put(("done", time.monotonic(), counts, sample))
    # More than was asked for would be repeats.
    extra = sum(1 for m in consumer.consume(BATCH, 1.0) if not m.error())
    channel.put(("extra", extra))
    consumer.close()


def step_seconds(run):
    page = run.get("/metrics")[1]
    return {step: float(value) for step, value in re.findall(
        r'^millrace_step_seconds_sum\{step="(\w+)"\} (\S+)$', page, re.M)}


def run_mode(bench, mode, events, options):
    config = bench.config(mode, **{"workers": str(options.workers)},
                          **dict(s.split("=", 1) for s in options.set))
    bench.make_topics(config, mode)
    topics = [bench.topic(mode, "fraud"), bench.topic(mode, "lists")]
    channel = multiprocessing.Queue()
    reader = multiprocessing.Process(target=read_outputs, args=(
        topics, bench.partitions, 2 * events, max(events // SAMPLE, 1),
        channel))
    reader.start()
    time.sleep(1)
    run = harness.Run(bench, config)
    pid = run.process.pid
    try:
        _, warm_at, warm_outputs = channel.get(timeout=options.timeout)
        warm_cpu = live.cpu_seconds(pid)
        _, done_at, counts, sample = channel.get(timeout=options.timeout)
        done_cpu = live.cpu_seconds(pid)
        steps = step_seconds(run)
        tokens = run.metric("millrace_model_tokens_total")
        hits = run.metric("millrace_context_reads_total")
        given = sum(float(v) for v in re.findall(
            r'^millrace_reasons_total\{state="given".*\} (\S+)$',
            run.get("/metrics")[1], re.M))
        missed = sum(float(v) for v in re.findall(
            r'^millrace_context_reads_total\{from="recomputed".*\} (\S+)$',
            run.get("/metrics")[1], re.M))
        extra = channel.get(timeout=30)[1]
        memory = live.memory_mib(pid, "VmHWM")
        run.stop()
    finally:
        run.kill()
        reader.terminate()
        reader.join()
    timed = (2 * events - warm_outputs) / 2
    result = {
        "events_per_second": round(timed / (done_at - warm_at)),
        "cpu_us_per_event": round((done_cpu - warm_cpu) * 1e6 / timed, 2),
        "rss_mib": round(memory, 1),
        "fraud_scores": counts[topics[0]],
        "recommendations": counts[topics[1]],
        "repeated": extra,
        "counts_ok": all(n == events for n in counts.values()) and extra == 0,
        "context_hit_rate": round(1 - missed / hits, 4) if hits else None,
        "tokens_per_event": round(tokens / events, 3),
        "explained": round(given / events, 4),
        "step_us_per_event": {s: round(t * 1e6 / events, 2)
                              for s, t in steps.items()},
    }
    return result, sample


def explain_share(bench, config, options):
    """The threshold above which there is the wanted share of the scores."""
    path = f"{bench.dir}/all.avro"
    harness.millrace("replay", "--topic", bench.options["input.topic"],
                     "--config", config, "--fraud-to", path)
    with open(path, "rb") as f:
        scores = sorted(record["probability"] for record in fastavro.reader(f))
    threshold = scores[int((1 - options.reasons) * (len(scores) - 1))]
    options.set += [f"reasons.threshold={threshold:.9g}",
                    "reasons.per_second=65535"]


def decode_sample(values, schema):
    parsed = harness.schema(schema)
    wanted = {}
    for value in values:
        class Raw:
            pass
        raw = Raw()
        raw.value = value
        record = harness.decode(raw, parsed)
        wanted[record["source_partition"], record["source_offset"]] = record
    return wanted


def compare_with_replay(bench, config, samples):
    """How many of each mode's samples are equal, of how many."""
    files = {what: f"{bench.dir}/{what}.avro" for what in ("fraud", "lists")}
    harness.millrace("replay", "--topic", bench.options["input.topic"],
                     "--config", config, "--fraud-to", files["fraud"],
                     "--recommendations-to", files["lists"])
    wanted, equal = {}, {}
    for mode, sample in samples.items():
        wanted[mode] = {
            "fraud": decode_sample(sample[bench.topic(mode, "fraud")],
                                   "fraud_score"),
            "lists": decode_sample(sample[bench.topic(mode, "lists")],
                                   "recommendations")}
        equal[mode] = 0
    for what, path in files.items():
        with open(path, "rb") as f:
            for record in fastavro.reader(f):
                at = (record["source_partition"], record["source_offset"])
                for mode in wanted:
                    other = wanted[mode][what].get(at)
                    if other is not None and other == record:
                        equal[mode] += 1
    return {mode: (equal[mode], sum(map(len, wanted[mode].values())))
            for mode in wanted}


def parse():
    parser = argparse.ArgumentParser(
        prog="ops/bench spine", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=500000)
    parser.add_argument("--users", type=int, default=10000)
    parser.add_argument("--skew", type=float, default=1.0,
                        help="Zipf exponent of users' activity")
    parser.add_argument("--cache-mib", type=int, default=None,
                        help="model.cache and state.cache, shared equally")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--set", action="append", default=[],
                        metavar="KEY=VALUE", help="further options of run")
    parser.add_argument("--reasons", type=float, default=0, metavar="SHARE",
                        help="explain this share of the scores, e.g. 0.01")
    parser.add_argument("--no-replay", action="store_true",
                        help="leave out the comparison with replay")
    parser.add_argument("--timeout", type=float, default=600)
    return parser.parse_args()


def main():
    options = parse()
    random.seed(1)
    if options.cache_mib:
        half = options.cache_mib // 2
        options.set += [f"model.cache={half}MiB", f"state.cache={half}MiB"]
    bench = Bench("spine", (2, 64, 2, 256, 50, 20000), 8)
    harness.broker_up()
    try:
        modes = options.mode or MODES
        first = bench.config(modes[0])
        bench.make_model()
        bench.make_topics(first, modes[0])
        say(f"loading {options.events} events")
        harness.millrace("generate", "--events", str(options.events),
                         "--users", str(options.users), "--items", "20000",
                         "--user-skew", str(options.skew),
                         "--schema-id", str(live.SCHEMA_ID),
                         "--topic", bench.options["input.topic"],
                         "--config", first)
        result = {"bench": "spine", "machine": live.machine(),
                  "events": options.events, "users": options.users,
                  "workers": options.workers}
        samples = {}
        if options.reasons:
            say("finding the threshold of reasons")
            explain_share(bench, first, options)
            first = bench.config(modes[0], **dict(
                s.split("=", 1) for s in options.set))
        for mode in modes:
            say(f"running {mode}")
            result[mode], samples[mode] = run_mode(bench, mode, options.events,
                                                   options)
        if not options.no_replay:
            say("comparing with replay")
            for mode, (equal, of) in compare_with_replay(
                    bench, first, samples).items():
                result[mode]["sampled"] = of
                result[mode]["sampled_equal"] = equal
    finally:
        harness.broker_down()
        bench.close()
    rows = [(key.replace("_", " "), lambda r, k=key: r.get(k, "-"))
            for key in ("events_per_second", "cpu_us_per_event", "rss_mib",
                        "fraud_scores", "recommendations", "repeated",
                        "context_hit_rate", "tokens_per_event", "explained",
                        "sampled",
                        "sampled_equal")]
    steps = result[modes[0]]["step_us_per_event"]
    rows += [(f"  {s}, us per event",
              lambda r, s=s: r["step_us_per_event"][s]) for s in steps]
    live.print_result(result, options.json, rows)
    good = all(result[m]["counts_ok"] and
               result[m].get("sampled_equal") == result[m].get("sampled")
               for m in modes if m == "exactly_once" or
               not result[m]["repeated"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
