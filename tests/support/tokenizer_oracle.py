#!/usr/bin/env python3
"""Our WordPiece against the PyPI package `tokenizers`.

Goal: the same ids for any bytes, cut at any length.
Method: texts of many kinds, from a seed: every code point (fewer planes with
few texts); random ones, alone, in words and among accents; emoji; real reviews where
MILLRACE_DATA has them; words of about 100 code points; special tokens in the
text; bytes that are not UTF-8, which Python reads with errors="replace".
Vocabularies are made from the texts, as tokenizer.json and as vocab.txt, with
each kind of normalisation; a published directory is taken as it is. Our side
is tokenizer_driver.

usage: tokenizer_oracle.py DRIVER [TEXTS [SEED [DIR]]]
100000 by hand for a change of the tokenizer, DIR a published model
"""
import csv
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile

try:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing, TemplateProcessing
except ImportError:
    print("skipped: no tokenizers for", sys.executable)
    sys.exit(77)

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BLOCKS = [(0x20, 0x7f), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530),
          (0x590, 0x700), (0x900, 0xe00), (0x1100, 0x1200), (0x1ab0, 0x1c00),
          (0x1e00, 0x2070), (0x2e80, 0x3100), (0x4e00, 0x4f00),
          (0xa640, 0xa830), (0xac00, 0xad00), (0xf900, 0xfb50),
          (0xfe00, 0x10000), (0x10000, 0x12000), (0x1d100, 0x1d200),
          (0x1f300, 0x1fb00), (0x20000, 0x20100), (0x0, 0xd800),
          (0xe000, 0x110000)]
EMOJI = ["\U0001f600", "\U0001f44d\U0001f3fd", "\u2764\ufe0f",
         "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
         "1\ufe0f\u20e3", "\u200d", "\ufe0f"]
ORDERED = "\u302e\u302f\u1b44\u1baa\ua953\U0001d165\U0001d16d\U0001d16e" \
          "\U000111c0\u0301\u0327\u0334\u034f\u09be"
