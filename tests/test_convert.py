"""Converted models: the same numbers and the same token ids, for nextok, transformers and the gguf package."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import nextok as nt
from corpus import lines
from folder_writer import LLAMA3
from folder_writer import config as hf_config
from happy_folder import write_book, write_checkpoint, write_export, write_tokenizer
from happy_llm import random_transformer
from nextok.cli import main
from nextok.errors import ModelFileError, NextokError
from nextok.formats import open_gguf, open_model, read_gguf
from nextok.formats.conversion import convert_tensors
from nextok.formats.quantize import quantize_checkpoint
from nextok.formats.tensor import Checkpoint
from nextok.formats.write_gguf import write_gguf
from nextok.models.base import Feed
from nextok.models.llama_numpy import LlamaNumpy
from nextok.text import load_tokenizer
from nextok.text.from_gguf import build_tokenizer
from nextok.text.pretokenizers import WORD_RULES
from nextok.text.to_folder import write_tokenizer as to_folder
from nextok.text.to_gguf import build_gguf_settings
from nextok.tools.convert import write_model
from test_tokenizer import metadata, small_sentencepiece

TOKENS = [7, 319, 0, 42, 42, 5, 100, 63, 1]
CLOSE = 1e-4
pytestmark = pytest.mark.filterwarnings("ignore:.*does not say how many heads")  # see test_loading.py
ROWS = 320


@pytest.fixture(scope="module")
def model():
    return random_transformer(1, vocab_size=ROWS, dim=64, n_layers=2, n_heads=16, n_kv_heads=8)


@pytest.fixture(scope="module")
def book(model, tmp_path_factory):
    return write_book(tmp_path_factory.mktemp("book"), model)


def logits(checkpoint):
    model = LlamaNumpy(checkpoint if isinstance(checkpoint, Checkpoint) else open_model(checkpoint))
    return model.logits(model.forward([Feed.from_run(model.open(), TOKENS)]))


def family(path, model_type, tied=False, **changes):
    """A small model of the family in a Hugging Face folder, with the tokenizer of the book."""
    write_tokenizer(path, ROWS)
    settings = hf_config(
        model_type, hidden_size=64, head_dim=16, vocab_size=ROWS, tie_word_embeddings=tied, **changes
    )
    (path / "config.json").write_text(json.dumps(settings))
    normal = np.random.default_rng(4).standard_normal
    biased = ("q_proj", "k_proj", "v_proj") if model_type == "qwen2" else ()
    biased = ("q_proj", "k_proj", "v_proj", "o_proj") if changes.get("attention_bias") else biased
    arrays = {"model.embed_tokens.weight": 0.4 * normal((ROWS, 64)), "model.norm.weight": 1 + 0.2 * normal(64)}
    if not tied:
        arrays["lm_head.weight"] = 0.3 * normal((ROWS, 64))
    shapes = {"q_proj": (64, 64), "k_proj": (32, 64), "v_proj": (32, 64), "o_proj": (64, 64)}
    shapes = {f"self_attn.{name}": shape for name, shape in shapes.items()}
    shapes |= {"mlp.gate_proj": (64, 64), "mlp.up_proj": (64, 64), "mlp.down_proj": (64, 64)}
    shapes |= {"input_layernorm": (64,), "post_attention_layernorm": (64,)}
    if model_type == "qwen3":
        shapes |= {"self_attn.q_norm": (16,), "self_attn.k_norm": (16,)}
    for layer in range(2):
        for name, shape in shapes.items():
            scale = 0.3 if len(shape) == 2 else 0.2
            arrays[f"model.layers.{layer}.{name}.weight"] = scale * normal(shape) + (len(shape) == 1)
            if name.endswith(biased):
                arrays[f"model.layers.{layer}.{name}.bias"] = normal(shape[0])
    save_file({name: array.astype(np.float32) for name, array in arrays.items()}, path / "model.safetensors")
    return path


FAMILY = {
    "llama": {},
    "llama, tied": {"tied": True},
    "llama, linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama, Llama 3": {"rope_scaling": LLAMA3},
    "llama, biases": {"attention_bias": True},
    "mistral": {"sliding_window": 256},
    "qwen2": {},
    "qwen3": {},
}


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["f32", "f16", "q8_0", "q4_1"])
def test_a_gguf_file_has_the_numbers_that_the_model_has_in_memory(book, tmp_path, to):
    original = open_model(book)
    done = write_model(book, tmp_path / "m.gguf", to=to)
    found = open_gguf(done.path)
    if to in ("q8_0", "q4_1"):
        expected = quantize_checkpoint(original, to)
    else:
        dtype = {"f32": np.float32, "f16": np.float16}[to]
        halved = {
            name: t.to_float32().astype(dtype if len(t.shape) > 1 else np.float32)
            for name, t in original.tensors.items()
        }
        expected = None
    for name, tensor in found.tensors.items():
        values = expected.tensors[name].to_float32() if expected else halved[name].astype(np.float32)
        np.testing.assert_array_equal(tensor.to_float32(), values)
        assert tensor.kind == ("F32" if len(tensor.shape) == 1 else to.upper())
    if expected:
        np.testing.assert_array_equal(logits(found), logits(expected))
    assert found.config == replace(original.config, norm_epsilon=float(np.float32(original.config.norm_epsilon)))
    assert set(found.tensors) == set(original.tensors)
    assert done.bytes == done.path.stat().st_size


@pytest.mark.parametrize("case", FAMILY)
def test_every_architecture_keeps_its_logits_in_gguf(case, tmp_path):
    source = family(tmp_path / "m", case.partition(",")[0], **FAMILY[case])
    expected = logits(source)
    assert np.abs(logits(write_model(source, tmp_path / "m.gguf", to="f32").path) - expected).max() < CLOSE
    for to in ("q8_0", "q4_1"):
        found = logits(write_model(source, tmp_path / f"{to}.gguf", to=to).path)
        assert np.abs(found - logits(quantize_checkpoint(open_model(source), to))).max() < CLOSE


def theirs(folder, tokens=TOKENS):
    """The logits of transformers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_a_happy_llm_model_from_its_folder(model, book, tmp_path):
    expected = model.every_logit(torch.tensor([TOKENS]))[0].numpy()
    folder = write_model(book, tmp_path / "m").path
    assert np.abs(theirs(folder) - expected).max() < CLOSE
    assert np.abs(logits(folder) - expected).max() < CLOSE
    assert np.abs(theirs(write_model(book, tmp_path / "half", to="f16").path) - expected).max() < 0.02
    again = write_model(folder, tmp_path / "again.gguf", to="f32").path  # and back: rows are turned twice
    for name, tensor in open_model(book).tensors.items():
        np.testing.assert_array_equal(open_gguf(again).tensors[name].to_float32(), tensor.to_float32())


