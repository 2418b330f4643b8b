"""A broker, the program, and what is read back from topics."""

import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

import confluent_kafka
import fastavro
from confluent_kafka import (Consumer, IsolationLevel, Producer,
                             TopicPartition)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BIN = os.environ.get("MILLRACE_BIN", f"{TOP}/.build/release/millrace")
MAKE_MODEL = os.path.join(os.path.dirname(BIN), "random_model_dir")
PORT = int(os.environ.get("MILLRACE_KAFKA_PORT", "19292"))
SERVERS = f"127.0.0.1:{PORT}"
TLS_SERVERS = f"127.0.0.1:{PORT + 2}"
TLS_DIR = os.path.join(os.environ.get("MILLRACE_KAFKA_DIR",
                                      f"{TOP}/.kafka/{PORT}"), "tls")
PARTITIONS = 4
DRAIN_S = 60

# What generate writes, in the roles of a configuration.
ROLES = {
    "input.schema": f"{TOP}/schemas/transaction.avsc",
    "role.user": "user_id",
    "role.item": "item_id",
    "role.time": "time",
    "role.amount": "amount",
    "role.event_id": "event_id",
    "role.type": "type",
}


def broker_up(**settings):
    """settings: GC="-XX:+UseZGC" and the like, of ops/kafka."""
    subprocess.run([f"{TOP}/ops/kafka", "up"], check=True,
                   stdout=subprocess.DEVNULL,
                   env={**os.environ, "MILLRACE_KAFKA_PORT": str(PORT),
                        "MILLRACE_KAFKA_TLS": "1",
                        **{f"MILLRACE_KAFKA_{k}": v
                           for k, v in settings.items()}})


def broker_down():
    subprocess.run([f"{TOP}/ops/kafka", "reset"], check=True,
                   env={**os.environ, "MILLRACE_KAFKA_PORT": str(PORT)})


ADMIN = AdminClient({"bootstrap.servers": SERVERS, "log_level": 0})


def millrace(*args, ok=True):
    """A command that ends; its stdout. ok: it must succeed."""
    done = subprocess.run([BIN, *args], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300)
    if ok and done.returncode != 0:
        raise AssertionError(f"millrace {' '.join(args)}: "
                             f"status {done.returncode}\n{done.stderr}")
    return done


class Message:
    """One message of a topic."""

    def __init__(self, m):
        self.partition, self.offset = m.partition(), m.offset()
        self.key, self.value = m.key(), m.value()
        self.headers = dict(m.headers() or [])
        self.timestamp = m.timestamp()[1]


def read_topic(topic, isolation="read_committed"):
    """All that stands in a topic, in partition and offset order."""
    consumer = Consumer({"bootstrap.servers": SERVERS, "group.id": "reader",
                         "isolation.level": isolation,
                         "enable.auto.commit": False,
                         "enable.partition.eof": True})
    parts = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in parts])
    messages, open_parts = [], set(parts)
    while open_parts:
        m = consumer.poll(10)
        assert m is not None, f"nothing of {topic} for 10 s"
        if m.error():
            assert (m.error().code() ==
                    confluent_kafka.KafkaError._PARTITION_EOF), m.error()
            open_parts.discard(m.partition())
        else:
            messages.append(Message(m))
    consumer.close()
    return sorted(messages, key=lambda m: (m.partition, m.offset))


def schema(name):
    return fastavro.schema.load_schema(f"{TOP}/schemas/{name}.avsc")


def decode(message, parsed):
    """A value behind a Confluent header."""
    assert message.value[0] == 0
    return fastavro.schemaless_reader(io.BytesIO(message.value[5:]), parsed)


