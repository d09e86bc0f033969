"""generate_super: the tutorial's own calls on a Happy-LLM model, against full forward passes and the mathematics."""

import copy
import gc
import io
import itertools
import math
import random
import weakref
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

import nextok as nt
from happy_folder import write_checkpoint, write_tokenizer
from happy_llm import ModelArgs, Transformer, random_transformer, trained_transformer

PROMPT = torch.tensor([[5, 6, 7, 8]])
BEST = 1e-6  # chance that a fair sampler is called unfair


def sequence(seed):
    """Steps of 1, 3 or 7: what comes next is never certain."""
    steps = random.Random(seed).choices([1, 3, 7], [5, 3, 2], k=24)
    return [(seed + step) % 89 + 5 for step in itertools.accumulate(steps)]


@pytest.fixture(scope="module", params=["random", "trained"])
def transformer(request):
    if request.param == "random":
        return nt.attach(random_transformer())
    return nt.attach(trained_transformer([sequence(seed) for seed in range(64)]))


@pytest.fixture(scope="module")
def small():
    """Few tokens, so that everything can be enumerated."""
    return nt.attach(random_transformer(vocab_size=6, dim=32, n_layers=1))


def greedy_by_full_passes(model, tokens, count):
    with torch.inference_mode():
        for _ in range(count):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return tokens[:, -count:]


def shaped(logits, temperature=1.0, top_k=None):
    """Log-probabilities after temperature and top-k, in float64."""
    logits = logits.double() / temperature
    if top_k is not None:
        kept = logits.sort(descending=True, stable=True).indices[..., :top_k]
        logits = torch.full_like(logits, -math.inf).scatter(-1, kept, logits.gather(-1, kept))
    return logits.log_softmax(-1)


def beams_by_full_passes(model, prompt, width, length, **shape):
    """The best text of a beam search in which nothing ends before `length`, and how clearly it was the best."""
    live, margin = [((), 0.0)], math.inf
    for _ in range(length):
        rows = torch.cat([prompt.expand(len(live), -1), torch.tensor([tokens for tokens, _ in live]).long()], 1)
        with torch.inference_mode():
            logprobs = shaped(model(rows).logits[:, -1], **shape)
        grown = [
            ((*tokens, t), sum_ + lp)
            for (tokens, sum_), row in zip(live, logprobs)
            for t, lp in enumerate(row.tolist())
        ]
        grown.sort(key=lambda beam: -beam[1])
        margin = min(margin, grown[width - 1][1] - grown[width][1])
        live = grown[:width]
    return list(grown[0][0]), min(margin, grown[0][1] - grown[1][1])


def unlikely(counts, probabilities, draws):
    """Whether these counts are too far from the probabilities: Pearson's chi-square at alpha 1e-6."""
    expected = probabilities * draws
    known = expected > 5
    assert set(counts) <= set(torch.nonzero(probabilities).flatten().tolist())
    found = torch.tensor([counts[token] for token in range(len(probabilities))], dtype=torch.float64)
    statistic = ((found - expected)[known] ** 2 / expected[known]).sum()
    return torch.special.gammaincc((known.sum() - 1) / 2, statistic / 2) < BEST


# --- the tutorial's own calls -----------------------------------------------------------------------------------


def test_greedy_is_the_largest_at_every_step(transformer):
    output = transformer.generate_super(PROMPT, do_sample=False, num_beams=1, temperature=0.0, max_new_tokens=60)
    assert output.tolist() == greedy_by_full_passes(transformer, PROMPT, 60).tolist()
    assert (output.dtype, output.shape) == (torch.int64, (1, 60))


def test_without_sampling_it_is_greedy_at_any_temperature(transformer):
    greedy = transformer.generate_super(PROMPT, max_new_tokens=20)
    assert greedy.tolist() == greedy_by_full_passes(transformer, PROMPT, 20).tolist()
    for temperature in (0.05, 0.5, 1.0, 2.0):
        assert greedy.equal(transformer.generate_super(PROMPT, temperature=temperature, top_k=3, max_new_tokens=20))


