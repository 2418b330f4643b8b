#!/usr/bin/env python3
"""What ops/ tells an operator exists in the program.

Goal: an alert, a panel or a runbook never names a metric, a label, an option,
a log code, a command or a page that is not there, and the README no test.
Method: the program itself is asked (config docs, --help), log codes are looked
for in the sources, and everything in ops/ that looks like one is compared.
The shape of alerts and panels is checked where a mistake would be silent.

usage: operations_oracle.py MILLRACE SOURCE_DIR
"""
import json
import os
import re
import subprocess
import sys

# Of log lines; no codes.
LEVELS = {"DEBUG", "INFO", "WARN", "ERROR"}
SUFFIXES = ("_bucket", "_sum", "_count")
faults = []


def fault(path, what):
    faults.append(f"{path}: {what}")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*words):
    return subprocess.run(words, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def files(*under):
    """Of a folder and those below it, by their ending."""
    *parts, ending = under
    return sorted(os.path.join(folder, name)
                  for folder, _, names in os.walk(os.path.join(*parts))
                  for name in names if name.endswith(ending))


class Program:
    """What the program says of itself."""

    def __init__(self, millrace, source):
        self.millrace = millrace
        metrics = run(millrace, "config", "docs", "metrics").stdout
        options = run(millrace, "config", "docs", "options").stdout
        self.metrics = set(re.findall(r"`((?:millrace|process)_\w+)`", metrics))
        self.histograms = set(re.findall(r"\| `(\w+)` \| histogram", metrics))
        self.options = set(re.findall(r"`([a-z][\w.]*)`", options))
        self.labels = set(re.findall(r'\w+="\w+"', metrics))
        for key, line in (("step", "Steps, "), ("reason", "Reasons of ")):
            at = re.search(rf"^{line}.*$", metrics, re.M).group(0)
            self.labels |= {f'{key}="{name}"'
                            for name in re.findall(r"`(\w+)`", at)}
        self.keys = {label.split("=")[0] for label in self.labels}
        code = "".join(read(path) for path in files(source, "pipeline", ".c")
                       + files(source, "pipeline", ".h"))
        self.codes = set(re.findall(r'LOG\w*\(\w+,\s*"(\w+)"', code))
        self.headers = set(re.findall(r'"(millrace\.[\w.]+)"', code))
        self.tests, self.help = set(), {}
        for path in (files(source, "tests", ".c") +
                     files(source, "tests", ".py")):
            self.tests.add(os.path.splitext(os.path.basename(path))[0])
            if path.endswith(".py"):
                self.tests |= set(re.findall(r"^class (\w+Test)\b", read(path),
                                             re.M))

    def has_metric(self, name):
        """A name, or the beginning that a family of names shares: x_*."""
        base = next((name[:-len(s)] for s in SUFFIXES if name.endswith(s)),
                    name)
        if name.endswith("_"):
            return any(other.startswith(name) for other in self.metrics)
        return name in self.metrics or base in self.histograms

    def help_of(self, command):
        if command not in self.help:
            text = run(self.millrace, command, "--help")
            self.help[command] = text.stdout if text.returncode == 0 else None
        return self.help[command]


def check_metrics(program, path, text):
    names = set(re.findall(r"\b(?:millrace|process)_[a-z0-9_]+\b", text))
    for name in sorted(names):
        if not program.has_metric(name):
            fault(path, f"no metric {name}")
    for key, value in re.findall(r'(\w+)=\\?"(\w+)\\?"', text):
        label = f'{key}="{value}"'
        if key in program.keys and label not in program.labels:
            fault(path, f"no label {label}")


def check_commands(program, path, text):
    """Every `millrace NAME --flag` of an indented block or of a sentence."""
    text = re.sub(r"\\\n\s*", "", text)
    for line in re.findall(r"(?:^ {4,}|`)(millrace [^`\n]*)", text, re.M):
        words = line.split("#")[0].split("|")[0].split()
        usage = program.help_of(words[1])
        if usage is None:
            fault(path, f"no command: {line}")
            continue
        for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(words[2:])):
            if not re.search(rf"{flag}\b", usage):
                fault(path, f"no {flag}: {line}")


