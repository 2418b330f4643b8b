"""From a killed process to one that scores again, for a small state and a
large one.

Events of uniformly drawn users fill the store; then, with more events coming,
run is killed some times at random moments and started again. Time to ready is
taken from the start of the process to the first 200 of /readyz: it holds the
opening of store and model, the group's assignment, and the fold of what lay
between checkpoint and commit.
"""

import argparse
import json
import os
import random
import sys
import time

import live
from live import Bench, harness, say

DRAIN_S = 600
MORE = 40000  # events for every kill, so that it comes under load


def generate(bench, config, events, users, seed):
    harness.millrace("generate", "--events", str(events), "--users",
                     str(users), "--items", "20000", "--user-skew", "0",
                     "--seed", str(seed), "--schema-id", str(live.SCHEMA_ID),
                     "--topic", bench.options["input.topic"],
                     "--config", config)


def ready_ms(run, started):
    while run.get("/readyz")[0] != 200:
        if run.process.poll() is not None:
            raise AssertionError(run.text())
        time.sleep(0.002)
    return (time.monotonic() - started) * 1000


def run_size(bench, users, options):
    """One kill after another; how each start went."""
    mode = f"users{users}"
    bench.options["input.topic"] = bench.topic(mode, "events")
    config = bench.config(mode, delivery="exactly_once", **dict(
        s.split("=", 1) for s in options.set))
    bench.make_topics(config, mode)
    events = max(int(users * options.events_per_user), 20000)
    say(f"{users} users: loading {events} events")
    generate(bench, config, events, users, 1)
    run = harness.Run(bench, config)
    run.wait_drained(bench.options["input.topic"], bench.topic(mode, "group"),
                     DRAIN_S)
    run.stop()
    generate(bench, config, MORE * options.kills, users, 2)
    starts = []
    for _ in range(options.kills):
        started = time.monotonic()
        run = harness.Run(bench, config)
        took = ready_ms(run, started)
        folded = run.metric("millrace_events_folded_total")
        starts.append({"ready_ms": round(took), "folded": int(folded)})
        time.sleep(random.uniform(1, 2))
        run.kill()
    run = harness.Run(bench, config)
    run.wait_ready()
    run.wait_drained(bench.options["input.topic"], bench.topic(mode, "group"),
                     DRAIN_S)
    run.stop()
    store = json.loads(harness.millrace(
        "inspect", "store", os.path.join(bench.dir, f"state-{mode}"),
        "--json").stdout)
    first, rest = starts[0], starts[1:]
    return {"users": users,
            "rows": sum(f["rows"] for f in store["families"]),
            "clean_start_ms": first["ready_ms"],
            "after_kill_ms": sorted(s["ready_ms"] for s in rest),
            "folded": sorted(s["folded"] for s in rest)}


def parse():
    parser = argparse.ArgumentParser(
        prog="ops/bench recovery", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--users", type=int, action="append",
                        help="sizes of the state; 10000 and 1000000")
    parser.add_argument("--events-per-user", type=float, default=1.5)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--set", action="append", default=[],
                        metavar="KEY=VALUE", help="further options of run")
    return parser.parse_args()


def main():
    options = parse()
    random.seed(1)
    bench = Bench("recovery", (2, 64, 2, 256, 50, 20000), 8)
    harness.broker_up()
    try:
        bench.make_model()
        sizes = [run_size(bench, users, options)
                 for users in options.users or (10000, 1000000)]
    finally:
        harness.broker_down()
        bench.close()
    result = {"bench": "recovery", "machine": live.machine(), "sizes": sizes}
    if options.json:
        print(json.dumps(result))
        return 0
    print(result["machine"])
    print(f"{'users':>10}{'rows':>10}{'clean ms':>10}"
          f"{'after kill -9, ms':>26}{'events folded':>22}")
    for s in sizes:
        span = "{0[0]} - {0[1]}".format
        print(f"{s['users']:>10}{s['rows']:>10}{s['clean_start_ms']:>10}"
              f"{span((s['after_kill_ms'][0], s['after_kill_ms'][-1])):>26}"
              f"{span((s['folded'][0], s['folded'][-1])):>22}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