@pytest.mark.parametrize("options", [{"temperature": 0.8}, {"temperature": 1.0, "top_k": 50}])
def test_sampling_follows_the_distribution(transformer, options):
    rows = PROMPT.expand(400, -1)
    drawn = [
        transformer.generate_super(rows, do_sample=True, max_new_tokens=1, seed=range(start, start + 400), **options)
        for start in range(0, 2000, 400)
    ]
    counts = Counter(torch.cat(drawn).flatten().tolist())
    p = shaped(transformer.every_logit(PROMPT)[0, -1], **options).exp()
    assert len(p.nonzero()) == options.get("top_k", 97)
    assert not unlikely(counts, p, 2000)
    other = shaped(transformer.every_logit(PROMPT)[0, -1], temperature=0.5).exp()
    assert unlikely(Counter(other.multinomial(2000, True).tolist()), p.where(p > 0, 1e-12), 2000)  # negative control


@pytest.mark.parametrize(
    ("width", "options"),
    [
        (3, {"temperature": 1.0}),
        (5, {"temperature": 0.8, "top_k": 50}),
        (3, {"temperature": 1.0, "top_k": 2}),
        (1, {}),
    ],
)
def test_beam_search_keeps_the_most_probable(width, options):
    checked = 0
    for seed in range(8):
        model = nt.attach(random_transformer(seed))
        best, margin = beams_by_full_passes(model, PROMPT, width, 12, **options)
        output = model.generate_super(PROMPT, do_sample=False, num_beams=width, max_new_tokens=12, **options)
        if margin > 1e-4:  # else float32 may rank two beams the other way round
            assert output.tolist() == [best]
            checked += 1
    assert checked >= 5


def test_a_beam_as_wide_as_everything_finds_the_best_text(small):
    """With a stop token: all texts of up to three tokens, by brute force."""
    stop, scores = 3, {}
    for length in (1, 2, 3):
        for tokens in itertools.product(range(6), repeat=length):
            if stop in tokens[:-1] or (length < 3 and tokens[-1] != stop):
                continue
            logits = small.every_logit(torch.cat([PROMPT % 6, torch.tensor([tokens])], 1))[0]
            steps = shaped(logits[3 : 3 + length])
            scores[tokens] = sum(steps[index, token].item() for index, token in enumerate(tokens)) / length
    best = max(scores, key=scores.__getitem__)
    output = small.generate_super(PROMPT % 6, stop, 3, num_beams=216)
    assert output.tolist() == [list(best)]
    assert len(scores) > 100


def test_the_stop_token_ends_a_row_and_is_kept(transformer):
    free = transformer.generate_super(PROMPT, max_new_tokens=30)[0].tolist()
    stop = free[7]
    ended = transformer.generate_super(PROMPT, stop, 30)[0].tolist()
    assert ended == free[: free.index(stop) + 1]
    assert (
        transformer.generate_super(PROMPT, [stop, free[2]], 30)[0].tolist()
        == free[: min(free.index(stop), free.index(free[2])) + 1]
    )


def test_rows_that_end_early_are_filled_up(transformer):
    rows = torch.tensor([[5, 6, 7, 8], [30, 33, 36, 39], [1, 2, 3, 4]])
    free = transformer.generate_super(rows, max_new_tokens=20).tolist()
    stop = free[0][5]
    for pad in (None, 96):
        ended = transformer.generate_super(rows, stop, 20, pad_token_id=pad).tolist()
        for row, whole in zip(ended, free):
            length = whole.index(stop) + 1 if stop in whole else 20
            assert row == whole[:length] + [pad or 0] * (len(row) - length)
    own = Transformer(ModelArgs(pad_token_id=2)).eval()
    own.load_state_dict(transformer.state_dict())
    assert (
        nt.generate_super(own, rows, stop, 20).tolist()
        == nt.generate_super(transformer, rows, stop, 20, pad_token_id=2).tolist()
    )


# --- batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "temperature": 0.8, "seed": 3},
        {"num_beams": 3},
        {"do_sample": True, "num_beams": 2, "seed": 1},
    ],
)
def test_a_padded_batch_is_its_rows_alone(transformer, left, options):
    texts = [[5, 6], [9], [30, 33, 36, 39, 42], [1, 2, 3]]
    rows, mask = torch.full((4, 6), 11), torch.zeros(4, 6, dtype=torch.bool)
    for row, text in enumerate(texts):
        where = slice(6 - len(text), None) if left else slice(len(text))
        rows[row, where], mask[row, where] = torch.tensor(text), True
    together = transformer.generate_super(rows, attention_mask=mask, max_new_tokens=15, **options)
    for row, text in enumerate(texts):
        alone = transformer.generate_super(torch.tensor([text]), max_new_tokens=15, **options)
        assert together[row].tolist() == alone[0].tolist()
    unmasked = transformer.generate_super(rows, max_new_tokens=15, **options)
    assert not together.equal(unmasked)  # negative control: padding that is read changes texts


