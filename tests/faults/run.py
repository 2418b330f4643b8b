"""Runs the fault tests beside it against a broker of its own.

usage: run.py LOG [short|hand|long] [NAME...]
The last line of LOG is "N passed, N failed, N skipped"; names narrow the
choice. Progress goes to the terminal as it comes, then a table of all. In the
short selection, which runs with everything else, what fails is tried once
more, and both tries are told.
"""

import faulthandler
import os
import re
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "e2e"))

TEST_S_MAX = {"short": 240, "hand": 900, "long": 3600}


class Result(unittest.TestResult):
    """A line for every test as it begins and ends; all of them in the end."""

    def __init__(self, log):
        super().__init__()
        self.log = log
        self.lines = []

    def say(self, text):
        print(text, flush=True)
        print(text, file=self.log, flush=True)

    def startTest(self, test):
        super().startTest(test)
        faulthandler.dump_traceback_later(
            TEST_S_MAX[os.environ["MILLRACE_FAULTS_SCALE"]], exit=True)
        self.started = time.monotonic()
        self.say(f"begins  {name_of(test)}")

    def end(self, word, test, why=""):
        seconds = time.monotonic() - getattr(self, "started", time.monotonic())
        self.lines.append((word, name_of(test), seconds))
        self.say(f"{word:<8}{name_of(test)} ({seconds:.1f} s){why}")

    def addSuccess(self, test):
        super().addSuccess(test)
        self.end("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.end("skipped", test, ": " + reason)

    def addError(self, test, err):
        super().addError(test, err)
        self.end("FAILED", test, "\n" + self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.end("FAILED", test, "\n" + self.failures[-1][1])

    def failed(self):
        """Tests by name, and classes that failed in their set-up."""
        return [re.sub(r"^setUpClass \((.*)\)$", r"\1", test.id())
                for test, _ in self.errors + self.failures]

    def forget(self, names):
        self.lines = [line for line in self.lines if line[0] != "FAILED"]
        self.errors, self.failures = [], []
        self.say(f"once more: {' '.join(names)}")

    def table(self):
        width = max((len(name) for _, name, _ in self.lines), default=0)
        self.say("")
        for word, name, seconds in self.lines:
            self.say(f"{name:<{width}}  {word:<8}{seconds:>8.1f} s")
        words = [word for word, _, _ in self.lines]
        self.say(f"{words.count('ok')} passed, {words.count('FAILED')} failed,"
                 f" {words.count('skipped')} skipped")


class Loader(unittest.TestLoader):
    """Without the tests whose mark says that they are too long."""

    def getTestCaseNames(self, case):
        scale = os.environ["MILLRACE_FAULTS_SCALE"]
        marks = {"short": ("by_hand", "long_only"), "hand": ("long_only",),
                 "long": ()}[scale]

        def left_out(what):
            return any(hasattr(what, mark) for mark in marks)

        if left_out(case):
            return []
        return [name for name in super().getTestCaseNames(case)
                if not left_out(getattr(case, name))]


def name_of(test):
    return test.id().removeprefix("test_")


def main():
    scale = sys.argv[2] if len(sys.argv) > 2 else "short"
    os.environ["MILLRACE_FAULTS_SCALE"] = scale
    import harness  # reads the environment
    loader = Loader()
    loader.testNamePatterns = [f"*{name}*" for name in sys.argv[3:]] or None
    with open(sys.argv[1], "w", encoding="utf-8") as log:
        result = Result(log)
        try:
            harness.broker_up()
            loader.discover(HERE).run(result)
            names = result.failed()
            if names and scale == "short":
                result.forget(names)
                loader.loadTestsFromNames(names).run(result)
        finally:
            faulthandler.cancel_dump_traceback_later()
            harness.broker_down()
            result.table()
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
