"""TLS and a password to a real broker; what is secret is seen nowhere."""

import glob
import json
import os
import resource
import signal
import subprocess
import unittest
import urllib.error
import urllib.request

import harness
from harness import BIN, Run, millrace

PLANTED = {
    "admin.token": "planted-admin-token-0123",
    "registry.password": "planted-registry-4567",
    "kafka.ssl.key.password": "planted-key-password-89",
}


class SecretsTest(harness.Case):
    def setUp(self):
        super().setUp()
        with open(f"{harness.TLS_DIR}/password", encoding="utf-8") as f:
            self.secrets = {**PLANTED, "kafka.sasl.password": f.read().strip()}

    def secure(self):
        """Every secret from a file, but one from the environment."""
        for key, value in self.secrets.items():
            path = self.path(key)
            with open(path, "w", encoding="utf-8") as f:
                f.write(value + "\n")
            self.options[key] = f"${{file:{path}}}"
        os.environ["PLANTED_REGISTRY"] = PLANTED["registry.password"]
        self.addCleanup(os.environ.pop, "PLANTED_REGISTRY")
        self.options.update({
            "registry.password": "${env:PLANTED_REGISTRY}",
            "registry.url": "http://127.0.0.1:1",
            "registry.user": "reader",
            "kafka.bootstrap.servers": harness.TLS_SERVERS,
            "kafka.security.protocol": "SASL_SSL",
            "kafka.sasl.mechanisms": "PLAIN",
            "kafka.sasl.username": "millrace",
            "kafka.ssl.ca.location": f"{harness.TLS_DIR}/ca.pem",
        })

    def make_model(self):
        """Its tool reads no secrets."""
        secret = {k: self.options.pop(k) for k in list(self.options)
                  if k in self.secrets or k.startswith("registry.")}
        super().make_model()
        self.options.update(secret)

    def assert_clean(self, what, text):
        for key, value in self.secrets.items():
            self.assertNotIn(value, text, f"{key} in {what}")

    def post(self, run, token):
        request = urllib.request.Request(
            f"http://127.0.0.1:{run.port}/reload", data=b"", method="POST",
            headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def check_commands(self, config):
        commands = [["config", "print"], ["config", "print", "--json"],
                    ["config", "check"], ["topics"],
                    ["dlq", "list"]]
        commands += [["config", "explain", key] for key in self.secrets]
        for command in commands:
            done = subprocess.run([BIN, *command, "--config", config],
                                  capture_output=True, text=True, check=False)
            self.assert_clean(" ".join(command), done.stdout + done.stderr)
        shown = json.loads(millrace("config", "print", "--json", "--config",
                                    config).stdout)
        masked = {p["key"]: p["value"] for p in shown}
        for key in self.secrets:
            self.assertEqual(masked[key], "********")

    def test_password_over_tls_tells_nobody(self):
        self.secure()
        config = self.start(1000, log_level="debug", kafka_debug="all")
        run = Run(self, config)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        self.assertEqual(self.post(run, "planted-and-wrong-0123")[0], 401)
        status, said = self.post(run, self.secrets["admin.token"])
        self.assertEqual(status, 200, said)
        self.assert_clean("answer", said)
        for page in ("/metrics", "/livez", "/readyz", "/nowhere"):
            self.assert_clean(page, run.get(page)[1])
        with open(f"/proc/{run.process.pid}/cmdline", encoding="utf-8") as f:
            self.assert_clean("cmdline", f.read())
        run.stop()
        self.assertIn("SASL", run.text()) # librdkafka did tell all it knows
        self.assert_clean("log", run.text())
        self.assertEqual(len(self.outputs()[0]), 1000)
        self.check_commands(config)

        # A certificate that nobody signed, a password that is wrong.
        for key, value in (("kafka.ssl.ca.location", "/dev/null"),
                           ("kafka.sasl.password", "planted-and-wrong-0123")):
            done = subprocess.run(
                [BIN, "topics", "--config", config, "--set", f"{key}={value}"],
                capture_output=True, text=True, timeout=60, check=False)
            self.assert_clean(key, done.stdout + done.stderr)
            self.assertNotIn("planted-and-wrong", done.stdout + done.stderr)

    def cores(self, config, *sets):
        """Core files that a crash of run leaves."""
        run = Run(self, config, *sets)
        run.wait_ready()
        run.process.send_signal(signal.SIGABRT)
        self.assertEqual(run.process.wait(), -signal.SIGABRT)
        return glob.glob(self.path("cwd/core*"))

    def test_a_crash_leaves_no_core(self):
        self.options["kafka.bootstrap.servers"] = harness.SERVERS
        config = self.start()
        limits = resource.getrlimit(resource.RLIMIT_CORE)
        if limits[1] == 0:
            self.skipTest("no core files on this machine")
        resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, limits)
        # Registers alone: enough to see that there is a file.
        with open("/proc/self/coredump_filter", "r+", encoding="utf-8") as f:
            before = f.read().strip()
            f.seek(0)
            f.write("0")
            self.addCleanup(self.restore_filter, before)
        os.mkdir(self.path("cwd"))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.path("cwd"))
        self.assertEqual(self.cores(config), [])
        if not self.cores(config, "core.dumps=true"):
            self.skipTest("core files go elsewhere on this machine")

    def restore_filter(self, value):
        with open("/proc/self/coredump_filter", "w", encoding="utf-8") as f:
            f.write(f"0x{value}")


if __name__ == "__main__":
    unittest.main()
