"""Writes Happy-LLM's files as the book lays them out: a tokenizer, a training checkpoint, an exported folder."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from corpus import lines

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}<|im_start|>system\n{{ message['content'] }}"
    "<|im_end|>\n{% elif message['role'] == 'user' %}<|im_start|>user\n{{ message['content'] }}<|im_end|>\n"
    "{% elif message['role'] == 'assistant' %}<|im_start|>assistant\n{{ message['content'] }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tokenizer(folder: Path, size: int = 320) -> Path:
    """A byte-level vocabulary with NFKC, trained on a few texts, and the files that the book writes for it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(lines(300), trainer)
    assert tokenizer.get_vocab_size() == size
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<unk>",
        "model_max_length": 1000000000000000019884624838656,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=4))
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<|im_end|>"}
    names["additional_special_tokens"] = ["<s>", "</s>"]
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    return folder


def write_checkpoint(path: Path, model: Any, settings: dict[str, Any] | None = None, prefix: str = "") -> Path:
    """A raw `.pth`, its names with a prefix; with `settings`, a config.json beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({prefix + name: weight for name, weight in model.state_dict().items()}, path)
    if settings is not None:
        (path.parent / "config.json").write_text(json.dumps(settings))
    return path


def write_export(folder: Path, model: Any, safe: bool = False, **changes: Any) -> Path:
    """The folder that the book's export_model.py writes: weights, config.json and the tokenizer's files."""
    write_tokenizer(folder, model.args.vocab_size)
    settings = model.args.config() | {"auto_map": {"AutoModelForCausalLM": "k_model.Transformer"}} | changes
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "k_model.py").write_text("raise SystemExit('remote code was run')\n")
    weights = dict(model.state_dict())
    if safe:
        del weights["output.weight"]  # safetensors keeps one of two tensors that share their numbers
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    return folder


def write_book(folder: Path, model: Any, settings: dict[str, Any] | None = None) -> Path:
    """`base_model_215M/pretrain.pth` and `tokenizer_k/` beside its folder; the path of the former."""
    write_tokenizer(folder / "tokenizer_k", model.args.vocab_size)
    return write_checkpoint(folder / "base_model_215M" / "pretrain.pth", model, settings)
