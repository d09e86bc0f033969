"""How far a text has come in a grammar, and which tokens may follow: by the library llguidance."""

import importlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
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

STACK = 256 << 20  # bytes for the compiler, which descends as deep as the rules of a grammar refer to each other
SPARE = 64  # states of one request that are kept without asking whether they are still of use

_STACK_SIZE = threading.Lock()
_vocabularies: WeakKeyDictionary[Tokenizer, dict[int, "Vocabulary"]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer as llguidance sees it: only its text, and one token more, by which a complete text ends."""

    tokenizer: "llguidance.LLTokenizer"
    text: int  # bit i: token i is text
    end: int


@dataclass(slots=True)
class State:
    """Where one text stands. `matcher` is None if the text has left the grammar."""

    length: int  # of prompt and text, in tokens
    matcher: "llguidance.LLMatcher | None"
    allowed: Allow | None = None  # found when it is first asked for


class Compiled:
    """A grammar over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, start: "llguidance.LLMatcher", ends: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._start = start
        self._ends = sum(1 << token for token in ends)
        if not any(self.allowed(self.start(0)).mask):
            raise ValueError("no token of this vocabulary can begin a text that follows the grammar; use another one")

    def begin(self) -> "Progress":
        """Follow one text."""
        return Progress(self)

    def start(self, length: int) -> State:
        """Before the first token of a text, behind a prompt of this length."""
        return State(length, self._start.deep_copy())

    def allowed(self, state: State) -> Allow:
        """The tokens that may come next; DeadEndError if finding them takes more than may be spent on it."""
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


class Progress(Transform):
    """How far one request's texts have come, node by node."""

    def __init__(self, grammar: Compiled) -> None:
        self._grammar = grammar
        self._states: dict[int, State] = {}
        self._trunk: State | None = None  # of committed text, from where a forgotten state is found again

    def at(self, past: Past) -> Allow | None:
        """The tokens that may come next; None after a guess that has left the grammar, as no text will come there.

        DeadEndError if the grammar is too complex to go on, or if the committed text has left it.
        """
        state = self._state(past)
        if state.matcher is None and not past.tail:
            raise DeadEndError("the text has left its grammar: a custom transform must not bring back removed tokens")
        return None if state.matcher is None else self._grammar.allowed(state)

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

    def _state(self, past: Past) -> State:
        if state := self._states.get(past.node):
            return state
        before = self._states.get(past.step[0]) if past.step else None
        if not past.tail:
            # The text is here to stay: other ways to this place are dead, and what led here need not be copied.
            self._states = {node: each for node, each in self._states.items() if each.length > len(past)}
            state = self._trunk = _after(before or self._base(past), past)
        else:
            if len(self._states) >= SPARE:
                self._states = {node: each for node, each in self._states.items() if each.length >= len(past) - 1}
            state = _after(_copy(before or self._base(past)), past)
        self._states[past.node] = state
        return state

    def _base(self, past: Past) -> State:
        """The longest committed beginning of this text of which the state is known."""
        if self._trunk is None or self._trunk.length > len(past.ledger.tokens):
            self._trunk = self._grammar.start(len(past.ledger.tokens) - past.ledger.generated.total())
        return self._trunk


def _copy(state: State) -> State:
    return State(state.length, state.matcher and state.matcher.deep_copy())


def _after(state: State, past: Past) -> State:
    """The state of this text, from that of one of its beginnings, which is used up."""
    tokens = [past[place] for place in range(state.length, len(past))]
    if state.matcher is None or not tokens:
        return State(len(past), state.matcher)
    kept = state.matcher.try_consume_tokens(tokens)
    if state.matcher.is_error():
        _check_stuck(state.matcher)
        return State(len(past), state.matcher, Allow(b""))
    return State(len(past), state.matcher if kept == len(tokens) else None)


def _check_stuck(matcher: "llguidance.LLMatcher") -> None:
    """DeadEndError unless what failed is only that no token can come next, of which the readout tells."""
    if not matcher.get_error().startswith("NoExtension"):
        raise DeadEndError(f"the grammar is too complex to go on: {_reason(matcher.get_error())}; use a simpler one")


def library() -> ModuleType:
    """llguidance, which is not always installed."""
    with needed_for("a grammar"):
        return importlib.import_module("llguidance")


def fault(grammar: str) -> str:
    """What is wrong with a grammar over any vocabulary, in one line; empty if nothing is."""
    return _reason(_deep(lambda: library().LLMatcher.validate_grammar(grammar, limits=_limits())))


def compiled(grammar: str, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]) -> Compiled:
    """A grammar over one vocabulary, of which ids from `vocab_size` on do not count."""
    vocabulary = _vocabulary(tokenizer, vocab_size)
    start = _deep(lambda: library().LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=_limits()))
    if start.is_error():
        raise ValueError(f"the grammar cannot be used: {_reason(start.get_error())}")
    try:
        return Compiled(vocabulary, start, ends)
    except DeadEndError as error:
        raise ValueError(str(error)) from None


def _limits() -> Any:
    """What a grammar may cost: some milliseconds for each of these, and some ten megabytes."""
    return library().LLParserLimits(
        initial_lexer_fuel=200_000, step_lexer_fuel=100_000, max_lexer_states=50_000, verbose_errors=False
    )


def _reason(error: str) -> str:
    """The line of an error that says what is wrong."""
    lines = [line.strip() for line in error.splitlines() if line.strip() not in ("", "<non-verbose/>")]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return re.split("; (?:following special|either increase)", (said or lines or [""])[0])[0][:200]


def _deep(function: Callable[[], T]) -> T:
    """Run this on a stack of its own, as it would end the process where it overflows the usual one."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:
            answer.set_exception(error)

    with _STACK_SIZE:
        usual = threading.stack_size(STACK)
        try:
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
        finally:
            threading.stack_size(usual)
    return answer.result()


class _Spelling:
    """What llguidance wants to know of a tokenizer."""

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


def _vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """Found once for each tokenizer, which takes a second for a large one."""
    known = _vocabularies.setdefault(tokenizer, {})
    if vocab_size not in known:
        size = min(vocab_size, tokenizer.vocab_size)
        text = {token for token in range(size) if tokenizer.token_bytes[token]} - tokenizer.control_ids
        bits = bytearray(size // 8 + 1)
        for token in text:
            bits[token >> 3] |= 1 << (token & 7)
        seen = library().LLTokenizer(_Spelling(tokenizer, text), eos_token=tokenizer.vocab_size)
        known[vocab_size] = Vocabulary(seen, int.from_bytes(bits, "little"), tokenizer.vocab_size)
    return known[vocab_size]
