"""route, items and users through topics of a real broker, killed on the way:
every event once, and with one partition the scores of a replay that chains
them in memory; labels reach the rows, and each score says up to which."""

import json
import shutil
import time

import harness
from harness import (Run, decode, log_ends, make_topic, millrace, read_topic,
                     schema)

EVENTS = 3000


class StagesTest(harness.Case):
    def set_up_stages(self, partitions, **changes):
        """Topics and a model; the configuration's path."""
        topics = {"items.topic": "items", "enriched.topic": "enriched",
                  "labels.topic": "labels", "labels.items.topic": "li",
                  "labels.users.topic": "lu"}
        self.options.update({k: f"{self.name}-{v}" for k, v in topics.items()})
        self.options.update({"stages": "route,items,users",
                             "windows.item": "1d,7d", "windows.labels": "7d",
                             "labels.delay": "1h",
                             "recommend.when": "never"})
        self.options.update(changes)
        for name in ("input.topic", "output.recommendations.topic"):
            make_topic(self.options[name], {"cleanup.policy": "delete"},
                       partitions)
        config = self.start()
        shutil.copy(f"{harness.TOP}/schemas/label.avsc",
                    f"{self.options['schemas.dir']}/8.avsc")
        return config

    def make_topics(self, config):
        millrace("topics", "--create", "--config", config)

    def drain(self, run, events):
        """Until so many scores are committed. The topics between end in
        markers of transactions, which no group commits."""
        def scored():
            time.sleep(0.3)
            return len(read_topic(self.options["output.fraud.topic"])) >= events
        run.wait(scored, "scored")

    def scores(self, topic):
        parsed = schema("fraud_score")
        return [decode(m, parsed) for m in read_topic(topic)]

    def test_three_stages_killed_equal_the_chain(self):
        config = self.set_up_stages(1, **{
            "changelog.topic": f"{self.name}-rows",
            "changelog.items.topic": f"{self.name}-item-rows",
            "state.checkpoint.age": "300ms"})
        self.generate(config, EVENTS)
        for end in (Run.kill, Run.stop):
            run = Run(self, config)
            run.wait(lambda: run.metric("millrace_events_scored_total") > 300,
                     "scoring")
            end(run)
        # Another host, whose rows come from the changelogs or the logs.
        run = Run(self, config, f"state.dir={self.path('state2')}")
        self.drain(run, EVENTS)
        for name in ("changelog.topic", "changelog.items.topic"):
            self.assertTrue(read_topic(self.options[name]))
        user = read_topic(self.options["enriched.topic"])[0].key.decode()
        millrace("forget", user, "--yes", "--config", config,
                 "--set", f"state.dir={self.path('state2')}")
        run.stop()
        live = self.scores(self.options["output.fraud.topic"])
        again = f"{self.name}-again"
        make_topic(again, {}, 1)
        millrace("replay", "--topic", self.options["input.topic"],
                 "--to-topics", "--config", config,
                 "--set", f"output.fraud.topic={again}")
        self.assertEqual(len(live), EVENTS)
        pick = ("event_id", "user_id", "probability", "anomaly")
        self.assertEqual([[s[k] for k in pick] for s in live],
                         [[s[k] for k in pick] for s in self.scores(again)])
        millrace("replay", "--topic", self.options["enriched.topic"],
                 "--verify-topics", "--config", config)
        for stage, partitions in (("route", 1), ("items", 1), ("users", 1)):
            done = json.loads(millrace(
                "reset", "--stage", stage, "--yes", "--json", "--config",
                config).stdout)
            self.assertEqual(len(done["partitions"]), partitions)
            self.assertEqual(len(done["label_partitions"]), partitions)

    def test_labels_reach_rows_and_scores(self):
        config = self.set_up_stages(2)
        millrace("generate", "--events", str(EVENTS), "--users", "50",
                 "--items", "40", "--seed", "1", "--schema-id", "7",
                 "--topic", self.options["input.topic"], "--config", config,
                 "--labels-topic", self.options["labels.topic"],
                 "--label-schema-id", "8")
        run = Run(self, config)
        self.drain(run, EVENTS)
        labels = sum(log_ends(self.options["labels.topic"]).values())
        run.wait(lambda: run.metric("millrace_labels_total") >= 3 * labels,
                 "labelled")
        self.assertGreater(labels, 10)
        self.generate(config, 100, seed=2)
        self.drain(run, EVENTS + 100)
        run.stop()
        scores = self.scores(self.options["output.fraud.topic"])
        self.assertEqual(len(scores), EVENTS + 100)
        self.assertGreater(max(s["user_label_offset"] for s in scores), 0)
        self.assertGreater(max(s["item_label_offset"] for s in scores), 0)
        # Followed label by label, by what each score says that it knew.
        millrace("replay", "--topic", self.options["enriched.topic"],
                 "--verify-topics", "--config", config)
        dead = sum(log_ends(self.options["dead.letters.topic"]).values())
        self.assertEqual(dead, 0)
