"""The state of a text in a grammar, and the tokens that may follow, by the library llguidance."""

import importlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from nextok.errors import DeadEndError
from nextok.extras import needed_for
from nextok.sampling.edits import Allow
from nextok.sampling.past import Past
from nextok.sampling.sampler import Transform
from nextok.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import llguidance

T = TypeVar("T")

SHALLOW = 1000
"""Number of characters of an expression that cannot be nested too deeply for the usual stack."""
STACK_BYTES = 256 << 20
"""Size of the compiler's stack: it calls itself as deep as the rules of a grammar refer to each other."""
MOST_STATES = 64
"""Number of states of one request from which on those of shorter texts are dropped."""

MOST_ITEMS = 30_000
"""Number of places of a grammar where a text may stand at once."""

_STACK_SIZE = threading.Lock()
_vocabularies: WeakKeyDictionary[Tokenizer, dict[int, "TextVocabulary"]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class TextVocabulary:
    """A tokenizer as llguidance sees it: its text tokens, and one token more, which ends a complete text."""

    tokenizer: "llguidance.LLTokenizer"
    text: int  # bit i is set where token i is text
    end: int  # id of the token that ends a text


@dataclass(slots=True)
class GrammarState:
    """The state of one text. `matcher` is None if the text has left the grammar."""

    length: int  # number of tokens of prompt and text
    matcher: "llguidance.LLMatcher | None"
    allowed: Allow | None = None  # computed when it is first needed


class CompiledGrammar:
    """A grammar over one vocabulary."""

    def __init__(self, vocabulary: TextVocabulary, start: "llguidance.LLMatcher", ends: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._start = start
        self._ends = sum(1 << token for token in ends)
        if not any(self.find_allowed(self.build_start(0)).mask):
            raise ValueError("no token of this vocabulary can begin a text that follows the grammar; use another one")

    def begin(self) -> "GrammarProgress":
        """The progress of one request's texts, from the beginning."""
        return GrammarProgress(self)

    def build_start(self, length: int) -> GrammarState:
        """The state before the first token of a text, after a prompt of so many tokens."""
        return GrammarState(length, self._start.deep_copy())

    def find_allowed(self, state: GrammarState) -> Allow:
        """The tokens that may come next; DeadEndError if finding them exceeds the limits."""
        if state.allowed is None:
            assert state.matcher
            mask = int.from_bytes(state.matcher.compute_bitmask(), "little")
            if state.matcher.is_error():
                _check_stuck(state.matcher)
                mask = 0
            complete = mask >> self._vocabulary.end & 1
            mask = mask & self._vocabulary.text | (self._ends if complete else 0)
            state.allowed = Allow(mask.to_bytes((mask.bit_length() + 7) // 8, "little"))
        return state.allowed


class GrammarProgress(Transform):
    """The states of one request's texts, by their nodes."""

    def __init__(self, grammar: CompiledGrammar) -> None:
        self._grammar = grammar
        self._states: dict[int, GrammarState] = {}
        self._trunk: GrammarState | None = (
            None  # the state of committed text, from which dropped states are computed again
        )

    def at(self, past: Past) -> Allow | None:
        """The tokens that may come next; None after a guess that has left the grammar, as no text goes through there.

        DeadEndError if the grammar is too complex to go on, or if the committed text has left it.
        """
        state = self._find_state(past)
        if state.matcher is None and not past.tail:
            raise DeadEndError("the text has left its grammar: a custom transform must not bring back removed tokens")
        return None if state.matcher is None else self._grammar.find_allowed(state)

    def permits(self, past: Past, token: int) -> bool:
        """Whether this token may come next."""
        try:
            allowed = self.at(past)
        except DeadEndError:
            return False
        return (
            allowed is not None
            and token >> 3 < len(allowed.mask)
            and bool(allowed.mask[token >> 3] >> (token & 7) & 1)
        )

    def _find_state(self, past: Past) -> GrammarState:
        if state := self._states.get(past.node):
            return state
        before = self._states.get(past.step[0]) if past.step else None
        if not past.tail:
            # This text is committed: states of other branches are dropped, and its own need not be copied.
            self._states = {node: each for node, each in self._states.items() if each.length > len(past)}
            state = self._trunk = _advance(before or self._find_base(past), past)
        else:
            if len(self._states) >= MOST_STATES:
                self._states = {node: each for node, each in self._states.items() if each.length >= len(past) - 1}
            state = _advance(_copy_state(before or self._find_base(past)), past)
        self._states[past.node] = state
        return state

    def _find_base(self, past: Past) -> GrammarState:
        """The longest committed beginning of this text of which the state is known."""
        if self._trunk is None or self._trunk.length > len(past.ledger.tokens):
            self._trunk = self._grammar.build_start(len(past.ledger.tokens) - past.ledger.generated.total())
        return self._trunk


def _copy_state(state: GrammarState) -> GrammarState:
    return GrammarState(state.length, state.matcher and state.matcher.deep_copy())


def _advance(state: GrammarState, past: Past) -> GrammarState:
    """The state of this text, computed from that of one of its beginnings, which is changed by that."""
    tokens = [past[place] for place in range(state.length, len(past))]
    if state.matcher is None or not tokens:
        return GrammarState(len(past), state.matcher)
    kept = state.matcher.try_consume_tokens(tokens)
    if state.matcher.is_error():
        _check_stuck(state.matcher)
        return GrammarState(len(past), state.matcher, Allow(b""))
    return GrammarState(len(past), state.matcher if kept == len(tokens) else None)


def _check_stuck(matcher: "llguidance.LLMatcher") -> None:
    """DeadEndError unless the failure is only that no token can come next, which the readout reports."""
    if not matcher.get_error().startswith("NoExtension"):
        raise DeadEndError(
            f"the grammar is too complex to go on: {_extract_reason(matcher.get_error())}; use a simpler one"
        )


def import_llguidance() -> ModuleType:
    """The library llguidance; NextokError if it is not installed."""
    with needed_for("a grammar"):
        return importlib.import_module("llguidance")


def find_fault(grammar: str) -> str:
    """What is wrong with a grammar over any vocabulary, in one line; empty if nothing is."""
    return _extract_reason(
        _run_deep(lambda: import_llguidance().LLMatcher.validate_grammar(grammar, limits=_make_limits()))
    )


@lru_cache(maxsize=4096)
def accepts_nothing(terminal: str) -> bool:
    """Whether there is no text at all that fits an expression of terminals; ValueError if it is too complex."""
    library = import_llguidance()
    grammar = f"start: A\nA: {terminal}\n"
    run = _run_deep if len(terminal) > SHALLOW else _run_here
    matcher = run(lambda: library.LLMatcher(_make_bytes(), grammar, log_level=0, limits=_make_limits()))
    if not matcher.is_error():
        mask = matcher.compute_bitmask()
        if not matcher.is_error():
            return not any(mask)
    if matcher.get_error().startswith("NoExtension"):
        return True
    raise ValueError(_extract_reason(matcher.get_error()))


@cache
def _make_bytes() -> Any:
    """A vocabulary of all bytes."""
    return import_llguidance().LLTokenizer("byte")


def compile_grammar(grammar: str, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]) -> CompiledGrammar:
    """A grammar over the ids below `vocab_size` of one vocabulary; ValueError if it cannot be used."""
    vocabulary = _find_vocabulary(tokenizer, vocab_size)
    start = _run_deep(
        lambda: import_llguidance().LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=_make_limits())
    )
    if start.is_error():
        raise ValueError(f"the grammar cannot be used: {_extract_reason(start.get_error())}")
    try:
        return CompiledGrammar(vocabulary, start, ends)
    except DeadEndError as error:
        raise ValueError(str(error)) from None


def _make_limits() -> Any:
    """The limits of a grammar's computation: some milliseconds for each of these, and some ten megabytes."""
    return import_llguidance().LLParserLimits(
        initial_lexer_fuel=200_000,
        step_lexer_fuel=100_000,
        max_lexer_states=50_000,
        max_items_in_row=MOST_ITEMS,
        step_max_items=10 * MOST_ITEMS,
        verbose_errors=False,
    )


def _extract_reason(error: str) -> str:
    """The line of an error that says what is wrong."""
    lines = [line.strip() for line in error.splitlines() if line.strip() not in ("", "<non-verbose/>")]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return re.split("; (?:following special|either increase)", (said or lines or [""])[0])[0][:200]


def _run_here(function: Callable[[], T]) -> T:
    return function()


def _run_deep(function: Callable[[], T]) -> T:
    """Run this on a stack of STACK_BYTES, as an overflow of the usual stack would end the process."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:
            answer.set_exception(error)

    with _STACK_SIZE:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
        finally:
            threading.stack_size(usual)
    return answer.result()


class _TokenizerAdapter:
    """The attributes and the call of a tokenizer that llguidance needs."""

    def __init__(self, tokenizer: Tokenizer, text: set[int]) -> None:
        size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = size, None
        self.special_token_ids = [token for token in range(size + 1) if token not in text]
        self.tokens = [
            tokenizer.token_bytes[token] if token in text else b"<%d>" % token for token in range(size + 1)
        ]
        self.is_tokenizer_wrapper = True

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(), special=False)


def _find_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> TextVocabulary:
    """The vocabulary as llguidance sees it, built once for each tokenizer: that takes a second for a large one."""
    known = _vocabularies.setdefault(tokenizer, {})
    if vocab_size not in known:
        size = min(vocab_size, tokenizer.vocab_size)
        text = {token for token in range(size) if tokenizer.token_bytes[token]} - tokenizer.control_ids
        bits = bytearray(size // 8 + 1)
        for token in text:
            bits[token >> 3] |= 1 << (token & 7)
        seen = import_llguidance().LLTokenizer(_TokenizerAdapter(tokenizer, text), eos_token=tokenizer.vocab_size)
        known[vocab_size] = TextVocabulary(seen, int.from_bytes(bits, "little"), tokenizer.vocab_size)
    return known[vocab_size]