def test_each_row_may_have_its_own_seed(transformer):
    rows = PROMPT.expand(3, -1)
    texts = transformer.generate_super(rows, do_sample=True, max_new_tokens=12, seed=[1, 2, 1])
    assert texts[0].equal(texts[2])
    assert not texts[0].equal(texts[1])
    free = transformer.generate_super(rows, do_sample=True, max_new_tokens=12)
    assert len({tuple(row) for row in free.tolist()}) == 3


def test_inputs_are_left_alone(transformer):
    rows, mask = PROMPT.clone(), torch.ones_like(PROMPT)
    transformer.generate_super(rows, attention_mask=mask, do_sample=True, top_k=2, max_new_tokens=5)
    assert rows.equal(PROMPT)
    assert mask.equal(torch.ones_like(PROMPT))


def test_narrow_whole_numbers_are_token_ids_too(transformer):
    expected = transformer.generate_super(PROMPT, max_new_tokens=5)
    assert transformer.generate_super(PROMPT.to(torch.uint8), max_new_tokens=5).equal(expected)


# --- assisted decoding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "seed": 7}, {"do_sample": True, "temperature": 0.6, "top_k": 9, "seed": 2}]
)
@pytest.mark.parametrize("count", [1, 5, 10])
def test_an_assistant_changes_no_token(transformer, options, count):
    rows = torch.tensor([[5, 6, 7, 8], [30, 33, 36, 39]])
    plain = transformer.generate_super(rows, max_new_tokens=40, **options)
    for assistant in (transformer, random_transformer(seed=9), random_transformer(dim=32, n_layers=1)):
        found = transformer.generate_super(
            rows, max_new_tokens=40, assistant_model=assistant, num_assistant_tokens=count, **options
        )
        assert found.equal(plain)


def test_an_assistant_saves_passes_of_the_model(transformer, monkeypatch):
    """Itself as assistant is always right: five guesses and one token more with every pass."""
    from nextok.engine.timing import FreeTiming, Timing
    from nextok.models.torch.llama import LlamaTorch

    monkeypatch.setattr(Timing, "speed_of", FreeTiming.speed_of)  # or a busy machine may make drafts too costly
    asked = []
    answer = LlamaTorch.answer
    monkeypatch.setattr(LlamaTorch, "answer", lambda model, *args: asked.append(model) or answer(model, *args))
    transformer.generate_super(PROMPT, max_new_tokens=60, assistant_model=transformer)
    large, draft = sorted(Counter(map(id, asked)).values())
    assert large <= 60 / 6 + 3
    assert draft > 45


# --- every kind of model ----------------------------------------------------------------------------------------


def test_the_same_weights_write_the_same_text_on_every_backend(transformer, tmp_path):
    write_tokenizer(tmp_path / "tokenizer_k", 300)
    model = random_transformer(vocab_size=300)
    path = write_checkpoint(tmp_path / "model.pth", model, model.args.config())
    rows = torch.tensor([[9, 40, 77], [120, 3, 210]])
    for options in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 4, "temperature": 0.7}):
        expected = nt.generate_super(model, rows, max_new_tokens=24, **options)
        for backend in ("numpy", "native", "torch"):
            lm = nt.attach(
                nt.load(path, backend=backend, precision="exact", device="cpu" if backend == "torch" else None)
            )
            assert lm.generate_super(rows, max_new_tokens=24, **options).equal(expected), backend


def test_a_model_may_be_trained_on_between_two_calls(tmp_path):
    model = nt.attach(random_transformer())
    before = model.generate_super(PROMPT, max_new_tokens=20)
    with torch.no_grad():
        model.layers[0].attention.wv.weight.neg_()
    after = model.generate_super(PROMPT, max_new_tokens=20)
    assert not after.equal(before)
    assert after.equal(greedy_by_full_passes(model, PROMPT, 20))


def test_models_wrapped_for_training_and_other_shapes():
    for sizes in ({"n_kv_heads": None}, {"n_heads": 8, "n_kv_heads": 1}, {"hidden_dim": 40}, {"norm_eps": 0.1}):
        model = random_transformer(**sizes)
        expected = greedy_by_full_passes(model, PROMPT, 12)
        assert nt.generate_super(model, PROMPT, max_new_tokens=12).equal(expected)
        assert nt.generate_super(torch.nn.DataParallel(model), PROMPT, max_new_tokens=12).equal(expected)
    dropping = Transformer(ModelArgs(dropout=0.5)).train()
    first, second = (nt.generate_super(dropping, PROMPT, max_new_tokens=12) for _ in range(2))
    assert first.equal(second)
    assert dropping.training