class Run:
    """`millrace run` with its log, killed if a test leaves it behind."""

    def __init__(self, case, config, *sets, binary=BIN, env=None):
        self.log = tempfile.TemporaryFile("w+")
        self.port = free_port()
        # Whatever becomes of the test, it dies with it.
        args = ["setpriv", "--pdeathsig", "KILL", binary, "run", "--config",
                config, "--set", f"admin.listen=127.0.0.1:{self.port}"]
        for s in sets:
            args += ["--set", s]
        self.process = subprocess.Popen(args, stderr=self.log,
                                        stdout=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})})
        case.addCleanup(self.kill)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; seconds until it had ended with status 0."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=20)
        assert status == 0, f"status {status}\n{self.text()}"
        return time.monotonic() - started

    def get(self, path):
        try:
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.port}{path}", timeout=5) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        """The sum over workers."""
        return sum(float(line.rsplit(" ", 1)[1])
                   for line in self.get("/metrics")[1].splitlines()
                   if line.startswith((name + " ", name + "{")))

    def wait_ready(self):
        self.wait(lambda: self.get("/readyz")[0] == 200, "ready")

    def wait(self, done, what, seconds=DRAIN_S):
        until = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None:
                raise AssertionError(f"run ended early\n{self.text()}")
            if time.monotonic() > until:
                raise AssertionError(f"not {what} in {seconds} s\n"
                                     f"{self.text()}")
            time.sleep(0.05)

    def wait_drained(self, topic, group, seconds=DRAIN_S):
        """Until the group has committed all that stands in the topic."""
        ends = log_ends(topic)

        parts = [TopicPartition(topic, p) for p in ends]

        def drained():
            done = committed(group, parts)
            return all(done.get(p, 0) >= end for p, end in ends.items())

        self.wait(drained, "drained", seconds)


def keep_all(topic, partitions=PARTITIONS):
    """`topics --create` would have recommendations compacted, and tests
    count every one."""
    make_topic(topic, {"cleanup.policy": "delete"}, partitions)


def make_topic(topic, settings, partitions=PARTITIONS):
    new = NewTopic(topic, partitions, 1, config=settings)
    try:
        ADMIN.create_topics([new])[topic].result(30)
    except confluent_kafka.KafkaException as e:
        if e.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def log_ends(topic, isolation=IsolationLevel.READ_COMMITTED):
    """The offset after the last record of each partition that such a reader
    may see."""
    until = time.monotonic() + DRAIN_S
    while True:
        try:
            parts = ADMIN.list_topics(topic, 10).topics[topic].partitions
            answers = ADMIN.list_offsets(
                {TopicPartition(topic, p): OffsetSpec.latest() for p in parts},
                isolation_level=isolation)
            return {part.partition: answer.result(10).offset
                    for part, answer in answers.items()}
        except confluent_kafka.KafkaException:  # a broker that comes back
            if time.monotonic() > until:
                raise
            time.sleep(1)


def committed(group, parts):
    """The group's offset by partition, of those that it has. With a consumer
    of its own each time: one that asked before the group had a coordinator
    may keep asking the wrong broker, and the admin client's call crashes
    then (confluent-kafka 2.16). What an open transaction holds is not in it,
    and is not waited for."""
    consumer = Consumer({"bootstrap.servers": SERVERS, "group.id": group,
                         "isolation.level": "read_uncommitted",
                         "log_level": 0})
    try:
        return {p.partition: p.offset
                for p in consumer.committed(parts, timeout=5) if p.offset >= 0}
    except confluent_kafka.KafkaException:
        return {}
    finally:
        consumer.close()


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Case(unittest.TestCase):
    """A test with a folder and topics of its own."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-e2e-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.name = f"{self._testMethodName}-{os.getpid()}"
        self.options = {
            **ROLES,
            "kafka.bootstrap.servers": SERVERS,
            "input.topic": f"{self.name}-events",
            "output.fraud.topic": f"{self.name}-fraud",
            "output.recommendations.topic": f"{self.name}-lists",
            "dead.letters.topic": f"{self.name}-dead",
            "group.id": self.name,
            "state.dir": f"{self.dir}/state",
            "model.dir": f"{self.dir}/model",
            "history.events": "32",
            "windows": "1d,7d",
            # Scores of random weights are all alike, and in the middle.
            "reasons.per_second": "0",
        }

    def path(self, name):
        return os.path.join(self.dir, name)

    def config(self, **changes):
        """Writes the configuration; keys with dots as underscores."""
        path = self.path(f"millrace-{len(os.listdir(self.dir))}.conf")
        options = {**self.options,
                   **{k.replace("_", "."): v for k, v in changes.items()}}
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{k} = {v}\n" for k, v in options.items())
        return path

    def make_model(self, ffn=64):
        """Random weights: the scores need only be the same everywhere."""
        sets = [f"{k}={v}" for k, v in self.options.items()]
        subprocess.run([MAKE_MODEL, self.options["model.dir"],
                        "2", "32", "2", str(ffn), "16", "500", *sets], check=True)

    def make_topics(self, config):
        keep_all(self.options["output.recommendations.topic"])
        millrace("topics", "--create", "--partitions", str(PARTITIONS),
                 "--config", config)

    def generate(self, config, events, seed=1, users=300):
        millrace("generate", "--events", str(events), "--users", str(users),
                 "--items", "500", "--seed", str(seed), "--schema-id", "7",
                 "--topic", self.options["input.topic"], "--config", config)

    def start(self, events=0, **changes):
        """Model, topics, events; the configuration's path."""
        schemas = self.path("schemas")
        os.makedirs(schemas, exist_ok=True)
        shutil.copy(ROLES["input.schema"], f"{schemas}/7.avsc")
        self.options["schemas.dir"] = schemas
        config = self.config(**changes)
        self.make_model()
        self.make_topics(config)
        if events:
            self.generate(config, events)
        return config

    def replayed(self, config):
        """Values of both outputs as replay of the input topic makes them."""
        again = [f"output.fraud.topic={self.name}-fraud-replayed",
                 f"output.recommendations.topic={self.name}-lists-replayed",
                 f"dead.letters.topic={self.name}-dead-replayed"]
        sets = [x for s in again for x in ("--set", s)]
        keep_all(f"{self.name}-lists-replayed")
        millrace("topics", "--create", "--partitions", str(PARTITIONS),
                 "--config", config, *sets)
        millrace("replay", "--topic", self.options["input.topic"],
                 "--to-topics", "--config", config, *sets)
        return [read_topic(f"{self.name}-{what}-replayed")
                for what in ("fraud", "lists")]

    def outputs(self):
        """What read-committed readers see in the end. A killed worker's open
        transaction hides what others wrote behind it until the broker times
        it out."""
        topics = [self.options["output.fraud.topic"],
                  self.options["output.recommendations.topic"]]
        until = time.monotonic() + DRAIN_S
        while any(log_ends(t) != log_ends(t, IsolationLevel.READ_UNCOMMITTED)
                  for t in topics):
            assert time.monotonic() < until, "a transaction stays open"
            time.sleep(0.2)
        return [read_topic(t) for t in topics]

    def assert_same_bytes(self, got, expected):
        """The same values, each as often, for every key in order."""
        def by_key(messages):
            keys = {}
            for m in messages:
                keys.setdefault(m.key, []).append(m.value)
            return keys
        self.assertEqual(len(got), len(expected))
        self.assertEqual(by_key(got), by_key(expected))

    def source_counts(self, messages):
        """How often each input (partition, offset) stands in fraud scores."""
        parsed = schema("fraud_score")
        counts = {}
        for m in messages:
            score = decode(m, parsed)
            at = (score["source_partition"], score["source_offset"])
            counts[at] = counts.get(at, 0) + 1
        return counts

    def inputs(self):
        """(partition, offset) of everything in the input topic."""
        return {(m.partition, m.offset)
                for m in read_topic(self.options["input.topic"])}

    def produce(self, messages):
        """(key, value, headers) to the input topic."""
        producer = Producer({"bootstrap.servers": SERVERS,
                             "partitioner": "murmur2_random"})
        for key, value, headers in messages:
            producer.produce(self.options["input.topic"], value, key,
                             headers=headers)
        self.assertEqual(producer.flush(30), 0)