BROKEN = [b"\xff", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80",
          b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\x80\x80", b"\xf8\x88",
          b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80"]


def real_texts():
    found = []
    folder = os.environ.get("MILLRACE_DATA", "")
    reviews = os.path.join(folder, "stream_amazon_text",
                           "musical_instruments_5core_2014.csv.xz")
    phrases = os.path.join(folder, "sent_sst2", "train.tsv.xz")
    if os.path.exists(reviews):
        with lzma.open(reviews, "rt", encoding="utf-8", newline="") as f:
            found += [row["text"] for row in csv.DictReader(f)]
    if os.path.exists(phrases):
        with lzma.open(phrases, "rt", encoding="utf-8") as f:
            found += [line.split("\t")[0] for line in f][1:]
    return found


class Maker:
    def __init__(self, rnd, real):
        self.rnd = rnd
        self.real = real

    def char(self):
        first, last = self.rnd.choice(BLOCKS)
        return chr(self.rnd.randrange(first, last))

    def word(self, most):
        alphabet = "etaoinshr\u00e9\u00c9\u00df\u0130I\u03a3\ud55c\u0e01"
        if self.rnd.random() < 0.3:
            return "".join(self.char() for _ in range(self.rnd.randint(1, most)))
        return "".join(self.rnd.choice(alphabet)
                       for _ in range(self.rnd.randint(1, most)))

    def plain(self):
        parts = []
        for _ in range(self.rnd.randint(0, 12)):
            parts.append(self.rnd.choice([
                lambda: self.word(8), lambda: self.word(8), self.char,
                lambda: self.rnd.choice(EMOJI),
                lambda: "a" + "".join(self.rnd.choices(ORDERED, k=6)),
                lambda: self.rnd.choice(SPECIALS + ["[ MASK]", "[mask]"]),
                lambda: self.word(4) * self.rnd.randint(20, 60),
                lambda: "x" * self.rnd.randint(98, 103)])())
        return self.rnd.choice(["", " "]).join(parts)

    def text(self):
        if self.real and self.rnd.random() < 0.4:
            text = self.rnd.choice(self.real).encode()
        else:
            text = self.plain().encode()
        if self.rnd.random() < 0.1:  # broken, or cut anywhere
            at = self.rnd.randint(0, len(text))
            text = text[:at] + self.rnd.choice(BROKEN) + text[at:]
            text = text[:self.rnd.randint(0, len(text))]
        return text


def code_points(all_of_them, step=256):
    """Without the planes of ideographs and the private ones, but their ends."""
    codes = [c for c in range(0x110000) if not 0xd800 <= c < 0xe000 and
             (all_of_them or c < 0x20200 or c & 0xffff < 0x200)]
    for i in range(0, len(codes), step):
        yield " ".join(f"e{chr(c)}n" for c in codes[i:i + step]).encode()


def vocabulary(rnd, texts, options, whole):
    """Pieces of the texts after normalisation: short ones, whole words, and
    for most characters a piece, so that few words are [UNK]; whole: every character."""
    tokens = dict.fromkeys(SPECIALS)
    normal = BertNormalizer(**options)
    for text in rnd.sample(texts, min(len(texts), 150)):
        text = text.decode(errors="replace")
        for word, _ in BertPreTokenizer().pre_tokenize_str(
                normal.normalize_str(text)):
            for c in word:
                if rnd.random() < 0.95:
                    tokens[c] = tokens["##" + c] = None
            a, b = sorted(rnd.choices(range(len(word) + 1), k=2))
            if a < b:
                tokens[("##" if a else "") + word[a:b]] = None
    for c in "en":
        tokens[c] = tokens["##" + c] = None
    for code in range(0x20000 if whole else 0):  # scripts with case or marks
        if not 0x3400 <= code < 0xa000 and not 0xac00 <= code < 0xf900 and \
                not chr(code).isspace():
            tokens["##" + chr(code)] = None
    return {token: i for i, token in enumerate(tokens)}


def made_tokenizer(rnd, texts, options, folder, as_json):
    vocab = vocabulary(rnd, texts, options, not as_json)
    made = Tokenizer(WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(**options)
    made.pre_tokenizer = BertPreTokenizer()
    made.add_special_tokens(SPECIALS)
    ends = [("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])]
    made.post_processor = BertProcessing(*ends) if rnd.random() < 0.5 else \
        TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    if as_json:
        made.save(os.path.join(folder, "tokenizer.json"))
        return made
    with open(os.path.join(folder, "vocab.txt"), "w", newline="",
              encoding="utf-8") as f:
        f.writelines(token + "\n" for token in vocab)
    with open(os.path.join(folder, "tokenizer_config.json"), "w",
              encoding="utf-8") as f:
        json.dump({"do_lower_case": options["lowercase"],
                   "strip_accents": options["strip_accents"],
                   "tokenize_chinese_chars": options["handle_chinese_chars"]},
                  f)
    return made


def ours(driver, folder, texts, most):
    stdin = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    out = subprocess.run([driver, folder, str(most)], input=stdin,
                         stdout=subprocess.PIPE, check=True).stdout
    at, found = 0, []
    while at < len(out):
        cut, count = struct.unpack_from("<?I", out, at)
        found.append((cut, list(struct.unpack_from(f"<{count}I", out, at + 5))))
        at += 5 + 4 * count
    return found


def compare(driver, folder, theirs, texts, most):
    theirs.no_padding()
    theirs.no_truncation()
    strings = [t.decode(errors="replace") for t in texts]
    whole = [x.ids for x in theirs.encode_batch_fast(strings)]
    theirs.enable_truncation(most)
    expected = [(False, x) for x in whole]
    long = [i for i, x in enumerate(whole) if len(x) > most]
    for i, x in zip(long, theirs.encode_batch_fast([strings[i] for i in long])):
        expected[i] = (True, x.ids)
    found = ours(driver, folder, texts, most)
    assert len(found) == len(expected), (len(found), len(expected))
    unknown = sum(x.count(1) for x in whole)
    for text, a, b in zip(texts, found, expected):
        if a != b:
            print(f"{text!r}\nours   {a}\ntheirs {b}\nin {folder}")
            sys.exit(1)
    return sum(map(len, whole)), unknown


def run(driver, count, seed, published):
    rnd = random.Random(seed)
    maker = Maker(rnd, real_texts())
    texts = [maker.text() for _ in range(count)]
    texts += list(code_points(count > 10000)) + [b""]
    tokens = unknown = 0
    if published:
        theirs = Tokenizer.from_file(os.path.join(published, "tokenizer.json"))
        for most in (512, 16):
            tokens += compare(driver, published, theirs, texts, most)[0]
    for i in range(8):
        lower = i % 2 == 0
        options = {"clean_text": True, "handle_chinese_chars": i != 3,
                   "strip_accents": [None, None, None, None, False, True, True,
                                     False][i], "lowercase": lower}
        as_json = i >= 2
        if as_json:
            options["clean_text"] = i != 6
        with tempfile.TemporaryDirectory() as folder:
            theirs = made_tokenizer(rnd, texts[:count], options, folder, as_json)
            some = rnd.sample(texts[:count], count // 4) if as_json else texts
            a, b = compare(driver, folder, theirs, some,
                           rnd.randint(2, 1000) if as_json else 4096)
            tokens, unknown = tokens + a, unknown + b
    print(f"{len(texts)} texts, {tokens} ids, {unknown} unknown: equal;",
          "with" if maker.real else "without", "real texts")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100000,
        int(sys.argv[3]) if len(sys.argv) > 3 else 1,
        sys.argv[4] if len(sys.argv) > 4 else None)