class Reference(torch.nn.Module):
    """The same weights under the same names, with a forward pass that takes and gives something else."""

    def __init__(self, model, forward):
        super().__init__()
        self.args = model.args
        self.tok_embeddings, self.layers, self.norm, self.output = (
            model.tok_embeddings,
            model.layers,
            model.norm,
            model.output,
        )
        self._forward = [model, forward]

    def forward(self, tokens):
        return self._forward[1](self._forward[0], tokens)


@pytest.mark.parametrize(
    "forward",
    [
        lambda model, tokens: model(tokens).logits,
        lambda model, tokens: (model(tokens).logits, None),
        lambda model, tokens: model(tokens, tokens),
        lambda model, tokens: model(tokens).logits[:, -1],
        lambda model, tokens: SimpleNamespace(loss=None),
        lambda model, tokens: model(tokens, start=0),
    ],
    ids=["tensor", "tuple", "every position", "no position", "no logits", "more arguments"],
)
def test_modules_of_the_same_family_may_answer_in_another_form(forward):
    model = random_transformer()
    expected = greedy_by_full_passes(model, PROMPT, 12)
    assert nt.generate_super(Reference(model, forward), PROMPT, max_new_tokens=12).equal(expected)


def test_the_settings_may_be_a_dictionary(transformer):
    model = random_transformer()
    expected = greedy_by_full_passes(model, PROMPT, 12)
    stop = expected[0, 3].item()
    model.args = vars(model.args) | {"pad_token_id": 3}
    found = nt.generate_super(model, PROMPT.expand(2, -1), max_new_tokens=12)
    assert found.equal(expected.expand(2, -1))
    rows = nt.generate_super(model, torch.tensor([[5, 6, 7, 8], [9, 9, 9, 9]]), stop, 12)
    assert 3 in rows.tolist()[0][4:]


def doubled(model):
    model.layers[0].attention.wq.register_forward_hook(lambda module, given, found: 2 * found)


def turned_otherwise(model):
    model.freqs_cos, model.freqs_sin = model.freqs_cos[:, [3, 2, 1, 0, 4, 5, 6, 7]], model.freqs_sin


def another_forward(model):
    model.__class__ = Negated


class Negated(Transformer):
    def forward(self, tokens, targets=None):
        found = super().forward(tokens, targets)
        found.logits = -found.logits
        return found


@pytest.mark.parametrize("changed", [doubled, turned_otherwise, another_forward])
@pytest.mark.parametrize("training", [False, True])
def test_a_module_that_computes_something_else_is_refused(changed, training):
    """In training mode too, where dropout is not taken for a difference."""
    sizes = {"dropout": 0.5} if training else {}
    model = random_transformer(**sizes).train(training)
    nt.generate_super(model, PROMPT, max_new_tokens=2)
    changed(model)
    with pytest.raises(ValueError, match=f"{type(model).__name__} computes something else than nextok") as refusal:
        nt.generate_super(model, PROMPT, max_new_tokens=2)
    assert "\n" not in str(refusal.value)
    assert {module.training for module in model.modules()} == {training}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_run_in_their_own_precision(dtype):
    for seed in range(8):
        model = random_transformer(seed).to(dtype)
        output = nt.generate_super(model, PROMPT, max_new_tokens=8)
        assert output[0, 0] == model(PROMPT).logits[0, -1].argmax()


def test_the_context_ends_a_row_and_says_so():
    model = random_transformer(max_seq_len=10)
    with pytest.warns(UserWarning, match="row 0 ended at the model's context of 10 tokens, after 6 new ones"):
        output = nt.generate_super(model, PROMPT, max_new_tokens=50)
    assert output.tolist() == greedy_by_full_passes(model, PROMPT, 6).tolist()
    with pytest.raises(nt.NextokError, match="the prompt has 10 tokens and the model's context is 10"):
        nt.generate_super(model, torch.ones(1, 10).long())


# --- what surrounds a call, and what it leaves behind -----------------------------------------------------------


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
def test_a_copy_of_an_attached_model_writes_with_its_own_weights(copied):
    model = nt.attach(random_transformer())
    expected = model.generate_super(PROMPT, max_new_tokens=8)
    other = copied(model)
    assert other.generate_super(PROMPT, max_new_tokens=8).equal(expected)
    with torch.no_grad():
        model.layers[0].attention.wv.weight.neg_()
    assert other.generate_super(PROMPT, max_new_tokens=8).equal(expected)
    assert not model.generate_super(PROMPT, max_new_tokens=8).equal(expected)
    assert model.state_dict().keys() == random_transformer().state_dict().keys()


