"""Happy-LLM's files: whatever they are called and wherever they lie, the numbers are those of the book's model."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import nextok as nt
from folder_writer import folder, weights
from happy_folder import TEMPLATE, write_book, write_checkpoint, write_export, write_tokenizer
from happy_llm import random_transformer
from nextok.cli import main
from nextok.errors import ModelFileError, ModelNotFoundError
from nextok.formats import open_model
from nextok.formats.happy_llm import infer_config, map_names
from nextok.models.base import Feed
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel

SIZES = {"vocab_size": 320, "dim": 64, "n_layers": 2, "n_heads": 16, "n_kv_heads": 8}
FEW_HEADS = {"vocab_size": 320, "dim": 80, "n_heads": 4, "n_kv_heads": 2, "hidden_dim": 96}
TOKENS = [7, 319, 0, 42, 42, 5, 100, 63, 1]
CLOSE = 1e-4
pytestmark = pytest.mark.filterwarnings("ignore:.*does not say how many heads")  # see test_loading.py


@pytest.fixture(scope="module")
def model():
    return random_transformer(1, **SIZES)


def config_of(model):
    return {key: value for key, value in model.args.config().items() if key != "model_type"}


def difference(path, model):
    """The largest difference between the model's own logits and ours, of both backends."""
    expected = model.float().every_logit(torch.tensor([TOKENS]))[0].numpy()
    checkpoint = open_model(path)
    numpy, native = LlamaNumpy(checkpoint), NativeModel(checkpoint, exact=True)
    feed, other = Feed.from_run(numpy.open(), TOKENS), Feed.from_run(native.open(), TOKENS)
    found = (numpy.logits(numpy.forward([feed])), native.logits([other]))
    return max(float(np.abs(each - expected).max()) for each in found)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
def test_a_raw_checkpoint_has_the_models_logits(model, tmp_path, prefix):
    assert difference(write_checkpoint(tmp_path / "pretrain.pth", model, prefix=prefix), model) < CLOSE


@pytest.mark.parametrize("safe", [False, True], ids=["bin", "safetensors"])
def test_an_exported_folder_has_the_models_logits(model, tmp_path, safe):
    folder = write_export(tmp_path / "export", model, safe)
    assert difference(folder, model) < CLOSE
    assert "output.weight" not in open_model(folder).tensors  # tied


def test_other_logits_are_found_out(model, tmp_path):
    """A control: with the pairs of the rotation, the gate or the heads mistaken, the numbers are far off."""
    path = write_checkpoint(tmp_path / "m.pth", model, config_of(model) | {"n_heads": 8, "n_kv_heads": 4})
    assert difference(path, model) > 100 * CLOSE
    state = model.state_dict()
    state = {name.replace("w1", "w0").replace("w3", "w1").replace("w0", "w3"): each for name, each in state.items()}
    (tmp_path / "other").mkdir()
    torch.save(state, tmp_path / "other" / "m.pth")
    assert difference(tmp_path / "other" / "m.pth", model) > 100 * CLOSE


@pytest.mark.parametrize(
    "sizes",
    [FEW_HEADS, {"n_kv_heads": None, "n_heads": 2}, {"multiple_of": 16, "dim": 80, "n_heads": 5, "n_kv_heads": 1}],
)
def test_a_configuration_beside_the_file_tells_the_heads(tmp_path, sizes):
    model = random_transformer(2, **{"vocab_size": 320, **sizes})
    path = write_checkpoint(tmp_path / "m.pth", model, config_of(model))
    assert difference(path, model) < CLOSE
    folder = write_export(tmp_path / "export", model)
    assert difference(folder, model) < CLOSE
    assert open_model(folder).config == open_model(path).config


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(tmp_path, kind):
    model = random_transformer(3, **SIZES)
    for weight in model.parameters():
        weight.data = weight.data.to(kind)
    path = write_checkpoint(tmp_path / "m.pth", model)
    kinds = {tensor.kind for tensor in open_model(path).tensors.values()}
    assert kinds == {"F16" if kind is torch.float16 else "BF16"}
    assert difference(path, model) < CLOSE


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_the_weights_in_a_training_checkpoint_are_found(model, tmp_path, key):
    optimizer = torch.optim.AdamW(model.parameters())
    kept = {
        key: model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": 12,
        "lr": 1e-4,
        "best": torch.tensor(1),
    }
    torch.save(kept, tmp_path / "m.pt")
    assert difference(tmp_path / "m.pt", model) < CLOSE