def check_words(program, path, text):
    """Options and headers as `a.b`, log codes as `ABCD`, tests by name."""
    for word in sorted(set(re.findall(r"`([^`\n]+)`", text))):
        key = re.split(r"[ =]", word)[0]
        if re.fullmatch(r"[a-z]+(\.[a-z]+)+", key):
            if (key.startswith("kafka.") or key in program.options
                    or key in program.headers):
                continue
            if not os.path.splitext(key)[1] in (".md", ".yml", ".json", ".def",
                                                ".conf", ".avro", ".avsc"):
                fault(path, f"no option {key}")
        elif (re.fullmatch(r"[A-Z]{4,}", word) and word not in LEVELS
              and word not in program.codes):
            fault(path, f"no log code {word}")
        elif (re.fullmatch(r"test_\w+|[A-Z]\w+Test", word)
              and word not in program.tests):
            fault(path, f"no test {word}")


def check_links(path, text):
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" in target:
            continue
        if not os.path.exists(os.path.join(os.path.dirname(path), target)):
            fault(path, f"no page {target}")


def check_alerts(path, source):
    alerts = re.split(r"^ +- alert: ", read(path), flags=re.M)[1:]
    names = [alert.split("\n")[0] for alert in alerts]
    if not alerts or len(set(names)) != len(names):
        fault(path, "alerts without a name of their own")
    for name, alert in zip(names, alerts):
        for key in ("expr:", "severity:", "summary:", "runbook:"):
            if key not in alert:
                fault(path, f"{name} has no {key}")
        for page in re.findall(r"runbook: (\S+)", alert):
            if not os.path.exists(os.path.join(source, page)):
                fault(path, f"{name} names {page}, which is not there")


def check_dashboard(path):
    panels = json.loads(read(path))["panels"]
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        fault(path, "two panels of one id")
    for panel in panels:
        if panel["type"] == "row":
            continue
        if not panel["targets"] or not all(t["expr"] for t in panel["targets"]):
            fault(path, f"panel without a query: {panel['title']}")


def check_runbooks(folder, index):
    """Each page is in the index, has every part, and no part is empty."""
    pages = sorted(name for name in os.listdir(folder) if name != "README.md")
    if not pages:
        fault(folder, "no runbooks")
    for name in pages:
        path = os.path.join(folder, name)
        if f"({name})" not in read(index):
            fault(index, f"does not name {name}")
        parts = re.split(r"^## ", read(path), flags=re.M)[1:]
        titles = [part.split("\n")[0] for part in parts]
        if titles != ["You see", "It means", "Look at", "Do", "Do not"]:
            fault(path, f"its parts are {titles}")
        for part in parts:
            if len(part.split("\n", 1)[1].strip()) < 40:
                fault(path, f"nothing under {part.splitlines()[0]}")


def main():
    millrace, source = sys.argv[1:]
    program = Program(millrace, source)
    ops = os.path.join(source, "ops")
    pages = sum((files(ops, end) for end in (".md", ".yml", ".json")), [])
    pages.append(os.path.join(source, "README.md"))
    assert len(program.metrics) > 20 and len(program.codes) > 10
    for path in sorted(pages):
        text = read(path)
        check_metrics(program, path, text)
        if path.endswith(".md"):
            check_commands(program, path, text)
            check_words(program, path, text)
            check_links(path, text)
    check_alerts(os.path.join(ops, "prometheus", "alerts.yml"), source)
    check_dashboard(os.path.join(ops, "grafana", "millrace.json"))
    runbooks = os.path.join(ops, "runbooks")
    check_runbooks(runbooks, os.path.join(runbooks, "README.md"))
    print("\n".join(faults) or
          f"{len(pages)} files of ops name nothing that is not there")
    sys.exit(1 if faults else 0)


main()
