"""Token ids: equal to the published tokenizers' on a corpus of many scripts, and never wrong in silence."""

import json
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, trainers

from calls import count_calls
from corpus import SEEDS, lines
from nextok.errors import ModelFileError
from nextok.formats.gguf import read_gguf
from nextok.hub import resolve
from nextok.text import load_tokenizer
from nextok.text.from_folder import read_tokenizer
from nextok.text.from_gguf import build_tokenizer
from nextok.text.pretokenizers import WORD_RULES

CORPUS = lines()
SENTENCEPIECE = json.loads((Path(__file__).parent / "fixtures" / "sentencepiece.json").read_text())
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = {"type": "Digits", "individual_digits": True}
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split(pattern):
    """What a published `tokenizer.json` says for vocabularies that were made with tiktoken."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [cut, {**GPT2, "use_regex": False}]


@cache
def vocabulary():
    """A small byte-level vocabulary, trained on the corpus; words are cut coarsely, so that every rule matters."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(r"\S+\s?|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=CONTROLS, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(SEEDS.values(), trainer)
    model = json.loads(trained.to_str())["model"]
    ids = model["vocab"]
    for word in ("HTMLParser", "Ġinternationalization"):  # out of reach of the merges, as some of Llama 3's are
        ids.setdefault(word, len(ids))
    return ids, [tuple(merge) for merge in model["merges"]]


def metadata(pre, **changes):
    """The metadata of a GGUF file with the small vocabulary."""
    ids, merges = vocabulary()
    kinds = [3 if token in CONTROLS else 1 for token in sorted(ids, key=ids.get)]
    values = {
        "model": "gpt2",
        "pre": pre,
        "tokens": sorted(ids, key=ids.get),
        "token_type": kinds,
        "merges": [" ".join(merge) for merge in merges],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_bos_token": False,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def sentencepiece(**changes):
    values = {"model": "llama", **{key: SENTENCEPIECE[key] for key in ("tokens", "scores", "token_type")}, **changes}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


@cache
def small(pre):
    return build_tokenizer(metadata(pre))


@cache
def small_sentencepiece():
    return build_tokenizer(sentencepiece())


def published(ids, merges, steps, normalizer=None, ignore_merges=False, controls=CONTROLS):
    """The oracle: transformers, over the JSON that a model of this kind is published with."""
    from transformers import PreTrainedTokenizerFast

    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {
        "version": "1.0",
        "added_tokens": [{"id": ids[token], "content": token, **special} for token in controls],
        "normalizer": normalizer and {"type": normalizer},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": GPT2,
        "model": {"type": "BPE", "vocab": ids, "merges": merges, "ignore_merges": ignore_merges},
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(content)))


def of_class(name):
    """The oracle: a tokenizer class of transformers."""
    import transformers

    ids, merges = vocabulary()
    kind = getattr(transformers, name)
    return kind(vocab=ids, merges=merges, bos_token=CONTROLS[1], eos_token=CONTROLS[2], unk_token=CONTROLS[0])


ORACLES = {
    "gpt-2": lambda: of_class("GPT2Tokenizer"),
    "default": lambda: of_class("GPT2Tokenizer"),
    "qwen2": lambda: of_class("Qwen2Tokenizer"),
    "qwen35": lambda: of_class("Qwen3_5Tokenizer"),
    "smollm": lambda: published(*vocabulary(), [DIGITS, GPT2]),
    "command-r": lambda: published(*vocabulary(), [DIGITS, GPT2], normalizer="NFC"),
    "llama-bpe": lambda: published(*vocabulary(), split(LLAMA3), ignore_merges=True),
    "dbrx": lambda: published(*vocabulary(), split(LLAMA3)),
    "gpt-4o": lambda: published(*vocabulary(), split(GPT4O)),
}


@pytest.fixture(scope="module")
def default_file():
    return resolve("smollm2").path


@pytest.fixture(scope="module")
def default(default_file):
    return load_tokenizer(default_file)


def differing(tokenizer, oracle):
    return [text for text in CORPUS if tokenizer.encode(text) != oracle.encode(text, add_special_tokens=False)]


def test_the_corpus_is_large():
    assert len(set(CORPUS)) >= 2000