def test_shards_with_an_index_are_joined(model, tmp_path):
    folder = write_export(tmp_path / "export", model)
    (folder / "pytorch_model.bin").unlink()
    state = list(model.state_dict().items())
    weight_map = {}
    for number, part in enumerate((state[:9], state[9:]), 1):
        name = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save(dict(part), folder / name)
        weight_map |= {key: name for key, _ in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert difference(folder, model) < CLOSE


def test_other_families_are_read_from_a_torch_file_too(tmp_path):
    arrays = {name: torch.from_numpy(array) for name, array in weights().items()}
    whole, pickled = folder(tmp_path / "whole"), folder(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(arrays, pickled / "pytorch_model.bin")
    expected = open_model(whole)
    for name, tensor in open_model(pickled).tensors.items():
        np.testing.assert_array_equal(tensor.to_float32(), expected.tensors[name].to_float32())


def test_two_matrices_that_differ_are_both_kept(tmp_path):
    model = random_transformer(4, **SIZES)
    model.tok_embeddings.weight = torch.nn.Parameter(model.tok_embeddings.weight * 0.5)
    path = write_checkpoint(tmp_path / "m.pth", model)
    assert "output.weight" in open_model(path).tensors
    assert difference(path, model) < CLOSE


def test_old_buffers_are_left_out(model, tmp_path):
    state = model.state_dict() | {"freqs_cos": torch.ones(4, 2), "freqs_sin": torch.ones(4, 2)}
    state |= {"layers.0.attention.mask": torch.zeros(1, 1, 4, 4)}
    torch.save(state, tmp_path / "m.pth")
    assert difference(tmp_path / "m.pth", model) < CLOSE


def test_buffers_of_the_rotation_tell_the_heads(tmp_path):
    model = random_transformer(**FEW_HEADS)
    buffers = {"freqs_cos": model.freqs_cos, "freqs_sin": model.freqs_sin}
    torch.save(model.state_dict() | buffers, tmp_path / "m.pth")
    assert difference(tmp_path / "m.pth", model) < CLOSE
    (tmp_path / "config.json").write_text(json.dumps({"n_heads": 8, "n_kv_heads": 4}))
    with pytest.raises(ModelFileError, match=r"'freqs_cos' is for heads 20 wide, but 8 heads.* are 10 wide"):
        open_model(tmp_path / "m.pth")
    torch.save(model.state_dict() | {"freqs_sin": torch.ones(4)}, tmp_path / "m.pth")
    with pytest.raises(ModelFileError, match=r"'freqs_sin' has shape \(4,\)"):
        open_model(tmp_path / "m.pth")


@pytest.mark.parametrize("key", ["model_args", "args", "config"])
def test_a_training_checkpoint_may_tell_the_heads_itself(tmp_path, key):
    model = random_transformer(2, vocab_size=320, dim=64, n_heads=4, n_kv_heads=2)
    path = tmp_path / "m.pt"
    torch.save({"model": model.state_dict(), key: config_of(model) | {"out_dir": "out", "beta": 0.9}}, path)
    assert difference(path, model) < CLOSE
    (tmp_path / "config.json").write_text(json.dumps(config_of(model) | {"n_heads": None}))
    assert difference(path, model) < CLOSE
    (tmp_path / "config.json").write_text(json.dumps(config_of(model) | {"n_heads": 8, "n_kv_heads": 4}))
    with pytest.raises(ModelFileError, match=rf"n_heads is 8 in config\.json, but 4 in its {key}: they are of two"):
        open_model(path)


# --- the whole way to text ------------------------------------------------------------------------------------------


def greedy(model, tokens, count):
    tokens = list(tokens)
    start = len(tokens)
    for _ in range(count):
        tokens.append(int(model.every_logit(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[start:]


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_greedy_text_is_the_models_own(model, tmp_path, backend):
    path = write_book(tmp_path, model)
    expected = greedy(model, TOKENS, 24)
    for place in (path, write_export(tmp_path / "export", model), write_export(tmp_path / "safe", model, True)):
        lm = nt.load(place, backend=backend, precision="exact")
        assert lm.generate(TOKENS, max_tokens=24, ignore_eos=True).tokens == expected
        assert lm.model.context == 512


def test_a_chat_is_spoken_through_the_books_template(model, tmp_path):
    lm = nt.load(write_book(tmp_path, model), backend="numpy")
    assert lm.tokenizer.chat_template == TEMPLATE
    assert (lm.tokenizer.bos_id, lm.tokenizer.eos_id) == (3, 4)
    assert 4 in lm.tokenizer.eos_ids
    prompt = lm.tokenizer.encode_chat("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    expected = lm.generate(prompt, max_tokens=8).tokens
    assert lm.chat("Hello", max_tokens=8).tokens == expected
    assert lm.tokenizer.encode("ﬁＡ") == lm.tokenizer.encode("fiA")  # NFKC


# --- which tokenizer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "tokenizer_k", "../tokenizer_k"])
def test_the_tokenizer_is_found_where_the_book_has_it(model, tmp_path, place):
    path = write_checkpoint(tmp_path / "base" / "m.pth", model)
    write_tokenizer(path.parent / place)
    assert nt.load(path, backend="numpy").tokenizer.vocab_size == 320
    assert nt.load_tokenizer(path).vocab_size == 320


def test_the_tokenizer_may_be_named(model, tmp_path, capsys):
    path = write_checkpoint(tmp_path / "base" / "m.pth", model)
    folder = write_tokenizer(tmp_path / "elsewhere")
    for name in (folder, str(folder), folder / "tokenizer.json"):
        assert nt.load(path, backend="numpy", tokenizer=name).tokenizer.vocab_size == 320
    with pytest.raises(ModelFileError, match=r"m\.pth has no tokenizer\.json in .*tokenizer_k.*name its folder"):
        nt.load(path)
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        nt.load(path, tokenizer=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("rows", "message"), [(321, None), (447, None), (448, "only 320 ids, but the model 448"), (319, "320 ids.* 319")]
)
def test_a_tokenizer_of_another_size_is_refused(tmp_path, rows, message):
    path = write_checkpoint(tmp_path / "m.pth", random_transformer(**{**SIZES, "vocab_size": rows}))
    write_tokenizer(tmp_path)
    if message is None:
        assert nt.load(path, backend="numpy").model.vocab_size == rows
        return
    with pytest.raises(ModelFileError, match=message):
        nt.load(path, backend="numpy")


def test_an_exported_folder_may_have_more_rows_never_fewer(tmp_path):
    folder = write_export(tmp_path / "m", random_transformer(**{**SIZES, "vocab_size": 1000}))
    write_tokenizer(folder)
    assert nt.load(folder, backend="numpy").model.vocab_size == 1000
    with pytest.raises(ModelFileError, match=r"tokenizer has 49152 ids, but the model only 1000 rows: name the"):
        nt.load(folder, backend="numpy", tokenizer="smollm2")


def test_every_command_that_loads_takes_a_tokenizer(model, tmp_path, capfd, monkeypatch):
    path = write_checkpoint(tmp_path / "base" / "m.pth", model)
    place = write_tokenizer(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n"))
    for command in (
        ("generate", "Hi", "--max-tokens", "2"),
        ("chat", "--max-tokens", "2"),
        ("compare", "Hi", "--max-tokens", "2"),
        ("tokenize", "Hi"),
    ):
        assert main([*command, "--model", str(path), "--tokenizer", str(place)]) == 0
        assert main([*command, "--model", str(path)]) == 3
        assert "(tokenizer=, --tokenizer)" in capfd.readouterr().err
    assert main(["models", "info", str(path), "--tokenizer", str(place), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["end_tokens"] == {"2": "</s>", "4": "<|im_end|>"}


# --- what does not fit ----------------------------------------------------------------------------------------------


CONTRADICTIONS = {
    "width": ({"dim": 128}, "dim is 128.*64 is the width"),
    "depth": ({"n_layers": 3}, "n_layers is 3.*2 is the number of layers"),
    "vocabulary": ({"vocab_size": 6144}, "vocab_size is 6144.*320 is the rows"),
    "heads": ({"n_heads": 48}, "n_heads is 48.*does not divide the width 64"),
    "odd heads": ({"n_heads": 64, "n_kv_heads": 8}, "n_heads is 64.*even heads"),
    "keys": ({"n_kv_heads": 16}, "n_kv_heads 16.*need 64 rows.*wk.weight, which has 32"),
    "keys of all heads": ({"n_kv_heads": None}, "n_kv_heads 16.*need 64 rows"),
    "feed-forward": ({"hidden_dim": 100}, "hidden_dim is 100.*192 is the rows"),
    "multiple": ({"multiple_of": 50}, "multiple_of 50.*makes hidden_dim 200, but 192"),
    "another model": ({"model_type": "llama"}, "config.json: model_type is 'llama'"),
    "epsilon": ({"norm_eps": -1}, "norm_eps is -1"),
    "context": ({"max_seq_len": 0}, "max_seq_len is 0"),
    "a word": ({"n_heads": "16"}, "n_heads is '16'"),
    "keys alone": (
        {"n_heads": None, "n_kv_heads": 4},
        "16, the book's, do not fit n_kv_heads 4 .* put a config.json",
    ),
    "rotation": ({"rope_theta": 1e6}, "rope_theta is 1000000.0"),
    "nested": ({"n_heads": [[[[[["x" * 9] * 9] * 9] * 9] * 9] * 9]}, r"n_heads is \[.{100,130}\.\.\., but"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_configuration_that_contradicts_the_weights_is_refused(model, tmp_path, case):
    changes, message = CONTRADICTIONS[case]
    path = write_checkpoint(tmp_path / "m.pth", model, config_of(model) | changes)
    with pytest.raises(ModelFileError, match=message):
        open_model(path)
    if "model_type" not in changes:
        folder = write_export(tmp_path / "export", model, **changes)
        with pytest.raises(ModelFileError, match=message):
            open_model(folder)


def test_a_width_that_the_native_core_does_not_compute_is_refused_with_the_fix(tmp_path):
    sizes = {"vocab_size": 320, "dim": 72, "n_heads": 6, "n_kv_heads": 3}
    path = write_book(tmp_path, random_transformer(1, **sizes), {"n_heads": 6, "n_kv_heads": 3})
    with pytest.raises(ModelFileError, match=r"width of 72 is no multiple of 16.*--backend numpy"):
        nt.load(path)
    nt.load(path, backend="numpy")


def test_heads_that_show_nowhere_are_asked_for(tmp_path):
    model = random_transformer(**FEW_HEADS)
    path = write_checkpoint(tmp_path / "m.pth", model)
    with pytest.raises(ModelFileError, match=r"shows in no tensor, and 16.* put a config\.json beside.*n_heads"):
        open_model(path)
    path = write_checkpoint(tmp_path / "m.pth", random_transformer(dim=96, n_heads=32, n_kv_heads=1))
    with pytest.raises(ModelFileError, match=r"16 heads do not fit its 3 rows of keys: put a config\.json"):
        open_model(path)


def test_tensors_that_are_missing_unknown_or_misshapen_are_refused(model, tmp_path):
    state = dict(model.state_dict())

    def refused(change, message):
        torch.save(change, tmp_path / "m.pth")
        with pytest.raises(ModelFileError, match=message) as caught:
            open_model(tmp_path / "m.pth")
        assert str(caught.value).startswith("m.pth: ")
        assert str(caught.value).isprintable()

    for name in state:
        if name not in ("tok_embeddings.weight", "output.weight"):
            refused({key: value for key, value in state.items() if key != name}, "missing|no matrix|number of layers")
    refused({key: value for key, value in state.items() if "tok" not in key and "output" not in key}, "no matrix")
    for name, weight in state.items():
        refused(state | {name: torch.zeros(weight.shape[0] + 1, *weight.shape[1:])}, "shape|rows|fit|no matrix")
    refused(state | {"layers.0.attention.wx.weight": torch.zeros(1)}, "wx.weight' is no part of a Happy-LLM")
    refused(state | {"layers.9999.attention.wq.weight": torch.zeros(1)}, "10000 is the number of layers")
    refused(state | {"module.norm.weight": torch.zeros(64)}, "comes twice")
    refused({"model.embed_tokens.weight": torch.zeros(4, 4)}, "give the folder")


def test_names_and_shapes_of_a_live_module_are_enough(model):
    shapes = {f"_orig_mod.{name}": tuple(weight.shape) for name, weight in model.state_dict().items()}
    config = infer_config(shapes, vars(model.args))
    assert (config.heads, config.kv_heads, config.head_width, config.hidden) == (16, 8, 4, 192)
    assert config.rope_interleaved
    assert infer_config(shapes, {}) == config
    assert map_names(["module.layers.1.feed_forward.w2.weight", "freqs_cos"]) == {
        "module.layers.1.feed_forward.w2.weight": "blk.1.ffn_down.weight"
    }


def test_a_torch_file_that_is_not_there_is_no_hub_id(tmp_path: Path):
    for name in ("base_model/pretrain.pth", str(tmp_path / "m.pt"), "m.bin"):
        with pytest.raises(ModelNotFoundError, match="there is no file"):
            nt.load(name)


def test_an_old_torch_and_no_torch_are_told_apart(model, tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m.pth", model)
    for version in ("2.9.1", "1.13.0+cu117", "dev"):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(ModelFileError, match=r'CVE-2026-24747.*pip install "torch>=2.10"'):
            open_model(path)
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    open_model(path)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ModelFileError, match=r'pip install "nextok\[torch\]"'):
        open_model(path)
