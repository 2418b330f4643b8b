"""Runs every test_*.py beside it against a broker of its own.

usage: run.py LOG [NAME...]: the last line of LOG is
"N passed, N failed, N skipped"; names narrow the choice.
"""

import faulthandler
import sys
import time
import unittest

import harness

TEST_S_MAX = 180  # then it says where it hangs, and ends


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


def main():
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in sys.argv[2:]] or None
    with open(sys.argv[1], "w", encoding="utf-8") as log:
        result = Result(log)
        try:
            harness.broker_up()
            loader.discover(harness.HERE).run(result)
        finally:
            faulthandler.cancel_dump_traceback_later()
            harness.broker_down()
        failed = len(result.errors) + len(result.failures)
        print(f"{result.passed} passed, {failed} failed, "
              f"{len(result.skipped)} skipped", file=log)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