@pytest.mark.model
def test_the_default_model_cuts_text_as_published(default, default_file):
    values = read_gguf(default_file).metadata
    ids = {token: i for i, token in enumerate(values["tokenizer.ggml.tokens"])}
    merges = [merge.split(" ") for merge in values["tokenizer.ggml.merges"]]
    oracle = published(ids, merges, [DIGITS, GPT2], controls=list(ids)[:17])
    assert differing(default, oracle) == []
    for text in CORPUS:
        assert default.decode(default.encode(text), special=True) == text
        assert default.decode(default.encode(text, special=False)) == text


@pytest.mark.model
def test_the_default_model_is_built_in_few_calls_a_token_and_knows_its_ends(default, default_file):
    values = read_gguf(default_file).metadata
    assert count_calls(lambda: build_tokenizer(values)) < 10 * 49152
    assert (default.vocab_size, default.bos_id, default.eos_id) == (49152, 1, 2)
    assert default.eos_ids == {0, 2}
    assert default.encode("<|im_start|>user\nHi 12<|im_end|>") == [1, 4093, 198, 26843, 216, 33, 34, 2]


@pytest.mark.parametrize("pre", ORACLES)
def test_byte_level_ids_equal_those_of_transformers(pre):
    assert differing(build_tokenizer(metadata(pre)), ORACLES[pre]()) == []


def test_the_corpus_tells_the_rules_apart():
    rules = {rule: pre for pre, rule in WORD_RULES.items()}
    ids = {json.dumps([small(pre).encode(text) for text in CORPUS]): pre for pre in rules.values()}
    assert len(ids) == len(rules)


@pytest.mark.parametrize("pre", sorted(WORD_RULES))
def test_byte_level_text_comes_back(pre):
    import unicodedata

    tokenizer = small(pre)
    for text in CORPUS[::3]:
        kept = unicodedata.normalize("NFC", text) if WORD_RULES[pre].composed else text
        assert tokenizer.decode(tokenizer.encode(text, special=False)) == kept


def test_sentencepiece_ids_equal_those_of_sentencepiece():
    """The fixture is a model trained on the corpus, and a checksum of the ids that sentencepiece gives each line."""
    tokenizer = small_sentencepiece()
    for text, expected in zip(CORPUS, SENTENCEPIECE["checksums"], strict=True):
        ids = tokenizer.encode(text, special=False)
        assert zlib.crc32(json.dumps(ids).encode()) == expected, text
        assert tokenizer.decode(ids) == text.replace("▁", " ")


def test_sentencepiece_puts_bos_and_a_space_in_front():
    tokenizer = small_sentencepiece()
    ids = tokenizer.encode("the")
    assert ids[0] == tokenizer.bos_id == 1
    assert tokenizer.decode_continuation(ids) == " the"
    assert tokenizer.decode(ids) == "the"
    assert tokenizer.decode(ids, special=True) == "<s>the"
    assert tokenizer.encode("<s>the") == ids  # written already, so not added again
    assert tokenizer.encode("the", special=False) == tokenizer.encode_chat("the") == ids[1:]
    assert tokenizer.encode_chat("<s>the</s>")[-1] == 2
    bare = build_tokenizer(sentencepiece(add_space_prefix=False, add_bos_token=False, add_eos_token=True))
    assert bare.decode_continuation(bare.encode("the")) == "the"
    assert bare.encode("the")[-1] == 2


def test_special_tokens_in_a_text_are_text_if_asked():
    tokenizer = small("smollm")
    assert tokenizer.encode("a<|im_end|>")[-1] == 2
    literal = tokenizer.encode("a<|im_end|>", special=False)
    assert tokenizer.control_ids.isdisjoint(literal)
    assert tokenizer.decode(literal) == "a<|im_end|>"
    assert tokenizer.decode([2]) == ""
    assert tokenizer.decode([2], special=True) == tokenizer.spell(2) == "<|im_end|>"
    assert tokenizer.token_bytes[2] == b""


