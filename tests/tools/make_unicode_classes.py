#!/usr/bin/env python3
"""Writes model/unicode_classes.inc: what BERT's normalisation does with every
code point, found out by asking the PyPI package `tokenizers` about each.

Published tokenizers mean the Unicode versions that this package was built
with, one for classes, one for decompositions and one for case. A library of
another version would give other ids for young code points.

usage: make_unicode_classes.py > model/unicode_classes.inc
"""
import tokenizers
import unicodedata
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

OFF = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False,
           lowercase=False)
CLEAN = BertNormalizer(**{**OFF, "clean_text": True})
CHINESE = BertNormalizer(**{**OFF, "handle_chinese_chars": True})
STRIP = BertNormalizer(**{**OFF, "strip_accents": True})
WORDS = BertPreTokenizer()
NFD = NFD()
OVERLAY = "\u0334"  # combining class 1: anything higher moves behind it


def classes(c):
    found = []
    if CLEAN.normalize_str("a" + c + "b") == "ab":
        found.append("UNICODE_REMOVED")
    pieces = WORDS.pre_tokenize_str("a" + c + "b")
    if len(pieces) == 2:
        found.append("UNICODE_SPACE")
    if len(pieces) == 3:
        found.append("UNICODE_PUNCTUATION")
    if CHINESE.normalize_str(c) == " " + c + " ":
        found.append("UNICODE_CHINESE")
    nfd = NFD.normalize_str(c)
    if nfd == c and STRIP.normalize_str(c) == "":
        found.append("UNICODE_MARK")
    elif unicodedata.combining(c) and nfd == c and \
            NFD.normalize_str(c + OVERLAY) == OVERLAY + c:
        found.append("UNICODE_ORDERED")
    return " | ".join(found)


def main():
    ranges = []
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        found = classes(chr(code))
        if not found:
            continue
        if ranges and ranges[-1][1:] == [code - 1, found]:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, found])
    print("/* Made by tests/tools/make_unicode_classes.py with tokenizers",
          tokenizers.__version__ + ". */")
    for first, last, found in ranges:
        print(f"{{0x{first:x}, 0x{last:x}, {found}}},")


main()
