"""Vocabularies that mean harm: refused in one line, before the library runs any of their steps."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from gguf_writer import array, gguf
from nextok.errors import ModelFileError
from nextok.text import from_folder, load_tokenizer
from nextok.text.pretokenizers import WORD_RULES

GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}
ENDLESS = {"Regex": "(a|a)*b"}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}
BOS = {"SpecialToken": {"id": "c", "type_id": 0}}


def template(single, ids=(2,)):
    named = {"c": {"id": "c", "ids": list(ids), "tokens": ["c"] * len(ids)}}
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": named}


def sequence(inner, *steps):
    return {"type": "Sequence", inner: list(steps)}


def folder(path, **parts):
    """A folder with a tiny byte-level vocabulary, some parts of which are replaced."""
    tokenizer = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate("abc")}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    content = json.loads(tokenizer.to_str())
    content["model"] |= parts.pop("model", {})
    (path / "tokenizer.json").write_text(json.dumps(content | parts))
    return path


HOSTILE = {
    "growing": ("normalizer", GROWING, "makes text longer"),
    "growing nine times": ("normalizer", sequence("normalizers", *[GROWING] * 9), "at most 8 steps"),
    "growing inside": ("normalizer", sequence("normalizers", sequence("normalizers", GROWING)), "'Sequence'"),
    "prepending twice": ("normalizer", sequence("normalizers", *[{"type": "Prepend", "prepend": "a"}] * 2), "twice"),
    "prepending much": ("normalizer", {"type": "Prepend", "prepend": "a" * 10**6}, "a short text"),
    "endless": ("normalizer", {**GROWING, "pattern": ENDLESS}, r"\(a\|a\)\*b.* a short constant text"),
    "replacing nothing": ("normalizer", {**GROWING, "pattern": {"String": ""}}, "a short constant text"),
    "a step without a kind": ("normalizer", {"pattern": ENDLESS, "content": "a"}, "has None"),
    "another normalizer": ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AA=="}, "Precompiled.*NFC"),
    "an endless split": ("pre_tokenizer", SPLIT, r"\(a\+\)\+\$.*a well-known family"),
    "doubling": ("pre_tokenizer", sequence("pretokenizers", *[BYTE_LEVEL] * 8), "ByteLevel twice"),
    "a wrong flag": ("pre_tokenizer", {**BYTE_LEVEL, "use_regex": [1]}, "true or false"),
    "a new setting": ("pre_tokenizer", {**BYTE_LEVEL, "regex": "(a+)+$"}, "'regex', which nextok does not know"),
    "a list for a kind": ("pre_tokenizer", {"type": ["ByteLevel"]}, "ByteLevel, Digits"),
    "the text twice": ("post_processor", template([TEXT, TEXT]), "one of them the text"),
    "many pieces": ("post_processor", template([TEXT, *[BOS] * 10**4]), "at most 16 pieces"),
    "many ids": ("post_processor", template([TEXT, BOS], [0] * 10**4), "at most 16 ids"),
    "an id out of range": ("post_processor", template([BOS, TEXT], [99]), "adds id 99, but ids go from 0 to 2"),
    "an endless decoder": (
        "decoder",
        sequence("decoders", {"type": "ByteLevel"}, {**GROWING, "pattern": ENDLESS}),
        "its decoder has Replace",
    ),
}


@pytest.mark.parametrize(("part", "value", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_step_that_could_do_harm_is_refused(part, value, reason, tmp_path):
    with pytest.raises(ModelFileError, match=reason) as caught:
        load_tokenizer(folder(tmp_path, **{part: value}))
    assert str(caught.value).startswith(str(tmp_path / "tokenizer.json: it"))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_steps_of_published_vocabularies_are_read(tmp_path):
    patterns = {pattern for rule in WORD_RULES.values() for pattern in rule.patterns}
    for pattern in patterns:
        steps = sequence("pretokenizers", {**SPLIT, "pattern": {"Regex": pattern}}, BYTE_LEVEL)
        assert load_tokenizer(folder(tmp_path, pre_tokenizer=steps)).encode("abc") == [0, 1, 2]
    around = sequence("processors", BYTE_LEVEL, template([BOS, TEXT]))
    assert load_tokenizer(folder(tmp_path, post_processor=around)).before == (2,)
    none = sequence("normalizers")  # DeepSeek's
    assert load_tokenizer(folder(tmp_path, normalizer=none, post_processor=None)).encode("a") == [0]


def test_a_part_given_twice_is_read_as_it_was_checked(tmp_path):
    file = folder(tmp_path) / "tokenizer.json"
    file.write_text(file.read_text()[:-1] + f', "normalizer": {json.dumps(GROWING)}, "normalizer": null}}')
    assert load_tokenizer(tmp_path).encode("a") == [0]


class Failing:
    """An encoder in the library's manner."""

    def __init__(self, error):
        self.error = error

    def encode(self, text, add_special_tokens):
        raise self.error


class PanicException(BaseException):
    """What the library raises when its Rust code panics."""


@pytest.mark.parametrize("error", [PanicException("regex\nfailed"), Exception("no unk")])
def test_a_failure_of_the_library_over_a_text_is_told_in_one_line(error, tmp_path):
    tokenizer = load_tokenizer(folder(tmp_path))
    object.__setattr__(tokenizer, "encoder", Failing(error))
    with pytest.raises(ModelFileError, match=r"fails on this text.*download") as caught:
        tokenizer.encode("a")
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_token_that_is_none_fails_in_one_line(tmp_path):
    tokenizer = load_tokenizer(
        folder(tmp_path, model={"unk_token": "<no such>"}, post_processor=None),
    )
    with pytest.raises(ModelFileError, match="fails on this text"):
        tokenizer.encode("d")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_an_interrupt_is_passed_on(error, tmp_path):
    tokenizer = load_tokenizer(folder(tmp_path))
    object.__setattr__(tokenizer, "encoder", Failing(error))
    with pytest.raises(type(error)):
        tokenizer.encode("a")


def test_the_path_stands_once_in_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(from_folder, "MOST_VOCABULARY_BYTES", 10)
    with pytest.raises(ModelFileError, match="more than the 10 bytes") as caught:
        load_tokenizer(folder(tmp_path))
    assert str(caught.value).count("tokenizer.json") == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"token_type": array("i32", [1])}, "has 2 tokens, but 1 token types"),
        ({"merges": ["x"]}, "merge 'x' is not two tokens"),
        ({}, "merges join 'a' and 'b' into what is no token"),
        ({"tokens": ["a", "b", "ab"], "eos_token_id": 99999}, "eos_token_id is 99999, but ids go from 0 to 2"),
    ],
)
def test_a_damaged_gguf_vocabulary_is_told_with_the_file_and_the_way_out(changes, fault, tmp_path):
    values = {"model": "gpt2", "tokens": ["a", "b"], "merges": ["a b"], **changes}
    (tmp_path / "m.gguf").write_bytes(gguf({f"tokenizer.ggml.{key}": value for key, value in values.items()}, {}))
    with pytest.raises(ModelFileError, match=rf"^m\.gguf: .*{fault}.*: the file is damaged, download it again$"):
        load_tokenizer(tmp_path / "m.gguf")
