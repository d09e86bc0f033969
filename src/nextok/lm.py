"""The face of the library: a language model that generates, streams, chats and scores."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NoReturn, Unpack, overload

from nextok.chat.marks import Marks
from nextok.chat.prompt import ChatPrompt, write_prompt
from nextok.chat.turn import ChatTurn, begin_turn
from nextok.checks import check_ids, check_whole
from nextok.core.ending import Limits
from nextok.core.request import Request, check_prompt_length
from nextok.core.tree import ROOT, Tree
from nextok.engine.engine import Engine
from nextok.engine.runner import Runner
from nextok.engine.timing import Timing
from nextok.engine.waiter import Waiter
from nextok.errors import LimitError
from nextok.generation.chat_options import ChatOptions, TemplateOptions, TurnOptions, split_options
from nextok.generation.explain import check_strategy, explain_options
from nextok.generation.generation import Generation, all_finished, begin_all, cancel_all
from nextok.generation.options import MOST_ALTERNATIVES, CheckedOptions, GenerateOptions
from nextok.generation.output import Output, Outputs, Scores, make_failed_output
from nextok.generation.prompts import Prompt, check_prompt, encode_prompts, list_prompts
from nextok.generation.signature import show_options
from nextok.generation.stream import AsyncStream, Stream
from nextok.models.base import Model
from nextok.sampling.seeds import stream as stream_of_seed
from nextok.strategies.base import Strategy, facts_of
from nextok.strategies.rescore import Silent
from nextok.strategies.sample import Greedy
from nextok.text.tokenizer import Tokenizer

Messages = str | Sequence[Mapping[str, Any]]


class LM:
    """A model with its tokenizer and its engine.

    Any number of threads and asyncio tasks may call it at once: all their requests meet in one batch, and each text
    is the one that the request gets alone. Not from inside a strategy, draft or transform of the same LM. Wrong
    options raise ValueError before anything runs. `timing` learns what passes cost, for drafts. `cache_memory`: bytes
    of caches that are kept when their requests have ended. `seats`: texts that are written at once; others wait.
    `suggested`: how the model's makers sample from it, under the names of Sample's fields; nothing here applies it.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        name: str = "model",
        origin: str = "memory",
        timing: Timing | None = None,
        cache_memory: int = 0,
        seats: int = 32,
        suggested: Mapping[str, float] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.origin = origin
        self.suggested = dict(suggested or {})
        self.runner = Runner(Engine(model, seats=seats, timing=timing, cache_memory=cache_memory))
        # A model may have more rows than there are tokens, padded to a round number; those stand for nothing.
        padding = max(0, model.vocab_size - tokenizer.vocab_size)
        self._token_bytes = (*tokenizer.token_bytes, *[b""] * padding)

    def __repr__(self) -> str:
        return f"<LM {self.name}>"

    def __enter__(self) -> "LM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"an LM cannot be pickled; load {self.name} again where it is needed, with nextok.load(...)")

    @property
    def engine(self) -> Engine:
        """The engine, for the thread that owns it; NextokError once closed."""
        return self.runner.engine

    @property
    def model(self) -> Model:
        """The model; NextokError once closed."""
        return self.runner.engine.target

    def close(self) -> None:
        """End all requests and free the model; later calls raise NextokError."""
        self.runner.close()

    @overload
    def generate(  # type: ignore[overload-overlap]  # a str is an iterable of texts too
        self, prompt: Prompt, strategy: Strategy = ..., **options: Unpack[GenerateOptions]
    ) -> Output: ...

    @overload
    def generate(
        self, prompt: Iterable[Prompt], strategy: Strategy = ..., **options: Unpack[GenerateOptions]
    ) -> Outputs: ...

    @show_options
    def generate(
        self, prompt: Any, strategy: Strategy = Greedy(), **options: Unpack[GenerateOptions]
    ) -> Output | Outputs:
        """Continue a text or token ids; an iterable of those gives a list of outputs, all in one batch.

        The error of a single prompt is raised; of several, it is in the `error` of its own output, and
        `raise_for_error()` raises it.
        """
        checked = CheckedOptions(**options)
        single, prompts = list_prompts(prompt)
        if single:
            return self.start(self._encode(check_prompt(prompts[0])), strategy, checked).wait().raise_for_error()
        check_strategy(strategy)
        encoded = encode_prompts(prompts, self._encode)
        ready = [self._prepare(ids, strategy, checked) for ids in encoded if not isinstance(ids, Exception)]
        return _merge_outputs(encoded, self._run(ready))

    @show_options
    def stream(self, prompt: Prompt, strategy: Strategy = Greedy(), **options: Unpack[GenerateOptions]) -> Stream:
        """Continue one text or list of token ids, piece by piece."""
        checked = CheckedOptions(**options)
        return self.start(self._encode(check_prompt(prompt)), strategy, checked)

    @show_options
    def chat(self, messages: Messages, strategy: Strategy = Greedy(), **options: Unpack[ChatOptions]) -> Output:
        """Answer messages (`role`, `content`), or a text said by the user, through the model's chat template.

        A message can have OpenAI's further fields too: text parts, `tool_calls`, `tool_call_id`, `reasoning_content`.
        """
        given, checked = split_options(options)
        turn = self.begin_chat(messages, **given)
        output = self.start(turn.ids, strategy, checked.with_grammar(turn.grammar)).wait().raise_for_error()
        return read_messages(turn, output)

    def score(self, text: Prompt, top: int = 0) -> Scores:
        """How probable each token of a text is, read in one pass, and the `top` best ones at each place."""
        return self._scores(Stream(self.runner, self._scoring(text, top)).wait())

    @show_options
    async def agenerate(
        self, prompt: Any, strategy: Strategy = Greedy(), **options: Unpack[GenerateOptions]
    ) -> Output | Outputs:
        """`generate` for asyncio; a task that is cancelled ends its requests."""
        checked = CheckedOptions(**options)
        single, prompts = list_prompts(prompt)
        if single:
            stream = self._astart(lambda: self._encode(check_prompt(prompts[0])), strategy, checked)
            return (await stream.wait()).raise_for_error()
        check_strategy(strategy)
        encoded = await asyncio.to_thread(encode_prompts, prompts, self._encode)
        ready = [ids for ids in encoded if not isinstance(ids, Exception)]
        streams = [self._astart(lambda ids=ids: ids, strategy, checked) for ids in ready]  # type: ignore[misc]
        try:
            outputs = await asyncio.gather(*(stream.wait() for stream in streams))
        finally:
            for stream in streams:
                stream.close()
        return _merge_outputs(encoded, outputs)

    @show_options
    def astream(
        self, prompt: Prompt, strategy: Strategy = Greedy(), **options: Unpack[GenerateOptions]
    ) -> AsyncStream:
        """`stream` for asyncio: `async for piece in lm.astream(...)`."""
        checked = CheckedOptions(**options)
        return self._astart(lambda: self._encode(check_prompt(prompt)), strategy, checked)

    @show_options
    async def achat(
        self, messages: Messages, strategy: Strategy = Greedy(), **options: Unpack[ChatOptions]
    ) -> Output:
        """`chat` for asyncio."""
        given, checked = split_options(options)
        turn = await asyncio.to_thread(lambda: self.begin_chat(messages, **given))
        stream = self._astart(lambda: turn.ids, strategy, checked.with_grammar(turn.grammar))
        return read_messages(turn, (await stream.wait()).raise_for_error())

    async def ascore(self, text: Prompt, top: int = 0) -> Scores:
        """`score` for asyncio."""
        return self._scores(await self.astream_scores(text, top).wait())

    def astream_scores(self, text: Prompt, top: int = 0) -> AsyncStream:
        """A stream without pieces; its output has the scores of a text as `prompt_logprobs`."""
        return AsyncStream(self.runner, lambda: self._scoring(text, top))

    @show_options
    def chat_ids(self, messages: Messages, **options: Unpack[TemplateOptions]) -> list[int]:
        """The token ids of a conversation, up to where the model's answer begins."""
        return self.write_prompt(messages, **options).ids

    @show_options
    def begin_chat(self, messages: Messages, **options: Unpack[TurnOptions]) -> ChatTurn:
        """What an answer needs: the prompt's ids, the grammar of a forced call, and how it is read as a message."""
        if unknown := {name: value for name, value in options.items() if name not in TurnOptions.__annotations__}:
            raise ValueError(explain_options(unknown, [*TurnOptions.__annotations__]))
        return begin_turn(self._marks, messages, **options)

    @show_options
    def write_prompt(self, messages: Messages, **options: Unpack[TemplateOptions]) -> ChatPrompt:
        """The text of a conversation as its template writes it, and its token ids."""
        if unknown := {name: value for name, value in options.items() if name not in TemplateOptions.__annotations__}:
            raise ValueError(explain_options(unknown, [*TemplateOptions.__annotations__]))
        return write_prompt(self._marks, messages, **options)

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self.tokenizer)

    def start(
        self,
        ids: list[int],
        strategy: Strategy,
        options: CheckedOptions,
        tree: Tree | None = None,
        on_finish: Callable[[Output], object] | None = None,
    ) -> Stream:
        """Begin a generation from token ids, on its own tree or on one that has been read before.

        `on_finish` gets the output once, when every choice has ended by itself.
        """
        return Stream(self.runner, self._prepare(ids, strategy, options, tree), on_finish)

    def _astart(self, ids: Callable[[], list[int]], strategy: Strategy, options: CheckedOptions) -> AsyncStream:
        self._check(strategy, options)
        return AsyncStream(self.runner, lambda: self._prepare(ids(), strategy, options))

    def _encode(self, prompt: str | list[int]) -> list[int]:
        """A prompt as token ids; ValueError or LimitError if nothing can be generated after them."""
        ids = self._check_ids(prompt)
        if not ids:
            raise ValueError("the prompt is empty; give at least one token")
        check_prompt_length(len(ids), self.model.context)
        return ids

    def _check_ids(self, prompt: str | list[int]) -> list[int]:
        return check_ids(self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt, self.model.vocab_size)

    def _prepare(
        self, ids: list[int], strategy: Strategy, options: CheckedOptions, tree: Tree | None = None
    ) -> Generation:
        """All of a generation that needs no engine; its samples share a tree, so the prompt is read once."""
        self._check(strategy, options)
        check_prompt_length(len(ids), self.model.context)
        limits = options.make_limits(
            self.tokenizer.eos_ids, self._token_bytes, self.tokenizer.vocab_size, self.model.context
        )
        masks = options.make_masks(self.tokenizer, self.model.vocab_size, limits.stop_ids)
        seed = options.draw_seed()

        def build() -> list[Request]:
            own = Tree() if tree is None else tree
            prompt = own.extend(ROOT, ids)
            seeds = [stream_of_seed(seed, index) for index in range(options.n)]
            return [Request(own, prompt, limits, each, options.logprobs, masks(), self.tokenizer) for each in seeds]

        return Generation(build, strategy, facts_of(strategy).texts(), options.prompt_logprobs, options.timeout)

    def _scoring(self, text: Prompt, top: int) -> Generation:
        ids = self._check_ids(check_prompt(text))
        if len(ids) > self.model.context:
            raise LimitError(f"the text has {len(ids)} tokens, more than the model's context of {self.model.context}")
        check_whole("top", top, 0, MOST_ALTERNATIVES)

        def build() -> list[Request]:
            tree = Tree()
            return [Request(tree, tree.extend(ROOT, ids), Limits(), logprobs=top)]

        return Generation(build, Silent(), prompt_logprobs=True)

    def _scores(self, output: Output) -> Scores:
        scores = output.raise_for_error().prompt_logprobs
        assert scores
        return scores

    def _run(self, generations: list[Generation]) -> list[Output]:
        """Run them all to their ends, in one batch."""
        waiter, runner = Waiter(), self.runner
        for generation in generations:
            generation.never_pause()
            generation.listen(waiter.notice)
        try:
            runner.do(lambda engine: begin_all(engine, generations))
            runner.watch()
            runner.drive(lambda: all_finished(generations), waiter)
        except BaseException:
            runner.do(lambda engine: cancel_all(engine, generations))
            raise
        return [generation.output() for generation in generations]

    def _check(self, strategy: Strategy, options: CheckedOptions) -> None:
        check_strategy(strategy)
        facts = facts_of(strategy)
        if facts.texts() and options.n > 1:
            raise ValueError(
                f"n counts samples, got n={options.n} beside {strategy!r}; how many of its texts are returned is for "
                "the strategy to say, as in Beam(4, n=2)"
            )
        for other in facts.models():
            if isinstance(other, LM) and not other.tokenizer.same_vocabulary(self.tokenizer):
                raise ValueError(
                    f"the draft model {other.name} has another vocabulary than {self.name}; "
                    "a draft needs a model of the same family, or PromptLookup()"
                )


def read_messages(turn: ChatTurn, output: Output) -> Output:
    """The same output, in which each text is a message as well."""
    choices = [replace(each, message=turn.read(each.text, each.tokens)) for each in output.choices]
    return replace(output, choices=tuple(choices))


def _merge_outputs(encoded: Sequence[list[int] | Exception], outputs: Iterable[Output]) -> Outputs:
    """All outputs in the order of their prompts: of those that could not be begun, the error."""
    rest = iter(outputs)
    return Outputs(make_failed_output(each) if isinstance(each, Exception) else next(rest) for each in encoded)