@pytest.mark.parametrize(
    "surrounding", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_surrounds_a_call_changes_nothing(surrounding):
    model = random_transformer()
    expected = nt.generate_super(model, PROMPT, max_new_tokens=30)
    with surrounding():
        assert nt.generate_super(model, PROMPT, max_new_tokens=30).equal(expected)
    model(PROMPT, PROMPT).last_loss.sum().backward()  # and it can still be trained


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"assistant_model": random_transformer(seed=3)}])
@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_is_left_behind(options, interrupted, monkeypatch):
    """Neither the model's memory nor, in that of an LM, a region; without waiting for the garbage collector."""
    from nextok.engine.timing import FreeTiming, Timing
    from nextok.models.torch.llama import LlamaTorch

    monkeypatch.setattr(Timing, "speed_of", FreeTiming.speed_of)  # so that the assistant is asked
    pools, count, answer = set(), itertools.count(), LlamaTorch.answer

    def answered(model, *arguments):
        pools.add(weakref.ref(model.pool))
        if interrupted and next(count) == 5:
            raise KeyboardInterrupt
        return answer(model, *arguments)

    monkeypatch.setattr(LlamaTorch, "answer", answered)
    gc.collect()
    gc.disable()
    try:
        nt.generate_super(random_transformer(), PROMPT, max_new_tokens=8, **options)
        assert not interrupted
    except KeyboardInterrupt:
        pass
    finally:
        gc.enable()
    assert [pool() for pool in pools] == [None] * (1 + ("assistant_model" in options))


