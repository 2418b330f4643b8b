"""What the benches of the running program share."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "e2e"))
import harness  # noqa: E402

MODES = ("at_least_once", "exactly_once")
SCHEMA_ID = 7
TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """A folder, topics and a model of the size that NUMBERS gives."""

    def __init__(self, name, shape, partitions):
        self.dir = tempfile.mkdtemp(prefix="millrace-bench-")
        self.name = f"{name}-{os.getpid()}"
        self.partitions = partitions
        self.shape = shape
        schemas = os.path.join(self.dir, "schemas")
        os.mkdir(schemas)
        shutil.copy(harness.ROLES["input.schema"], f"{schemas}/{SCHEMA_ID}.avsc")
        self.options = {
            **harness.ROLES,
            "kafka.bootstrap.servers": harness.SERVERS,
            "schemas.dir": schemas,
            "input.topic": f"{self.name}-events",
            "dead.letters.topic": f"{self.name}-dead",
            "model.dir": os.path.join(self.dir, "model"),
            # Scores of random weights are all alike, and in the middle.
            "reasons.per_second": "0",
        }

    def topic(self, mode, what):
        return f"{self.name}-{mode}-{what}"

    def config(self, mode, **changes):
        path = os.path.join(self.dir, f"{mode}.conf")
        options = {
            **self.options,
            "delivery": mode,
            "group.id": self.topic(mode, "group"),
            "state.dir": os.path.join(self.dir, f"state-{mode}"),
            "output.fraud.topic": self.topic(mode, "fraud"),
            "output.recommendations.topic": self.topic(mode, "lists"),
            **changes,
        }
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{k} = {v}\n" for k, v in options.items())
        return path

    def make_model(self):
        sets = [f"{k}={v}" for k, v in self.options.items()]
        subprocess.run([harness.MAKE_MODEL, self.options["model.dir"],
                        *[str(n) for n in self.shape], *sets], check=True)

    def make_topics(self, config, mode):
        harness.keep_all(self.topic(mode, "lists"), self.partitions)
        harness.millrace("topics", "--create", "--partitions",
                         str(self.partitions), "--config", config)

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    # What Run of the harness wants of a test case.
    def addCleanup(self, function):
        self.cleanup = function


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        names = [line.split(":", 1)[1].strip() for line in f
                 if line.startswith("model name")]
    return f"{len(names)} x {names[0] if names else 'CPU'}"


def print_result(result, as_json, rows):
    """rows: (label, function of a mode's results)."""
    if as_json:
        print(json.dumps(result))
        return
    modes = [m for m in MODES if m in result]
    print(f"{result['machine']}")
    print(f"{'':<28}" + "".join(f"{m:>16}" for m in modes))
    for label, value in rows:
        print(f"{label:<28}" + "".join(f"{value(result[m]):>16}" for m in modes))