@pytest.mark.filterwarnings("ignore")
def test_a_control_rows_that_are_not_turned_are_found_out(model, book, tmp_path):
    expected = model.every_logit(torch.tensor([TOKENS]))[0].numpy()
    folder = write_model(book, tmp_path / "m").path
    arrays = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    arrays[name] = open_model(book).tensors["blk.0.attn_q.weight"].to_float32()
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    assert np.abs(theirs(folder) - expected).max() > 100 * CLOSE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [case for case in FAMILY if case != "llama, Llama 3"])
def test_transformers_reads_the_other_architectures_too(case, tmp_path):
    source = family(tmp_path / "m", case.partition(",")[0], **FAMILY[case])
    expected = theirs(source)
    middle = write_model(source, tmp_path / "m.gguf", to="f32").path
    for origin in (source, middle):
        folder = write_model(origin, tmp_path / "out", force=True).path
        assert np.abs(theirs(folder) - expected).max() < CLOSE
        assert np.abs(logits(folder) - expected).max() < CLOSE


def test_the_gguf_package_reads_the_file(book, tmp_path):
    path = write_model(book, tmp_path / "m.gguf", to="q8_0").path
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["general.name"] == "pretrain"
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert fields["llama.rope.dimension_count"] == 4
    assert fields["llama.vocab_size"] == ROWS == len(fields["tokenizer.ggml.tokens"])
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.token_type"][:6] == [3] * 5 + [1]
    ids = ("bos_token_id", "eos_token_id", "padding_token_id", "unknown_token_id")
    assert [fields[f"tokenizer.ggml.{key}"] for key in ids] == [3, 4, 4, 0]
    assert not fields["tokenizer.ggml.add_bos_token"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.0.attn_k.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert tensors["blk.1.ffn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    values = gguf.dequantize(tensors["blk.0.ffn_up.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(values, open_gguf(path).tensors["blk.0.ffn_up.weight"].to_float32())


def test_rows_that_are_no_whole_blocks_stay_floating(tmp_path):
    model = random_transformer(2, vocab_size=ROWS, dim=80, n_heads=4, n_kv_heads=2, hidden_dim=96)
    path = write_checkpoint(tmp_path / "m.pth", model, {"n_heads": 4, "n_kv_heads": 2})
    write_tokenizer(tmp_path, ROWS)
    found = open_gguf(write_model(path, tmp_path / "m.gguf", to="q4_1").path)
    assert (found.tensors["blk.0.ffn_up.weight"].kind, found.tensors["blk.0.ffn_down.weight"].kind) == ("F32", "Q4_1")


# --- token ids ------------------------------------------------------------------------------------------------------


def same_ids(one, other):
    for line in lines(400):
        for special in (True, False):
            assert one.encode(line, special) == other.encode(line, special), line


def test_texts_have_the_same_ids_in_every_kind_of_file(book, tmp_path):
    expected = load_tokenizer(book)
    done = write_model(book, tmp_path / "m.gguf")
    folder = write_model(done.path, tmp_path / "from gguf").path
    other = write_model(book, tmp_path / "m").path
    assert "normalised" in done.note
    for place in (done.path, folder, other):
        found = load_tokenizer(place)
        same_ids(expected, found)
        assert found.encode("ﬁＡ ½") == expected.encode("fiA 1⁄2")  # NFKC
        assert found.same_vocabulary(expected)
        assert (found.eos_ids, found.chat_template) == (expected.eos_ids, expected.chat_template)


@pytest.mark.parametrize("name", sorted(WORD_RULES))
def test_every_way_of_cutting_words_survives_a_folder(name, tmp_path):
    original = build_tokenizer(metadata(name, add_bos_token=True))
    to_folder(tmp_path, Path("m.gguf"), original)
    read = load_tokenizer(tmp_path)
    assert read.before == original.before == (1,)
    same_ids(original, read)
    settings = build_gguf_settings(tmp_path, read, read.vocab_size + 3)
    assert WORD_RULES[settings["tokenizer.ggml.pre"]].patterns == WORD_RULES[name].patterns
    assert "tokenizer.huggingface.json" not in settings
    again = build_tokenizer(settings)
    same_ids(original, again)
    assert again.names[-3:] == tuple(f"[PAD{read.vocab_size + i}]" for i in range(3))


def test_a_padded_model_keeps_its_rows_and_its_ids(tmp_path):
    folder = write_export(tmp_path / "m", random_transformer(vocab_size=ROWS + 64))
    write_tokenizer(folder, ROWS)
    path = write_model(folder, tmp_path / "m.gguf", to="f32").path
    np.testing.assert_array_equal(logits(path), logits(folder))
    found = load_tokenizer(path)
    assert found.vocab_size == ROWS + 64
    same_ids(found, load_tokenizer(folder))
    write_model(path, tmp_path / "again.gguf", to="f32")
    assert load_tokenizer(tmp_path / "again.gguf").names == found.names


def test_another_tokenizer_may_be_named(model, tmp_path):
    path = write_checkpoint(tmp_path / "alone" / "m.pth", model)
    place = write_tokenizer(tmp_path / "other", ROWS)
    with pytest.raises(ModelFileError, match=r"no tokenizer\.json in"):
        write_model(path, tmp_path / "m.gguf")
    for out in ("m.gguf", "m"):
        found = load_tokenizer(write_model(path, tmp_path / out, tokenizer=place).path)
        assert found.same_vocabulary(load_tokenizer(place))
    with pytest.raises(ModelFileError, match=r"49152 ids, but the model only 320 rows"):
        write_model(path, tmp_path / "n.gguf", tokenizer="smollm2")


def changed(folder, **changes):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(content[key], dict) and "type" not in value:
            content[key] |= value
        else:
            content[key] = value
    path.write_text(json.dumps(content))


DIGITS = {"type": "Digits", "individual_digits": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPACED = {"id": 4, "content": "<|im_end|>", "single_word": False, "lstrip": True, "rstrip": False}
SPACED |= {"normalized": False, "special": True}
CANNOT_SAY = {
    "a prefix space": ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "no name for the step .*ByteLevel"),
    "groups of digits": ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}}, "step .*Digits"),
    "no words": ({"pre_tokenizer": {**BYTES, "use_regex": False}}, "cuts words twice, or not at all"),
    "no cutting": ({"pre_tokenizer": None}, "no name for the step"),
    "spaces around a token": ({"added_tokens": [SPACED]}, "takes the spaces around it"),
    "whole words, by GPT-2's rule": ({"model": {"ignore_merges": True}}, "no name for its pre_tokenizer"),
    "SentencePiece": ({"decoder": {"type": "Metaspace", "replacement": "▁"}}, "SentencePiece"),
}