@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}])
def test_an_lm_keeps_no_cache_of_a_text_that_is_finished_or_interrupted(backend, options, tmp_path, monkeypatch):
    write_tokenizer(tmp_path / "tokenizer_k", 300)
    model = random_transformer(vocab_size=300)
    path = write_checkpoint(tmp_path / "model.pth", model, model.args.config())
    lm = nt.load(path, backend=backend, precision="exact", **({"device": "cpu"} if backend == "torch" else {}))
    rows, answer, count = torch.tensor([[9, 40, 77], [120, 3, 210]]), lm.model.answer, itertools.count()

    def interrupted(*arguments):
        if next(count) == 4:
            raise KeyboardInterrupt
        return answer(*arguments)

    gc.collect()
    gc.disable()
    try:
        expected = nt.generate_super(lm, rows, max_new_tokens=9, **options)
        assert not lm.engine._memos
        with monkeypatch.context() as patch:
            patch.setattr(lm.model, "answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                nt.generate_super(lm, rows, max_new_tokens=9, **options)
        assert nt.generate_super(lm, rows, max_new_tokens=9, **options).equal(expected)
    finally:
        gc.enable()
    gc.collect()  # the interruption's traceback
    assert not lm.engine._memos
    assert not lm.engine.step()


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_ids": [[1, 2]]}, r"input_ids must be a torch tensor \[batch, length\], got list"),
        (
            {"input_ids": torch.tensor([1, 2])},
            r"\[batch, length\] and hold a token, got \[2\]; one text is input_ids\[None\]",
        ),
        ({"input_ids": torch.ones(1, 2, 3).long()}, r"got \[1, 2, 3\]"),
        ({"input_ids": torch.ones(0, 4).long()}, r"got \[0, 4\]"),
        ({"input_ids": torch.ones(2, 0).long()}, r"got \[2, 0\]"),
        ({"input_ids": torch.ones(1, 2)}, r"token ids, such as torch.long, got torch.float32: input_ids.long\(\)"),
        ({"input_ids": torch.ones(1, 2).bool()}, "got torch.bool"),
        ({"input_ids": torch.tensor([[1, 97]])}, "token id 97 in row 0 of input_ids is outside.* 0 to 96"),
        ({"input_ids": torch.tensor([[1, 2], [-1, 2]])}, "token id -1 in row 1 of input_ids"),
        ({"input_ids": PROMPT.to("meta")}, "input_ids must be an ordinary tensor with values, got one on meta"),
        ({"input_ids": PROMPT.to_sparse()}, "ordinary tensor with values, got torch.sparse_coo"),
        (
            {"input_ids": torch.nested.nested_tensor([PROMPT[0]], layout=torch.jagged)},
            "with values, got a nested one",
        ),
        ({"attention_mask": PROMPT.to("meta")}, "attention_mask must be an ordinary tensor"),
        ({"model": random_transformer().to("meta")}, "the model's weights are on meta, where they have no values"),
        ({"attention_mask": torch.ones(1, 3).long()}, r"must have the shape of input_ids, \[1, 4\], got \[1, 3\]"),
        ({"attention_mask": torch.zeros(1, 4).long()}, "shows no token of row 0: each row needs at least one"),
        ({"attention_mask": torch.tensor([[1, 0, 1, 1]])}, "a gap in row 0: it marks padding, left or right"),
        ({"attention_mask": torch.tensor([[1, 1, 2, 1]])}, "attention_mask must hold 0 and 1, got 2 in row 0"),
        ({"attention_mask": torch.ones(1, 4)}, "attention_mask must hold 0 and 1.*got torch.float32"),
        ({"attention_mask": [[1] * 4]}, "attention_mask must be a torch tensor"),
        ({"temperature": -1.0}, "temperature must be a finite number, 0 or above.*got -1.0"),
        ({"temperature": math.nan, "do_sample": True}, "temperature must be a finite number.*got nan"),
        ({"temperature": 0.0, "num_beams": 3}, "temperature must be above 0 with num_beams=3, got 0"),
        ({"top_k": 0}, "top_k must be a whole number from 1 up, got 0"),
        ({"top_k": 2.5, "num_beams": 2}, "top_k must be a whole number from 1 up, got 2.5"),
        ({"do_sample": 1}, "do_sample must be True or False, got 1"),
        ({"num_beams": 0}, "num_beams must be a whole number from 1 to .*, got 0"),
        ({"num_beams": 1000}, "width must be a whole number from 1 to 256, got 1000"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 to .*, got 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be a whole number from 1 to .*, got 1.5"),
        ({"stop_id": 97}, "token id 97 of stop_id is outside the vocabulary"),
        ({"stop_id": "end"}, "of stop_id must be whole numbers"),
        ({"pad_token_id": -1}, "pad_token_id must be a whole number from 0 to"),
        ({"seed": [1, 2]}, "seed must be one number, or one for each of the 1 rows, got 2"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        (
            {"assistant_model": random_transformer(vocab_size=90)},
            r"another vocabulary \(90 tokens\) than the model \(97 tokens\)",
        ),
        ({"assistant_model": random_transformer(), "num_beams": 2}, "an assistant_model cannot draft for Beam"),
        (
            {"assistant_model": random_transformer(), "num_assistant_tokens": 0},
            "num_assistant_tokens must be a whole",
        ),
        ({"model": torch.nn.Linear(3, 3)}, "model must be a nextok LM, a causal LM.* got Linear"),
        ({"model": "smollm2"}, "model must be a nextok LM, .* got str"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    arguments = {"model": random_transformer(), "input_ids": PROMPT, "max_new_tokens": 3} | wrong
    with pytest.raises(ValueError, match=message) as caught:
        nt.generate_super(**arguments)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_attached_is_refused():
    with pytest.raises(ValueError, match="model must be a nextok LM"):
        nt.attach(torch.nn.Linear(2, 2))


def test_damaged_modules_are_refused():
    silent = random_transformer()
    silent.args = None
    with pytest.raises(
        ValueError, match=r"the number of heads shows in no weight of the model: model.args must have n_heads"
    ):
        nt.generate_super(silent, PROMPT)
    model = random_transformer()
    model.layers[0].attention.wk.weight = torch.nn.Parameter(torch.zeros(31, 64))
    with pytest.raises(ValueError, match="wk"):
        nt.generate_super(model, PROMPT)
    mixed = random_transformer()
    mixed.layers[1].to(torch.float16)
    with pytest.raises(ValueError, match=r"weights must be of one type and on one device: model.to\(device, dtype\)"):
        nt.generate_super(mixed, PROMPT)
    broken = random_transformer()
    with torch.no_grad():
        broken.norm.weight.fill_(math.nan)
    with pytest.raises(nt.NextokError, match="the model's scores for position 4 are nan"):
        nt.generate_super(broken, PROMPT)


def test_the_model_is_usable_after_an_error(transformer):
    expected = transformer.generate_super(PROMPT, max_new_tokens=5)
    with pytest.raises(ValueError, match="top_k"):
        transformer.generate_super(PROMPT, top_k=-1)
    assert transformer.generate_super(PROMPT, max_new_tokens=5).equal(expected)