def test_user_defined_tokens_are_text_and_always_recognised():
    values = metadata("smollm")
    values["tokenizer.ggml.tokens"] = [*values["tokenizer.ggml.tokens"], "<think> é"]
    values["tokenizer.ggml.token_type"] = [*values["tokenizer.ggml.token_type"], 4]
    tokenizer = build_tokenizer(values)
    last = tokenizer.vocab_size - 1
    assert tokenizer.encode("<think> é") == tokenizer.encode("<think> é", special=False) == [last]
    assert tokenizer.decode([last]) == "<think> é"


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(text):
    for tokenizer in (small_sentencepiece(), small("llama-bpe")):
        assert tokenizer.decode(tokenizer.encode(text, special=False)) == text.replace("▁", " ")


@pytest.mark.parametrize("token", [-1, 10**9])
def test_ids_out_of_range_are_named(token):
    tokenizer = small("smollm")
    for call in (tokenizer.spell, lambda token: tokenizer.decode([token])):
        with pytest.raises(ValueError, match=rf"token id {token} .* from 0 to {tokenizer.vocab_size - 1}"):
            call(token)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match=r"lone surrogate.* at index 2"):
        small("smollm").encode("ab\ud800")


def test_vocabularies_are_compared_token_by_token():
    one = small("smollm")
    assert one.same_vocabulary(build_tokenizer(metadata("gpt-2", eos_token_id=0)))
    assert not one.same_vocabulary(build_tokenizer(sentencepiece()))


def test_ends_of_a_text():
    def ends(names, declared):
        values = metadata("smollm", eos_token_id=declared)
        tokens = [*values["tokenizer.ggml.tokens"], *names]
        kinds = [*values["tokenizer.ggml.token_type"], *[3] * len(names)]
        values |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
        tokenizer = build_tokenizer(values)
        return {tokenizer.spell(token) for token in tokenizer.eos_ids}

    assert ends([], 1) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert "<|eot_id|>" in ends(["<|eot_id|>"], 2)
    assert "<|end|>" in ends(["<|end|>"], 2)
    assert "<|end|>" not in ends(["<|end|>", "<|return|>", "<|call|>"], 2)


