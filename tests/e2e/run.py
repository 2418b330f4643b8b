"""Runs every test_*.py beside it against a broker of its own, some at a time:
they wait for the broker more than they work. What fails is tried once more,
alone, and both tries are told.

usage: run.py LOG [NAME...]: the last line of LOG is
"N passed, N failed, N skipped"; names narrow the choice.
"""

import faulthandler
import re
import subprocess
import sys
import time
import unittest

import harness

TEST_S_MAX = 180  # then it says where it hangs, and ends
SHARDS = 2
COUNTS = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")


class Result(unittest.TestResult):
    """A line for every test as it ends, details of failures at once."""

    def __init__(self, log):
        super().__init__()
        self.log = log
        self.passed = 0

    def startTest(self, test):
        super().startTest(test)
        faulthandler.dump_traceback_later(TEST_S_MAX, exit=True)
        self.started = time.monotonic()

    def say(self, word, test, why=""):
        seconds = time.monotonic() - self.started
        line = f"{word:<8}{test.id()} ({seconds:.1f} s){why}"
        print(line, flush=True)
        print(line, file=self.log, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self.say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("skipped", test, ": " + reason)

    def addError(self, test, err):
        super().addError(test, err)
        self.started = getattr(self, "started", time.monotonic())
        self.say("FAILED", test, "\n" + self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say("FAILED", test, "\n" + self.failures[-1][1])


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def run_shard(path, shard, names):
    """Every SHARDS-th test, on the broker that is there."""
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    tests = sorted(tests_of(loader.discover(harness.HERE)), key=lambda t: t.id())
    return run_tests(path, tests[shard::SHARDS])


def run_tests(path, tests):
    with open(path, "w", encoding="utf-8") as log:
        result = Result(log)
        unittest.TestSuite(tests).run(result)
        faulthandler.cancel_dump_traceback_later()
        failed = len(result.errors) + len(result.failures)
        print(f"{result.passed} passed, {failed} failed, "
              f"{len(result.skipped)} skipped", file=log)
    return 1 if failed else 0


def counts_of(path):
    """None: the shard did not come to its end."""
    with open(path, encoding="utf-8") as f:
        match = COUNTS.fullmatch(f.read().rsplit("\n", 2)[-2])
    return [int(n) for n in match.groups()] if match else None


def failed_in(part):
    """Tests and classes, by name: that of a class failed in its set-up."""
    with open(part, encoding="utf-8") as f:
        return [re.sub(r"^setUpClass \((.*)\)$", r"\1", name) for name in
                re.findall(r"^FAILED  (.*) \([0-9.]+ s\)$", f.read(), re.M)]


def try_again(path, parts):
    """Counts of what failed, run once more in a process of its own."""
    names = [name for part in parts for name in failed_in(part)]
    if not names:
        return [0, 0, 0]
    print(f"once more: {' '.join(names)}", flush=True)
    subprocess.run([sys.executable, __file__, path, "--again", *names],
                   check=False)
    return counts_of(path)


def main():
    path, names = sys.argv[1], sys.argv[2:]
    if names[:1] == ["--shard"]:
        return run_shard(path, int(names[1]), names[2:])
    if names[:1] == ["--again"]:
        sys.path.insert(0, harness.HERE)
        loader = unittest.defaultTestLoader
        return run_tests(path, loader.loadTestsFromNames(names[1:]))
    parts = [f"{path}.{i}" for i in range(SHARDS)]
    try:
        harness.broker_up()
        shards = [subprocess.Popen([sys.executable, __file__, part, "--shard",
                                    str(i), *names])
                  for i, part in enumerate(parts)]
        for shard in shards:
            shard.wait()
        again = try_again(f"{path}.again", parts)
    finally:
        harness.broker_down()
    counts = [counts_of(part) for part in parts]
    with open(path, "w", encoding="utf-8") as log:
        for part in parts:
            with open(part, encoding="utf-8") as f:
                log.write(f.read())
        if not all(counts) or not again:
            return 1
        passed, _, skipped = map(sum, zip(*counts, again))
        print(f"{passed} passed, {again[1]} failed, {skipped} skipped", file=log)
    return 1 if again[1] else 0


if __name__ == "__main__":
    sys.exit(main())
