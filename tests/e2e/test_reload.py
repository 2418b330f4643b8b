"""A running service gets another model and policy: by POST, by SIGHUP."""

import json
import os
import re
import shutil
import signal
import subprocess
import unittest
import urllib.error
import urllib.request

import fastavro

import harness
from harness import Run, decode, millrace, schema

TOKEN = "e2e-0123456789abcdef"


class ReloadTest(harness.Case):
    def setUp(self):
        super().setUp()
        token = self.path("token")
        with open(token, "w", encoding="utf-8") as f:
            f.write(TOKEN + "\n")
        self.options["admin.token"] = f"${{file:{token}}}"

    def other_model(self):
        """A second model of the same shape for the configuration."""
        sets = [f"{k}={v}" for k, v in self.options.items()
                if k != "admin.token"]
        made = self.path("model-b")
        subprocess.run([harness.MAKE_MODEL, made, "1", "32", "2", "64", "16",
                        "500", *sets], check=True)
        return made

    def make_model(self):
        token = self.options.pop("admin.token")
        super().make_model()
        self.options["admin.token"] = token

    def post(self, run, path, token=TOKEN):
        request = urllib.request.Request(
            f"http://127.0.0.1:{run.port}{path}", data=b"", method="POST",
            headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                return r.status, json.loads(r.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def edit(self, config, **changes):
        """The same file with other values, as an operator would."""
        with open(config, encoding="utf-8") as f:
            text = f.read()
        for key, value in changes.items():
            key = key.replace("_", ".")
            text = re.sub(rf"^{re.escape(key)} =.*\n", "", text, flags=re.M)
            text += f"{key} = {value}\n"
        with open(config, "w", encoding="utf-8") as f:
            f.write(text)

    def replay_scores(self, config, model, name):
        """(partition, offset) -> score, of the whole topic by one model."""
        out = self.path(f"{name}.avro")
        millrace("replay", "--topic", self.options["input.topic"],
                 "--fraud-to", out, "--config", config, "--set",
                 f"model.dir={model}")
        with open(out, "rb") as f:
            return {(s["source_partition"], s["source_offset"]): s
                    for s in fastavro.reader(f)}

    def test_outputs_are_of_the_model_they_name(self):
        events = 6000
        config = self.start(events, workers="2", commit_interval="50ms")
        second = self.other_model()
        run = Run(self, config)
        run.wait(lambda: run.metric("millrace_events_scored_total") > 1000,
                 "scoring")
        self.assertEqual(self.post(run, "/reload", TOKEN + "x")[0], 401)

        self.edit(config, model_dir=second)
        status, said = self.post(run, "/reload")
        self.assertEqual(status, 200, said)
        self.assertEqual(said["result"]["changed"], ["model.dir"])
        hash_b = said["result"]["model"]
        self.assertIn(f'hash="{hash_b}"', run.get("/metrics")[1])
        self.generate(config, events, seed=2)

        # What only a start reads is refused by name, and nothing changes.
        self.edit(config, workers="1", fraud_threshold="0.25")
        status, said = self.post(run, "/reload")
        self.assertEqual(status, 400, said)
        self.assertIn("workers;", said["error"])
        self.edit(config, workers="2")
        run.process.send_signal(signal.SIGHUP)
        run.wait(lambda: run.metric("millrace_reloads_total") == 2, "reloaded")
        self.assertEqual(run.metric("millrace_reload_failures_total"), 1)
        self.generate(config, events, seed=3)
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        self.assertNotIn(TOKEN, run.text())

        by_model = {}
        for name, model in (("a", self.options["model.dir"]), ("b", second)):
            scores = self.replay_scores(config, model, name)
            by_model[next(iter(scores.values()))["model_hash"]] = scores
        self.assertEqual(len(by_model), 2)
        seen = {}
        parsed = schema("fraud_score")
        for m in self.outputs()[0]:
            score = decode(m, parsed)
            at = (score["source_partition"], score["source_offset"])
            expected = by_model[score["model_hash"]][at]
            for field in ("probability", "anomaly"):
                self.assertEqual(score[field], expected[field])
            key = (score["model_hash"] == hash_b, score["threshold"])
            seen.setdefault(key, set()).add(at)
        self.assertEqual(set(seen), {(False, 0.5), (True, 0.5), (True, 0.25)})
        self.assertGreater(len(seen[(False, 0.5)]), 1000)
        self.assertEqual(sum(len(s) for s in seen.values()), 3 * events)

    def test_what_fails_leaves_the_old(self):
        config = self.start(2000)
        run = Run(self, config)
        run.wait_ready()
        broken = self.path("broken")
        shutil.copytree(self.options["model.dir"], broken)
        weights = os.path.join(broken, "model.safetensors")
        os.truncate(weights, os.path.getsize(weights) - 100)
        self.edit(config, model_dir=broken)
        status, said = self.post(run, "/reload")
        self.assertEqual(status, 400, said)
        self.assertIn("broken", said["error"])
        self.edit(config, fraud_threshold="2")
        status, said = self.post(run, "/reload")
        self.assertEqual(status, 400, said)
        self.assertIn("fraud.threshold", said["error"])
        run.wait_drained(self.options["input.topic"], self.options["group.id"])
        run.stop()
        self.assertEqual(len(self.outputs()[0]), 2000)


if __name__ == "__main__":
    unittest.main()
