"""The face of the library: a language model that generates, streams, chats and scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack, overload

from nextok.core.request import Limits, Request
from nextok.core.tree import ROOT, Tree
from nextok.engine.engine import Engine
from nextok.errors import LimitError
from nextok.generation.options import MOST_ALTERNATIVES, Options, Wishes, checked_ids, within
from nextok.generation.output import Output, Scores
from nextok.generation.stream import Stream
from nextok.models.base import Model
from nextok.sampling.seeds import stream as stream_of_seed
from nextok.strategies.base import Several, Strategy
from nextok.strategies.rescore import Silent
from nextok.strategies.sample import Greedy
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Messages = str | Sequence[Mapping[str, Any]]


class LM:
    """A model with its tokenizer and its engine. One thread at a time may use it.

    The options of `generate`, `stream` and `chat` are those of `Wishes`, with the meanings given there. Wrong ones
    raise ValueError before anything runs.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        name: str = "model",
        origin: str = "memory",
        costs: Callable[[int], float] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.origin = origin
        self.costs = costs  # seconds of a pass by its number of rows; unknown: drafts are as long as they may be
        self.engine = Engine(model, costs=costs)
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
        **options: Unpack[Wishes],
    ) -> Output: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]] | list[Prompt],
        strategy: Strategy = ...,
        **options: Unpack[Wishes],
    ) -> list[Output]: ...

    def generate(
        self,
        prompt: Any,
        strategy: Strategy = Greedy(),
        **options: Unpack[Wishes],
    ) -> Output | list[Output]:
        """Continue a text or token ids; a list of those gives a list of outputs, all through one engine.

        An error while running is raised for a single prompt; in a list it is in the `error` of its own output.
        """
        wishes = Options(**options)
        if _is_single(prompt):
            return _succeeded(self.start(self._ids(prompt), strategy, wishes).wait())
        requests = self._requests([self._ids(each) for each in prompt], strategy, wishes)
        streams = [self._run(each, strategy, wishes) for each in requests]
        try:
            return [stream.wait() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def stream(
        self,
        prompt: Prompt,
        strategy: Strategy = Greedy(),
        **options: Unpack[Wishes],
    ) -> Stream:
        """Continue one text or list of token ids, piece by piece."""
        return self.start(self._ids(prompt), strategy, Options(**options))

    def chat(
        self,
        messages: Messages,
        strategy: Strategy = Greedy(),
        **options: Unpack[Wishes],
    ) -> Output:
        """Answer messages (`role`, `content`), or a text said by the user, through the model's chat template."""
        return _succeeded(self.start(self.chat_ids(messages), strategy, Options(**options)).wait())

    def chat_ids(self, messages: Messages) -> list[int]:
        """The token ids of a conversation, up to where the model's answer begins."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        tokenizer = self.tokenizer
        text = render_chat(
            tokenizer.chat_template,
            messages,
            bos_token="" if tokenizer.bos_id is None else tokenizer.spell(tokenizer.bos_id),
            eos_token="" if tokenizer.eos_id is None else tokenizer.spell(tokenizer.eos_id),
        )
        return tokenizer.encode_chat(text)

    def score(self, text: Prompt, top: int = 0) -> Scores:
        """How probable each token of a text is, read in one pass, and the `top` best ones at each place."""
        tree, ids = Tree(), self._ids(text)
        if len(ids) > self.model.context:
            raise LimitError(f"the text has {len(ids)} tokens, more than the model's context of {self.model.context}")
        within("top", top, 0, MOST_ALTERNATIVES)
        request = Request(tree, tree.extend(ROOT, ids), Limits(), logprobs=top)
        output = _succeeded(Stream(self.engine, [request], Silent(), prompt_logprobs=True).wait())
        assert output.prompt_logprobs
        return output.prompt_logprobs

    def _ids(self, prompt: Prompt) -> list[int]:
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        return checked_ids(ids, self.model.vocab_size)

    def start(self, ids: list[int], strategy: Strategy, options: Options, tree: Tree | None = None) -> Stream:
        """Begin a generation from token ids, on its own tree or on one that has been read before."""
        [requests] = self._requests([ids], strategy, options, tree)
        return self._run(requests, strategy, options)

    def _requests(
        self, prompts: Sequence[list[int]], strategy: Strategy, options: Options, tree: Tree | None = None
    ) -> list[list[Request]]:
        """For each prompt one request for each sample, all on one tree, so that the prompt is read once."""
        self._check(strategy, options)
        limits = options.limits(
            self.tokenizer.eos_ids, self._token_bytes, self.tokenizer.vocab_size, self.model.context
        )
        masks = options.masks(self.tokenizer, self.model.vocab_size, limits.stop_ids)

        def samples(ids: list[int]) -> list[Request]:
            own, seed = Tree() if tree is None else tree, options.drawn_seed()
            prompt = own.extend(ROOT, ids)
            return [
                Request(own, prompt, limits, stream_of_seed(seed, index), options.logprobs, masks())
                for index in range(options.n)
            ]

        return [samples(ids) for ids in prompts]

    def _check(self, strategy: Strategy, options: Options) -> None:
        if not hasattr(strategy, "decode"):
            raise ValueError(f"strategy must be one of Greedy(), Sample(), Beam(), Speculate(), got {strategy!r}")
        if isinstance(strategy, Several) and options.n > 1:
            raise ValueError(
                f"n counts samples, got n={options.n} beside {strategy!r}; how many of its texts are returned is for "
                "the strategy to say, as in Beam(4, n=2)"
            )
        lender = getattr(getattr(strategy, "draft", None), "lm", None)
        if isinstance(lender, LM) and not lender.tokenizer.same_vocabulary(self.tokenizer):
            raise ValueError(
                f"the draft model {lender.name} has another vocabulary than {self.name}; "
                "a draft needs a model of the same family, or PromptLookup()"
            )

    def _run(self, requests: Sequence[Request], strategy: Strategy, options: Options) -> Stream:
        hypotheses = strategy.n if isinstance(strategy, Several) else 0
        return Stream(self.engine, requests, strategy, hypotheses, options.prompt_logprobs)


def _is_single(prompt: Any) -> bool:
    """Whether this is one text or one list of ids, and not a list of those."""
    return isinstance(prompt, str) or not any(isinstance(each, str | Sequence) for each in prompt)


def _succeeded(output: Output) -> Output:
    if output.error:
        raise output.error
    return output
