"""The face of the library: a language model that generates, streams, chats and scores."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from nextok.engine import Engine
from nextok.errors import LimitError
from nextok.models.base import Model
from nextok.options import Options, checked_ids
from nextok.output import Output, Scores
from nextok.request import Limits, Request
from nextok.sampling.noise import stream as stream_of_seed
from nextok.strategies.base import Strategy
from nextok.strategies.beam import Beam
from nextok.strategies.rescore import Rescore
from nextok.strategies.sample import Greedy
from nextok.stream import Stream
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer
from nextok.tree import ROOT, Tree
from nextok.writer import Writer

Prompt = str | Sequence[int]
Messages = str | Sequence[Mapping[str, Any]]


class LM:
    """A model with its tokenizer and its engine. One thread at a time may use it.

    The options of `generate`, `stream` and `chat`: `max_tokens` to generate at most; `min_tokens` before a stop
    counts; `stop` strings and `stop_token_ids` that end the text besides the model's own end tokens, which
    `ignore_eos` turns off; `seed` (None draws one and reports it); `n` samples of the prompt, which is read once;
    `logprobs` to report for each token, with that many alternatives. Wrong ones raise ValueError before anything
    runs.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, name: str = "model", origin: str = "memory") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.origin = origin
        self.engine = Engine(model)
        # A model may have more rows than there are tokens, padded to a round number; those stand for nothing.
        padding = max(0, model.vocab_size - tokenizer.vocab_size)
        self._token_bytes = (*tokenizer.token_bytes, *[b""] * padding)

    def __repr__(self) -> str:
        return f"<LM {self.name}>"

    @overload
    def generate(
        self,
        prompt: Prompt,
        strategy: Strategy = ...,
        *,
        max_tokens: int = ...,
        min_tokens: int = ...,
        stop: str | Sequence[str] = ...,
        stop_token_ids: Sequence[int] = ...,
        ignore_eos: bool = ...,
        seed: int | None = ...,
        n: int = ...,
        logprobs: int | None = ...,
    ) -> Output: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]] | list[Prompt],
        strategy: Strategy = ...,
        *,
        max_tokens: int = ...,
        min_tokens: int = ...,
        stop: str | Sequence[str] = ...,
        stop_token_ids: Sequence[int] = ...,
        ignore_eos: bool = ...,
        seed: int | None = ...,
        n: int = ...,
        logprobs: int | None = ...,
    ) -> list[Output]: ...

    def generate(
        self,
        prompt: Any,
        strategy: Strategy = Greedy(),
        *,
        max_tokens: int = 256,
        min_tokens: int = 0,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        n: int = 1,
        logprobs: int | None = None,
    ) -> Output | list[Output]:
        """Continue a text or token ids; a list of those gives a list of outputs, all through one engine.

        An error while running is raised for a single prompt; in a list it is in the `error` of its own output.
        """
        options = Options(max_tokens, min_tokens, stop, stop_token_ids, ignore_eos, seed, n, logprobs)
        if _is_single(prompt):
            return _succeeded(self.start(self._ids(prompt), strategy, options).wait())
        requests = [self._requests(self._ids(each), strategy, options) for each in prompt]
        streams = [self._run(each, strategy) for each in requests]
        try:
            return [stream.wait() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def stream(
        self,
        prompt: Prompt,
        strategy: Strategy = Greedy(),
        *,
        max_tokens: int = 256,
        min_tokens: int = 0,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        n: int = 1,
        logprobs: int | None = None,
    ) -> Stream:
        """Continue one text or list of token ids, piece by piece."""
        options = Options(max_tokens, min_tokens, stop, stop_token_ids, ignore_eos, seed, n, logprobs)
        return self.start(self._ids(prompt), strategy, options)

    def chat(
        self,
        messages: Messages,
        strategy: Strategy = Greedy(),
        *,
        max_tokens: int = 256,
        min_tokens: int = 0,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        n: int = 1,
        logprobs: int | None = None,
    ) -> Output:
        """Answer messages (`role`, `content`), or a text said by the user, through the model's chat template."""
        options = Options(max_tokens, min_tokens, stop, stop_token_ids, ignore_eos, seed, n, logprobs)
        return _succeeded(self.start(self.chat_ids(messages), strategy, options).wait())

    def chat_ids(self, messages: Messages) -> list[int]:
        """The token ids of a conversation, up to where the model's answer begins."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        tokenizer = self.tokenizer
        text = render_chat(
            tokenizer.chat_template,
            messages,
            bos_token="" if tokenizer.bos_id is None else tokenizer.name(tokenizer.bos_id),
            eos_token="" if tokenizer.eos_id is None else tokenizer.name(tokenizer.eos_id),
        )
        return tokenizer.encode_chat(text)

    def score(self, text: Prompt) -> Scores:
        """The model's log-probability of each token of a text, read in one pass."""
        tree, ids = Tree(), self._ids(text)
        if len(ids) > self.model.context:
            raise LimitError(f"the text has {len(ids)} tokens, more than the model's context of {self.model.context}")
        request = Request(tree, tree.extend(ROOT, ids), Limits(), logprobs=0)
        writer = Writer(request)
        job = self.engine.submit(request, Rescore(), writer)
        try:
            while not request.finish_reason:
                self.engine.step()
        finally:
            self.engine.cancel(job)
        if request.error:
            raise request.error
        return Scores(ids, [None, *(each.logprob for each in writer.logprobs(request.prompt, ROOT))])

    def _ids(self, prompt: Prompt) -> list[int]:
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        return checked_ids(ids, self.model.vocab_size)

    def start(self, ids: list[int], strategy: Strategy, options: Options, tree: Tree | None = None) -> Stream:
        """Begin a generation from token ids, on its own tree or on one that has been read before."""
        return self._run(self._requests(ids, strategy, options, tree), strategy)

    def _requests(
        self, ids: list[int], strategy: Strategy, options: Options, tree: Tree | None = None
    ) -> list[Request]:
        """One request for each sample, all on one tree, so that the prompt is read once."""
        self._check(strategy, options)
        tree = Tree() if tree is None else tree
        prompt = tree.extend(ROOT, ids)
        limits = options.limits(
            self.tokenizer.eos_ids, self._token_bytes, self.tokenizer.vocab_size, self.model.context
        )
        seed = options.drawn_seed()
        return [
            Request(tree, prompt, limits, stream_of_seed(seed, index), options.logprobs) for index in range(options.n)
        ]

    def _check(self, strategy: Strategy, options: Options) -> None:
        if not hasattr(strategy, "decode"):
            raise ValueError(f"strategy must be one of Greedy(), Sample(), Beam(), Speculate(), got {strategy!r}")
        if isinstance(strategy, Beam) and options.n > 1:
            raise ValueError(f"n counts samples; for the {options.n} best beams use Beam({strategy.width}, n=...)")
        lender = getattr(getattr(strategy, "draft", None), "lm", None)
        if isinstance(lender, LM) and not lender.tokenizer.same_vocabulary(self.tokenizer):
            raise ValueError(
                f"the draft model {lender.name} has another vocabulary than {self.name}; "
                "a draft needs a model of the same family, or PromptLookup()"
            )

    def _run(self, requests: Sequence[Request], strategy: Strategy) -> Stream:
        return Stream(self.engine, requests, strategy, strategy.n if isinstance(strategy, Beam) else 0)


def _is_single(prompt: Any) -> bool:
    """Whether this is one text or one list of ids, and not a list of those."""
    return isinstance(prompt, str) or not any(isinstance(each, str | Sequence) for each in prompt)


def _succeeded(output: Output) -> Output:
    if output.error:
        raise output.error
    return output
