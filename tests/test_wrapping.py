"""nt.wrap: a model and a tokenizer of transformers in, everything that nextok does out."""

import copy
import os
import subprocess
import sys
from functools import cache

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, ByT5Tokenizer, PreTrainedTokenizerFast

import nextok as nt
from corpus import lines
from nextok.engine.timing import FreeTiming
from nextok.errors import ModelFileError
from tiny import TEMPLATE, tiny_tokenizer
from transformers_models import LLAMAS, cut, made, plain_logits, quiet

EOS = "<eos>"
PROMPT = "Once upon a time"


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with quiet():
        yield


@cache
def fast():
    """A byte-level tokenizer of transformers with some merges, control tokens and a chat template."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[EOS, "<user>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(lines(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, chat_template=TEMPLATE)


@cache
def model(kind="llama", seed=0, ends=0):
    found = made(LLAMAS[kind] | {"vocab_size": 304}, seed=seed)
    found.generation_config.eos_token_id = ends if isinstance(ends, int) else list(ends)
    return found


def still(lm):
    """The same with free guesses, so that nothing depends on a clock."""
    lm.engine.timing = FreeTiming()
    return lm


@cache
def wrapped(kind="llama", seed=0):
    return still(nt.wrap(model(kind, seed), fast()))


def theirs(text, at_most, hf_model=None):
    """What transformers writes after a text, greedily."""
    ids = torch.tensor([fast()(text)["input_ids"]])
    found = (hf_model or model()).generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=at_most, do_sample=False, pad_token_id=0
    )
    return cut(found[0, ids.shape[1] :].tolist(), [0])


def test_a_wrapped_model_writes_what_its_own_generate_writes():
    lm, expected = wrapped(), theirs(PROMPT, 20)
    output = lm.generate(PROMPT, max_tokens=20)
    assert output.tokens == expected
    assert output.text == fast().decode(expected, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert lm.name == "LlamaForCausalLM"


@pytest.mark.parametrize("text", ["Hello, world!", "  two  spaces", "Grüße, 世界 🌍", "<user>hi<eos>", ""])
def test_the_tokenizer_is_the_one_that_was_passed(text):
    own = wrapped().tokenizer
    assert own.encode(text) == fast()(text)["input_ids"]
    assert own.decode(own.encode(text), special=True) == text
    assert own.eos_id == fast().eos_token_id


def test_every_way_to_pass_a_tokenizer(tmp_path):
    fast().save_pretrained(tmp_path)
    model().save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = wrapped().generate(PROMPT, max_tokens=8).text
    ways = {
        "fast": (model(), fast()),
        "path": (model(), tmp_path),
        "text": (model(), str(tmp_path)),
        "nextok's": (model(), nt.load_tokenizer(tmp_path)),
        "where the model came from": (loaded, None),
    }
    for hf_model, tokenizer in ways.values():
        assert nt.wrap(hf_model, tokenizer).generate(PROMPT, max_tokens=8).text == expected
    assert nt.wrap(loaded).name == tmp_path.name


def unigram():
    pieces = tokenizers.Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    pieces.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=pieces)


def with_name(name):
    hf_model = copy.copy(model())
    hf_model.config = copy.deepcopy(hf_model.config)
    hf_model.config.name_or_path = name
    return hf_model


@pytest.mark.parametrize(
    ("make", "tokenizer", "said"),
    [
        (model, lambda: None, r"LlamaForCausalLM came without a tokenizer: .* '' .* pass wrap\(model, tokenizer\)"),
        (lambda: with_name("owner/name"), lambda: None, "'owner/name' is no local folder with a tokenizer.json"),
        (model, lambda: ByT5Tokenizer(), "ByT5Tokenizer is no fast tokenizer.*is_fast is true"),
        (model, lambda: 7, "int is no fast tokenizer"),
        (
            lambda: made(LLAMAS["llama"] | {"vocab_size": 280}),
            fast,
            r"has 300 ids, but LlamaForCausalLM scores 280; .*model\.resize_token_embeddings\(len\(tokenizer\)\)",
        ),
        (lambda: model(ends=304), fast, "eos_token_id is 304, but ids go from 0 to 303"),
        (lambda: torch.nn.Linear(2, 2), fast, "Linear is no model of transformers"),
    ],
)
def test_what_cannot_be_wrapped(make, tokenizer, said):
    with pytest.raises(ValueError, match=said):
        nt.wrap(make(), tokenizer())


def test_a_tokenizer_of_another_kind_is_refused_by_its_class_and_not_by_a_folder_that_is_gone():
    with pytest.raises(ModelFileError, match="Unigram") as refusal:
        nt.wrap(model(), unigram())
    assert type(unigram()).__name__ in str(refusal.value)
    assert os.path.sep + "tmp" not in str(refusal.value)


def test_a_text_ends_with_the_ends_of_the_tokenizer_and_of_the_model():
    free = wrapped().generate(PROMPT, max_tokens=12, ignore_eos=True).tokens
    end = next(token for index, token in enumerate(free) if index > 2 and token not in free[:index] and token)
    lm = nt.wrap(model(ends=(end, 1)), fast())
    assert lm.tokenizer.eos_ids >= {0, 1, end}
    output = lm.generate(PROMPT, max_tokens=12)
    assert (output.tokens, output.finish_reason) == (free[: free.index(end) + 1], "stop")
    assert len(nt.wrap(model(), fast()).generate(PROMPT, max_tokens=12).tokens) > len(output.tokens)


STRATEGIES = {
    "greedy": lambda: nt.Greedy(),
    "sample": lambda: nt.Sample(temperature=0.8, top_k=20, top_p=0.95, repetition_penalty=1.2),
    "beam": lambda: nt.Beam(3, n=2),
    "lookup": lambda: nt.Speculate(nt.PromptLookup(), nt.Sample()),
    "draft": lambda: nt.Speculate(nt.DraftModel(wrapped(seed=1), max_draft=3), nt.Sample(temperature=0.7)),
    "tree": lambda: nt.Speculate(nt.TokenTree(wrapped(seed=1), widths=(2, 2))),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_list_a_text_and_a_stream_are_the_same(name):
    lm, strategy, prompts = wrapped(), STRATEGIES[name](), ["Once", "upon a", "time there was"]
    wishes = {"max_tokens": 9, "seed": 3}
    for prompt, output in zip(prompts, lm.generate(prompts, strategy, **wishes)):
        assert output.tokens == lm.generate(prompt, strategy, **wishes).tokens
        assert output.text == "".join(piece.text for piece in lm.stream(prompt, strategy, **wishes))


@pytest.mark.parametrize("name", ["lookup", "draft", "tree"])
def test_a_draft_changes_nothing(name):
    strategy = STRATEGIES[name]()
    plain = wrapped().generate(PROMPT, strategy.sampling, max_tokens=16, seed=5)
    drafted = wrapped().generate(PROMPT, strategy, max_tokens=16, seed=5)
    assert drafted.tokens == plain.tokens
    assert drafted.stats.drafted > 0


def test_a_draft_with_another_vocabulary_is_refused():
    other = nt.wrap(model(seed=1), tiny_tokenizer())
    with pytest.raises(ValueError, match="another vocabulary"):
        wrapped().generate(PROMPT, nt.Speculate(nt.DraftModel(other)))


def test_scores_and_logprobs_are_the_models_own():
    lm = wrapped()
    ids = lm.tokenizer.encode(PROMPT)
    expected = plain_logits(model(), ids).log_softmax(-1)
    scores = lm.score(PROMPT, top=2)
    found = [logprob for logprob in scores.logprobs if logprob is not None]
    assert found == pytest.approx([float(expected[i, token]) for i, token in enumerate(ids[1:])], abs=1e-4)
    output = lm.generate(PROMPT, max_tokens=1, logprobs=2)
    best = expected[-1].topk(2)
    assert [each.token for each in output.logprobs[0].top] == best.indices.tolist()
    assert [each.logprob for each in output.logprobs[0].top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_chat_and_conversation_use_the_template_of_the_tokenizer():
    lm, messages = wrapped(), [{"role": "user", "content": "hi"}]
    assert lm.chat_ids(messages) == fast().apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    answer = lm.chat("hi", max_tokens=8)
    assert answer.tokens == lm.generate(lm.chat_ids(messages), max_tokens=8).tokens
    turns = nt.Conversation(lm)
    assert turns.ask("hi", max_tokens=8).wait().text == answer.text


def test_a_grammar_and_stop_strings_hold():
    pytest.importorskip("llguidance")
    output = wrapped().generate(
        PROMPT, nt.Sample(), max_tokens=20, seed=1, grammar=nt.Grammar.regex("(yes|no|maybe)")
    )
    assert output.text in ("yes", "no", "maybe")
    free = wrapped().generate(PROMPT, nt.Sample(), max_tokens=20, seed=1)
    stop = next(letter for letter in free.text[2:] if letter.isascii() and letter.isprintable())
    stopped = wrapped().generate(PROMPT, nt.Sample(), max_tokens=20, seed=1, stop=stop)
    assert (stopped.text, stopped.finish_reason) == (free.text[: free.text.index(stop)], "stop")


def test_importing_nextok_imports_neither_torch_nor_transformers():
    code = "import sys, nextok; nextok.wrap; assert not {'torch', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
