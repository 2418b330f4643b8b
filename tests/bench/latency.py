"""From the producer's call to the consumer's receipt at a steady rate, with
shipped defaults.

Each event carries the time of its produce call in a header, which run passes
through to its outputs; a reader of committed records takes the difference
when it receives the fraud score. The first seconds are left out. The broker's
JVM collects its garbage without pauses (ZGC): those of the collector that
ops/kafka has otherwise are 10 to 30 ms, and would be most of what is measured.
"""

import argparse
import io
import multiprocessing
import random
import sys
import time

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

import live
from live import MODES, Bench, harness, say

WARM_S = 12  # the broker is a JVM that has just started
USERS = 1000
HEADER = "sent"


def event(parsed, n):
    out = io.BytesIO()
    out.write(b"\0" + live.SCHEMA_ID.to_bytes(4, "big"))
    user = random.randrange(USERS)
    fastavro.schemaless_writer(out, parsed, {
        "event_id": f"e{n}", "user_id": f"u{user:06}",
        "item_id": f"i{random.randrange(20000):06}",
        "time": int(time.time() * 1000), "amount": random.randrange(10000) / 100,
        "category": "toys", "channel": "web", "type": "buy"})
    return f"u{user:06}", out.getvalue()


def read_scores(topic, partitions, total, channel):
    """In a process of its own: the difference for every score, in ms."""
    consumer = Consumer({"bootstrap.servers": harness.SERVERS,
                         "group.id": "bench-reader",
                         "isolation.level": "read_committed",
                         "enable.auto.commit": False,
                         "socket.nagle.disable": True})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    times = []
    channel.put("ready")
    quiet_until = time.monotonic() + 60
    while len(times) < total and time.monotonic() < quiet_until:
        m = consumer.poll(0.5)
        now = time.monotonic_ns()
        if m is None or m.error():
            continue
        times.append((now - int(dict(m.headers())[HEADER])) / 1e6)
        quiet_until = time.monotonic() + 10
    channel.put(times)
    consumer.close()


def send(topic, rate, seconds):
    producer = Producer({"bootstrap.servers": harness.SERVERS, "linger.ms": 0,
                         "socket.nagle.disable": True, "acks": "all",
                         "partitioner": "murmur2_random"})
    producer.list_topics(topic, 10)
    parsed = harness.schema("transaction")
    events = [event(parsed, n) for n in range(int(rate * seconds))]
    started = time.monotonic()
    for n, (key, value) in enumerate(events):
        wait = started + n / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        producer.produce(topic, value, key,
                         headers=[(HEADER, str(time.monotonic_ns()).encode())])
        producer.poll(0)
    producer.flush(30)


def quantile(ordered, q):
    return round(ordered[min(int(len(ordered) * q), len(ordered) - 1)], 2)


def run_mode(bench, mode, options):
    # A topic of its own: a mode must not score what the other was sent.
    bench.options["input.topic"] = bench.topic(mode, "events")
    config = bench.config(mode, **dict(s.split("=", 1) for s in options.set))
    bench.make_topics(config, mode)
    total = int(options.rate * options.seconds)
    channel = multiprocessing.Queue()
    reader = multiprocessing.Process(target=read_scores, args=(
        bench.topic(mode, "fraud"), bench.partitions, total, channel))
    reader.start()
    run = harness.Run(bench, config)
    try:
        channel.get(timeout=30)
        run.wait_ready()
        send(bench.options["input.topic"], options.rate, options.seconds)
        times = channel.get(timeout=60)
        run.stop()
    finally:
        run.kill()
        reader.terminate()
        reader.join()
    timed = sorted(times[int(WARM_S * options.rate):])
    return {"p50_ms": quantile(timed, 0.5), "p99_ms": quantile(timed, 0.99),
            "max_ms": quantile(timed, 1), "events": len(timed),
            "lost": total - len(times)}


def parse():
    parser = argparse.ArgumentParser(
        prog="ops/bench latency", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=32)
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--set", action="append", default=[],
                        metavar="KEY=VALUE", help="further options of run")
    return parser.parse_args()


def main():
    options = parse()
    random.seed(1)
    bench = Bench("latency", (2, 64, 2, 256, 50, 20000), 8)
    harness.broker_up(GC="-XX:+UseZGC")
    try:
        bench.make_model()
        result = {"bench": "latency", "machine": live.machine(),
                  "rate": options.rate}
        for mode in options.mode or MODES:
            say(f"running {mode}")
            result[mode] = run_mode(bench, mode, options)
    finally:
        harness.broker_down()
        bench.close()
    live.print_result(result, options.json, [
        (key.replace("_", " "), lambda r, k=key: r[k])
        for key in ("p50_ms", "p99_ms", "max_ms", "events", "lost")])
    return 1 if any(result[m]["lost"] for m in options.mode or MODES) else 0


if __name__ == "__main__":
    sys.exit(main())
