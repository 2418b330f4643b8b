#!/usr/bin/env python3
"""Our text encoder against `transformers` on PyTorch, by hand.

Goal: a published directory gives the original's ids, hidden states and
logits, and what we save loads there with nothing missing and gives the same.
Method: sentences from MILLRACE_DATA and generated ones through text_driver,
which also saves the model; both directories through AutoModel, or through
AutoModelForSequenceClassification where config.json has labels for it.

usage: text_oracle.py DRIVER DIR [TEXTS]
needs torch and transformers, which no other test does
"""
import os
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import torch
    from transformers import (AutoModel, AutoModelForSequenceClassification,
                              AutoTokenizer)
    from tokenizer_oracle import Maker, real_texts
except ImportError as why:
    print("skipped:", why)
    sys.exit(77)


def ours(driver, folder, saved, texts, width, labels):
    stdin = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    out = subprocess.run([driver, folder, saved], input=stdin,
                         stdout=subprocess.PIPE, check=True).stdout
    at = 0
    for _ in texts:
        count = int(np.frombuffer(out, "<u4", 1, at)[0])
        ids = np.frombuffer(out, "<u4", count, at + 4)
        at += 4 + 4 * count
        hidden = np.frombuffer(out, "<f4", count * width, at)
        at += hidden.nbytes
        logits = np.frombuffer(out, "<f4", labels, at)
        at += logits.nbytes
        yield ids, hidden.reshape(count, width), logits


def main(driver, folder, count):
    rnd = random.Random(3)
    maker = Maker(rnd, real_texts())
    texts = [maker.text() for _ in range(count)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain, info = AutoModel.from_pretrained(folder, output_loading_info=True,
                                            dtype=torch.float32)
    plain.eval()
    labels = 0
    architectures = plain.config.architectures or []
    if any("SequenceClassification" in a for a in architectures):
        labels = plain.config.num_labels
    with tempfile.TemporaryDirectory() as parent:
        saved = os.path.join(parent, "saved")
        found = list(ours(driver, folder, saved, texts,
                          plain.config.hidden_size, labels))
        kind = AutoModelForSequenceClassification if labels else AutoModel
        again, info = kind.from_pretrained(saved, output_loading_info=True,
                                           dtype=torch.float32)
        again.eval()
    missing = [name for name in info["missing_keys"] if "pooler" not in name]
    assert not missing and not info["unexpected_keys"], info
    worst = worst_logits = 0.0
    for text, (ids, hidden, logits) in zip(texts, found):
        theirs = tokenizer(text.decode(errors="replace"), truncation=True,
                           max_length=plain.config.max_position_embeddings,
                           return_tensors="pt")
        assert theirs["input_ids"][0].tolist() == ids.tolist(), text
        with torch.no_grad():
            for model in (plain, again.base_model):
                h = model(**theirs).last_hidden_state[0].numpy()
                worst = max(worst, float(np.abs(h - hidden).max()))
            if labels:
                y = again(**theirs).logits[0].numpy()
                worst_logits = max(worst_logits, float(np.abs(y - logits).max()))
    print(f"{count} texts, {sum(len(f[0]) for f in found)} tokens: hidden states "
          f"differ by at most {worst:.1e}, logits by {worst_logits:.1e}; what was "
          "saved loads and gives the same")
    assert worst < 1e-4 and worst_logits < 1e-4


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1000)
