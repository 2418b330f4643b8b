"""Memory, disks and files that fail: clean stop or clean retry, the store
opens again, nothing is lost; what is damaged is noticed or does no harm.

No broker: faults_worker runs a whole worker over a log in memory and a real
store, with a journal in the cluster's place. What its journal and its rows
hold in the end must be what an undisturbed run leaves."""

import collections
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from case import FAULTS_BIN, by_hand, scaled, tell

BUILD = os.path.dirname(FAULTS_BIN)
WORKER = os.path.join(BUILD, "faults_worker")
PRELOAD = os.path.join(BUILD, "faults_preload.so")
RUN_S_MAX = 60
ROWS = re.compile(r" rows .*? (?=committed)")


class MachineCase(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(self._testMethodName)
        self.dir = tempfile.mkdtemp(prefix="millrace-machine-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.became = collections.Counter()
        calm = self.new_dir()
        self.assertEqual(self.worker("run", calm).returncode, 0)
        self.calm = self.show(calm)
        self.assertRegex(self.calm, "^outputs 2400 ")

    def new_dir(self):
        shutil.rmtree(os.path.join(self.dir, "run"), ignore_errors=True)
        path = os.path.join(self.dir, "run")
        os.mkdir(path)
        return path

    def worker(self, command, path, nth=None, sabotage=None):
        env = {**os.environ, "MILLRACE_SABOTAGE": sabotage or ""}
        if nth:
            env |= {"LD_PRELOAD": PRELOAD, "MILLRACE_NTH": nth,
                    "MILLRACE_NTH_DIR": os.path.join(path, "state"),
                    "MILLRACE_NTH_COUNT": os.path.join(self.dir, "count")}
        return subprocess.run([WORKER, command, path], env=env, text=True,
                              capture_output=True, timeout=RUN_S_MAX,
                              stdin=subprocess.DEVNULL, errors="replace")

    def show(self, path):
        done = self.worker("show", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def calls(self, call):
        """How many there are in a calm run."""
        self.worker("run", self.new_dir(), nth=f"{call}:0")
        with open(os.path.join(self.dir, "count"), encoding="ascii") as f:
            return int(f.read())

    def stopped_cleanly(self, done, what, aborts=False):
        """It went well all the same, or it stopped and said why. aborts: or
        a library gave up at once."""
        if done.returncode == 0:
            self.became["went on"] += 1
        elif done.returncode == 1:
            self.became["stopped"] += 1
            self.assertTrue(done.stderr.strip(), f"{what}: without a word")
        else:
            self.assertTrue(aborts, f"{what}: {done.returncode} {done.stderr}")
            self.assertEqual(done.returncode, -signal.SIGABRT,
                             f"{what}: {done.returncode} {done.stderr}")
            self.became["aborted"] += 1

    def recovers(self, path, what):
        """The next start ends where a calm run does."""
        done = self.worker("run", path)
        self.assertEqual(done.returncode, 0, f"after {what}: {done.stderr}")
        self.assertEqual(self.show(path), self.calm, f"after {what}")

    def nth_fails(self, call, most, number=None, on="", aborts=False):
        """Call n = 1, 2, ... fails; as many of them as `most` says, spread
        over all that a run makes."""
        total = self.calls(call)
        places = range(1, total + 1)
        if total > most:
            places = sorted(self.random.sample(places, most))
        for n in places:
            path = self.new_dir()
            spec = f"{call}:{n}:{number or 0}{':on' if on else ''}"
            done = self.worker("run", path, nth=spec)
            self.stopped_cleanly(done, spec, aborts)
            self.recovers(path, spec)
        tell(f"{call}{on and ' from there on'}: {len(places)} of {total} "
             f"places; " + ", ".join(f"{n} {word}" for word, n in
                                     sorted(self.became.items())))


class SabotageTest(MachineCase):
    """Does `recovers` see what it must?"""

    def test_checkpoint_ahead(self):
        path = self.new_dir()
        done = self.worker("crash", path, sabotage="checkpoint_ahead")
        self.assertEqual(done.returncode, 0)
        with self.assertRaises(AssertionError):
            self.recovers(path, "a crash")

    def test_flipped_rows(self):
        """A bit that RocksDB's checksums cover as it is: ours must see it."""
        path = self.new_dir()
        self.worker("crash", path, sabotage="flipped_row")
        done = self.worker("run", path)
        if done.returncode == 0:
            self.assertIn("STATEDAMAGED", done.stderr)
        else:
            self.assertRegex(done.stderr, "damaged|checksum")
        self.recovers(path, "flipped rows")


class DiskTest(MachineCase):
    def test_full(self):
        """No space left, and it stays so until the restart."""
        self.nth_fails("write", scaled(6, 25, 1000), errno.ENOSPC, "on")

    @by_hand
    def test_write(self):
        self.nth_fails("write", scaled(0, 15, 1000), errno.EIO)

    def test_sync(self):
        self.nth_fails("sync", scaled(3, 10, 1000), errno.EIO)

    @by_hand
    def test_open(self):
        self.nth_fails("open", scaled(0, 15, 1000), errno.EMFILE)

    @by_hand
    def test_rename(self):
        self.nth_fails("rename", scaled(0, 15, 1000), errno.EIO)

    @by_hand
    def test_read(self):
        self.nth_fails("read", scaled(0, 15, 1000), errno.EIO)


class MemoryTest(MachineCase):
    def test_own(self):
        """Calls of the program's own code: it stops and says so. What is so
        small that nothing else would work either is an assert."""
        self.nth_fails("own_malloc", scaled(8, 60, 2000), aborts=True)

    @by_hand
    def test_any(self):
        """Of libraries too. RocksDB is C++: it ends the process by an
        exception that nothing catches. What counts is the next start."""
        self.nth_fails("malloc", scaled(0, 20, 500), aborts=True)


class DamageTest(MachineCase):
    """A store halfway through the log, one byte of its files other than it
    was, or a file cut short."""

    def setUp(self):
        super().setUp()
        self.half = os.path.join(self.dir, "half")
        os.mkdir(self.half)
        self.assertEqual(self.worker("crash", self.half).returncode, 0)
        self.rocksdb = "state/rocksdb"
        self.files = {
            name: os.path.getsize(os.path.join(self.half, self.rocksdb, name))
            for name in sorted(os.listdir(os.path.join(self.half,
                                                       self.rocksdb)))
            # Words for people, and options that are written anew.
            if not name.startswith(("LOG", "OPTIONS", "LOCK"))}
        # RocksDB takes a log in one piece before it is used: empty space.
        self.files = {n: size for n, size in self.files.items() if size}

    def damaged(self, name, change):
        path = self.new_dir()
        shutil.copytree(self.half, path, dirs_exist_ok=True)
        file = os.path.join(path, self.rocksdb, name)
        with open(file, "r+b") as f:
            data = bytearray(f.read())
            change(f, data)
        return path

    def check(self, path, what):
        """Noticed: it stops and says so. Not noticed: no harm, so what comes
        out in the end is what a calm run leaves. Rows that no event asked
        for may lie in a damaged block: who reads them is refused."""
        done = self.worker("run", path)
        self.stopped_cleanly(done, what)
        if done.returncode != 0:
            return
        shown = self.show(path)
        if " rows refused " in shown:
            self.became["unread and refused"] += 1
        self.assertEqual(ROWS.sub("", shown), ROWS.sub("", self.calm), what)
        self.assertIn(ROWS.search(shown)[0],
                      (ROWS.search(self.calm)[0], " rows refused "), what)

    def positions(self, count):
        """(file, offset): every file, the larger the more."""
        total = sum(self.files.values())
        for name, size in self.files.items():
            for _ in range(max(1, round(count * size / total))):
                yield name, self.random.randrange(size)

    def test_bit_flips(self):
        places = list(self.positions(scaled(12, 120, 1000)))
        for name, at in places:
            bit = 1 << self.random.randrange(8)

            def flip(f, data, at=at, bit=bit):
                f.seek(at)
                f.write(bytes([data[at] ^ bit]))

            self.check(self.damaged(name, flip), f"{name}, byte {at}, ^{bit}")
        self.report("bit flips", places)

    def test_cut_short(self):
        places = list(self.positions(scaled(8, 40, 300)))
        for name, at in places:
            self.check(self.damaged(name, lambda f, _, at=at: f.truncate(at)),
                       f"{name} cut at {at}")
        self.report("cuts", places)

    def report(self, what, places):
        tell(f"{len(places)} {what} in {len(self.files)} files: " + ", ".join(
            f"{n} {word}" for word, n in sorted(self.became.items())))