@pytest.mark.parametrize("case", CANNOT_SAY)
def test_a_tokenizer_that_gguf_cannot_say_is_refused_by_name(case, model, tmp_path):
    changes, message = CANNOT_SAY[case]
    source = write_export(tmp_path / "m", model)
    changed(source, **changes)
    with pytest.raises(ModelFileError, match=message):
        write_model(source, tmp_path / "m.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_a_sentencepiece_gguf_is_no_folder(tmp_path):
    with pytest.raises(ModelFileError, match="SentencePiece"):
        to_folder(tmp_path, Path("m.gguf"), small_sentencepiece())


def test_a_text_that_would_have_other_ids_stops_the_conversion(book, tmp_path, monkeypatch):
    """A control: where the normaliser is lost, as without the whole tokenizer.json, nothing is written."""
    lossy = build_gguf_settings

    def without(*arguments):
        return {key: value for key, value in lossy(*arguments).items() if "huggingface" not in key}

    monkeypatch.setattr("nextok.tools.convert.build_gguf_settings", without)
    with pytest.raises(ModelFileError, match="would have other tokens in the new file"):
        write_model(book, tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    ["", "[", "[" * 100_000, "{}", "[]", '{"normalizer": {"type": "Precompiled"}}', '{"normalizer": [1]}', 7],
)
def test_a_hostile_normaliser_in_a_gguf_file_is_refused(value):
    with pytest.raises(ModelFileError, match=r"tokenizer\.huggingface\.json: "):
        build_tokenizer(metadata("gpt-2") | {"tokenizer.huggingface.json": value})


# --- files ----------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_asked(book, tmp_path):
    for out in (tmp_path / "m.gguf", tmp_path / "m"):
        write_model(book, out, to="f32")
        before = logits(out)
        with pytest.raises(ValueError, match="is there already: --force"):
            write_model(book, out)
        write_model(book, out, to="f16", force=True)
        assert not np.array_equal(logits(out), before)
    (tmp_path / "m" / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'diary\.txt', which no conversion wrote"):
        write_model(book, tmp_path / "m", force=True)
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "m.gguf")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name in ("folder.gguf", "file", "link.gguf", "link", "nowhere"):
        with pytest.raises(ValueError, match="of another kind"):
            write_model(book, tmp_path / name, force=True)
    with pytest.raises(ValueError, match="make it first"):
        write_model(book, tmp_path / "no" / "m.gguf")
    left = ["file", "folder.gguf", "link", "link.gguf", "m", "m.gguf", "nowhere"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_model_is_not_written_over_itself(book, tmp_path):
    path = write_model(book, tmp_path / "m.gguf").path
    folder = write_model(book, tmp_path / "m").path
    (tmp_path / "link").symlink_to(folder)
    for source, out in [(path, path), (folder, folder), (folder, folder / "m.gguf"), (folder, tmp_path / "link")]:
        with pytest.raises(ValueError, match="is the model itself, or within it"):
            write_model(source, out, force=True)
    with pytest.raises(ValueError, match="is the model itself"):
        write_model(folder / ".." / "m", tmp_path, force=True)


def test_a_tokenizer_is_not_overwritten_by_what_it_was_named_for(model, book, tmp_path):
    vocabulary = write_model(book, tmp_path / "v.gguf").path
    tokenizer = write_tokenizer(tmp_path / "tokenizer_k", ROWS)
    lone = write_checkpoint(tmp_path / "m.pth", model)
    for out, named in [(vocabulary, vocabulary), (tokenizer, tokenizer), (tokenizer, None)]:
        with pytest.raises(ValueError, match="is the tokenizer itself, or holds it"):
            write_model(lone, out, tokenizer=named, force=True)
    write_model(lone, tmp_path / "w.gguf", tokenizer=vocabulary)


def test_names_that_promise_another_kind_of_file_are_refused(book, tmp_path):
    for name in ("m.safetensors", "m.pth", "m.bin", "m.PT"):
        with pytest.raises(ValueError, match=r"a folder.* or a name that ends in \.gguf"):
            write_model(book, tmp_path / name)
    assert write_model(book, tmp_path / "m.GGUF").path.is_file()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(ValueError, match="of another kind"):
        write_model(book, tmp_path / "round", force=True)
    with pytest.raises(ValueError, match="make it first"):
        write_model(book, tmp_path / "round" / "m.gguf")
    longest = "m" * 250 + ".gguf"
    assert write_model(book, tmp_path / longest).path.name == longest
    with pytest.raises(NextokError, match=r"cannot be written.*too long"):
        write_model(book, tmp_path / f"m{longest}")


@pytest.mark.parametrize("name", ["m.gguf", "m"])
def test_what_appears_meanwhile_is_kept(book, tmp_path, monkeypatch, name):
    out = tmp_path / name

    def meanwhile(checkpoint, to, interleaved):
        other.mkdir(exist_ok=True)
        (other / "diary.txt").write_text("mine")
        return convert_tensors(checkpoint, to, interleaved)

    for module in ("write_gguf", "write_folder"):
        monkeypatch.setattr(f"nextok.formats.{module}.convert_tensors", meanwhile)
    other = out
    with pytest.raises(ValueError, match="is there already"):
        write_model(book, out)
    assert [path.name for path in tmp_path.rglob("*")] == [name, "diary.txt"]
    other = tmp_path / "n"
    write_model(book, other.with_name("o"))
    if name == "m":
        with pytest.raises(ValueError, match=r"holds 'diary\.txt'"):
            write_model(book, other, force=True)
        assert (other / "diary.txt").read_text() == "mine"


def test_a_converted_file_has_the_permissions_of_any_new_file(book, tmp_path):
    folder = write_model(book, tmp_path / "m").path
    (tmp_path / "usual").write_text("")
    usual = (tmp_path / "usual").stat().st_mode
    for path in (*folder.iterdir(), write_model(book, tmp_path / "m.gguf").path):
        assert path.stat().st_mode == usual


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("name", ["m.gguf", "m"])
def test_a_full_disk_is_said_and_leaves_nothing(book, tmp_path, name):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(NextokError, match=r"cannot be written .*: make room, or choose another place"):
            write_model(book, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [1 << 40, -(1 << 40), (1 << 63) + 1, [1 << 31, 2], [1 << 63], 1e300, [1e300], [True]]
)
def test_numbers_of_all_widths_pass_from_gguf_to_gguf(value, tmp_path):
    """A file may say more of its tokens than nextok knows."""
    checkpoint = open_model(write_model(family(tmp_path / "m", "llama"), tmp_path / "m.gguf").path)
    write_gguf(tmp_path / "n.gguf", checkpoint, "n", {"tokenizer.ggml.strange": value}, "f16")
    assert read_gguf(tmp_path / "n.gguf").metadata["tokenizer.ggml.strange"] == value


@pytest.mark.parametrize("out", ["m.gguf", "m"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, MemoryError])
def test_an_interruption_leaves_what_was_there(book, tmp_path, monkeypatch, out, failure):
    out = tmp_path / out
    write_model(book, out, to="f32")
    before = logits(out)

    def half(checkpoint, to, interleaved):
        for number, tensor in enumerate(convert_tensors(checkpoint, to, interleaved)):
            if number == 7:
                raise failure
            yield tensor

    for module in ("write_gguf", "write_folder"):
        monkeypatch.setattr(f"nextok.formats.{module}.convert_tensors", half)
    told = NextokError if failure is OSError else failure
    with pytest.raises(told):
        write_model(book, out, to="f16", force=True)
    np.testing.assert_array_equal(logits(out), before)
    with pytest.raises(told):
        write_model(book, out.with_name("new" + out.suffix))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_options_that_do_not_fit_are_refused(book, tmp_path):
    with pytest.raises(ValueError, match="--to must be one of f32, f16, q8_0, q4_1, got 'q5_k'"):
        write_model(book, tmp_path / "m.gguf", to="q5_k")
    with pytest.raises(ValueError, match=r"--to q8_0 is for GGUF files: give an OUT that ends in \.gguf"):
        write_model(book, tmp_path / "m", to="q8_0")
    path = write_model(book, tmp_path / "m.gguf", to="q4_1").path
    with pytest.raises(ValueError, match="in Q4_1 already: leave --to out"):
        write_model(path, tmp_path / "n.gguf", to="q8_0")
    np.testing.assert_array_equal(logits(write_model(path, tmp_path / "n.gguf", to="q4_1").path), logits(path))


def test_what_a_target_has_no_room_for_is_refused(book, tmp_path):
    source = family(tmp_path / "m", "llama", rope_scaling=LLAMA3)
    with pytest.raises(ModelFileError, match=r"divided by a table.*convert to GGUF"):
        write_model(source, tmp_path / "out")
    model = random_transformer(3, vocab_size=ROWS)
    model.layers[0].feed_forward.w1.weight.data[0, 0] = 70_000
    path = write_book(tmp_path / "large", model, {"n_heads": 4, "n_kv_heads": 2})
    with pytest.raises(ModelFileError, match=r"blk\.0\.ffn_gate\.weight' has numbers beyond those of float16.*f32"):
        write_model(path, tmp_path / "m.gguf")
    write_model(path, tmp_path / "m.gguf", to="f32")


def test_without_the_package_the_way_to_it_is_said(book, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(NextokError, match=r'pip install "nextok\[gguf\]"'):
        write_model(book, tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())
    write_model(book, tmp_path / "m")


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_says_where_and_what(book, tmp_path, capfd):
    out = tmp_path / "m.gguf"
    assert main(["models", "convert", str(book), str(out), "--to", "q8_0"]) == 0
    said, told = capfd.readouterr()
    assert said == f"{out}\n"
    assert told.startswith("pretrain: 20 tensors as q8_0, 0.1 MB; GGUF cannot express")
    assert told.count("\n") == 1
    assert main(["models", "convert", str(book), str(out)]) == 2
    assert "--force" in capfd.readouterr().err
    assert main(["models", "convert", str(book), str(out), "--force", "--quiet"]) == 0
    assert capfd.readouterr() == (f"{out}\n", "")
    assert main(["models", "convert", str(tmp_path / "no.pth"), str(out), "--force"]) == 3
    assert main(["tokenize", "--model", str(out), "--ids", "ﬁ"]) == 0
    ids = capfd.readouterr().out
    assert main(["tokenize", "--tokenizer", str(book.parents[1] / "tokenizer_k"), "--ids", "ﬁ"]) == 0
    assert capfd.readouterr().out == ids


@pytest.mark.model
def test_the_default_model_keeps_its_text_as_a_folder_and_back(smollm2, tmp_path):
    folder = write_model("smollm2", tmp_path / "m", to="f16").path
    back = write_model(folder, tmp_path / "m.gguf").path
    prompt = "Why is the sky blue?"
    same_ids(smollm2.tokenizer, load_tokenizer(back))
    expected = smollm2.chat(prompt, max_tokens=4).text
    assert nt.load(back, backend="numpy").chat(prompt, max_tokens=4).text == expected