HOSTILE = {
    "no family": {"model": None},
    "another family": {"model": "bert"},
    "family of a wrong type": {"model": 3},
    "unknown words": {"pre": "new\nkind"},
    "words of a wrong type": {"pre": ["smollm"]},
    "no tokens": {"tokens": None},
    "empty tokens": {"tokens": []},
    "tokens of a wrong type": {"tokens": [1, 2]},
    "tokens that are one string": {"tokens": "abc"},
    "tokens twice": {"tokens": ["a", "b", "a"], "token_type": [1, 1, 1], "merges": ["a b"]},
    "a lone surrogate": {"tokens": ["\udc80", "b"], "token_type": [1, 1], "merges": ["a b"]},
    "a very long token": {"tokens": ["a" * 10**6], "token_type": [1], "merges": ["a b"]},
    "too few kinds": {"token_type": [1]},
    "kinds of a wrong type": {"token_type": ["a"]},
    "no merges": {"merges": None},
    "merges of a wrong type": {"merges": [("a", "b")]},
    "merges of one": {"merges": ["ab"]},
    "merges of three": {"merges": ["a b c"]},
    "merges of unknown tokens": {"merges": ["a \nzzzzz"]},
    "merges into unknown tokens": {"merges": ["<|im_start|> <|im_end|>"]},
    "bos out of range": {"bos_token_id": 10**6},
    "eos below range": {"eos_token_id": -1},
    "eot out of range": {"eot_token_id": 2**32 - 1},
    "eos of a wrong type": {"eos_token_id": "2"},
    "flag of a wrong type": {"add_bos_token": 1},
    "bos without an id": {"add_bos_token": True, "bos_token_id": None},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_damaged_vocabularies_are_refused_in_one_line(changes):
    with pytest.raises(ModelFileError) as caught:
        build_tokenizer(metadata(**{"pre": "smollm", **changes}))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("scores", [None, [], [0.0], [float("nan")] * len(SENTENCEPIECE["tokens"]), ["a"], [1]])
def test_damaged_scores_are_refused(scores):
    with pytest.raises(ModelFileError, match="scores"):
        build_tokenizer(sentencepiece(scores=scores))


def test_an_unknown_rule_is_named_with_those_that_are_known():
    with pytest.raises(ModelFileError, match=r"'new'.*llama-bpe.*qwen2.*smollm"):
        build_tokenizer(metadata("new"))


def test_a_damaged_template_is_refused():
    with pytest.raises(ModelFileError, match="chat_template must be a string"):
        build_tokenizer(metadata("smollm") | {"tokenizer.chat_template": 3})


def test_importing_is_cheap():
    code = "import sys, nextok.text; print(any(name in sys.modules for name in ('tokenizers', 'jinja2')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "llama-bpe"])
def test_a_folder_gives_the_ids_that_transformers_gives(pre, tmp_path):
    from transformers import AutoTokenizer

    ORACLES[pre]().save_pretrained(tmp_path)
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert differing(tokenizer, oracle) == []
    assert tokenizer.same_vocabulary(build_tokenizer(metadata(pre)))
    for text in CORPUS[::5]:
        ids = tokenizer.encode(text, special=False)
        assert tokenizer.control_ids.isdisjoint(ids)
        assert tokenizer.decode(ids) == oracle.decode(ids, clean_up_tokenization_spaces=False)


def sentencepiece_folder(folder):
    """Llama's published files, with the small vocabulary."""
    gguf = build_tokenizer(sentencepiece())
    model = json.loads(gguf.encoder.to_str())["model"]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = ("<unk>", "<s>", "</s>")
    content = {
        "added_tokens": [{"id": i, "content": name, **special} for i, name in enumerate(names)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": model,
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
    }
    write(folder, "tokenizer.json", content)
    write(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    return gguf


def write(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_sentencepiece_folder_equals_its_gguf(tmp_path):
    gguf = sentencepiece_folder(tmp_path)
    folder = read_tokenizer(tmp_path)
    assert folder.same_vocabulary(gguf)
    for key in ("bos_id", "eos_id", "eos_ids", "before", "after", "control_ids", "drops_first_space"):
        assert getattr(folder, key) == getattr(gguf, key), key
    for text in CORPUS[::3]:
        assert folder.encode(text) == gguf.encode(text)
        assert folder.encode(text, special=False) == gguf.encode(text, special=False)


def test_a_folder_declares_ends_and_templates(tmp_path):
    sentencepiece_folder(tmp_path)
    assert read_tokenizer(tmp_path).chat_template is None
    write(tmp_path, "config.json", {"eos_token_id": 5})
    assert read_tokenizer(tmp_path).eos_ids == {2, 5}
    write(tmp_path, "generation_config.json", {"eos_token_id": [2, 7]})
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "chat_template": named}
    write(tmp_path, "tokenizer_config.json", settings)
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.eos_ids == {2, 7}
    assert tokenizer.before == ()
    assert tokenizer.chat_template == "d"
    write(tmp_path, "chat_template.jinja", "j")
    assert read_tokenizer(tmp_path).chat_template == "j"


DAMAGED_FILES = {
    "tokenizer.json": ["", "{", "[]", '{"model": 3}', "\x00", '{"version": "1.0", "model": {"type": "Unigram"}}'],
    "tokenizer_config.json": ["{", "[]", "[" * 10**5, '{"chat_template": 3}', '{"chat_template": {}}'],
    "generation_config.json": ["{", '{"eos_token_id": "2"}', '{"eos_token_id": [true]}', '{"eos_token_id": 99999}'],
}


@pytest.mark.parametrize(
    "change",
    [
        ("model", "continuing_subword_prefix", "é"),  # aborts the library
        ("model", "dropout", 0.5),
        ("model", "type", "Unigram"),
        ("decoder", "decoders", [3]),
        ("decoder", "type", "WordPiece"),
        ("post_processor", "special_tokens", {}),
        ("normalizer", "normalizers", "x"),
    ],
)
def test_damaged_parts_of_a_vocabulary_are_refused(change, tmp_path):
    sentencepiece_folder(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    part, key, value = change
    content[part] = {**content[part], key: value}
    content[part].pop("decoders", None) if value == "WordPiece" else None
    write(tmp_path, "tokenizer.json", content)
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: it"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, all_ in DAMAGED_FILES.items() for each in all_])
def test_damaged_folders_are_refused_in_one_line(name, content, tmp_path):
    sentencepiece_folder(tmp_path)
    write(tmp_path, name, content)
    with pytest.raises(ModelFileError) as caught:
        read_tokenizer(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_a_vocabulary_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path)
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFileError, match="nextok reads byte-level"):
        read_tokenizer(tmp_path)
