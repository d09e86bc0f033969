"""Where has the end of this text occurred before? Answered after every token in constant time."""

from collections.abc import Iterable

RECENT = 16
"""Number of states, from that of the longest run at the text's end, whose latest place is updated with each token.

The place of a shorter run may be an older one: updating all of them would cost time in proportion to the text.
"""

BREAK = -1
"""The mark between two texts; it is no token."""


class SuffixAutomaton:
    """All runs of tokens in a text, as the smallest automaton that knows them (Blumer et al. 1985).

    It grows token by token, in amortised constant time. State 0 is the empty run.
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self.length = [0]  # of a state's longest run
        self.link = [-1]  # to the state of the longest shorter run that ends in more places
        self.after = [0]  # the place that follows a state's latest known occurrence
        self.next: list[dict[int, int]] = [{}]
        self.match = 0  # how many tokens at the end have occurred before
        self.place = 0  # what followed them there
        self._last = 0
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on with `token`."""
        self.tokens.append(token)
        size, state = len(self.tokens), self._last
        self._last = self._add_state(size, 0, size, {})
        while state != -1 and token not in self.next[state]:
            self.next[state][token] = self._last
            state = self.link[state]
        known = 0 if state == -1 else self._find_or_split(state, token)
        self.link[self._last] = known
        self.match, self.place = self.length[known], self.after[known]
        for _ in range(RECENT):
            if known <= 0:
                break
            self.after[known] = size
            known = self.link[known]

    def _find_or_split(self, state: int, token: int) -> int:
        """The state of the longest run at `state` followed by `token`, split off if longer ones share it."""
        whole = self.next[state][token]
        if self.length[whole] == self.length[state] + 1:
            return whole
        split = self._add_state(self.length[state] + 1, self.link[whole], self.after[whole], dict(self.next[whole]))
        self.link[whole] = split
        while state != -1 and self.next[state].get(token) == whole:
            self.next[state][token] = split
            state = self.link[state]
        return split

    def _add_state(self, length: int, link: int, after: int, following: dict[int, int]) -> int:
        self.length.append(length)
        self.link.append(link)
        self.after.append(after)
        self.next.append(following)
        return len(self.length) - 1


class Cursor:
    """Walks through another text along an automaton: how much of that text's end occurs in the automaton's?"""

    def __init__(self, automaton: SuffixAutomaton) -> None:
        self.automaton = automaton
        self.match = 0
        self._state = 0

    @property
    def place(self) -> int:
        """What follows the latest known occurrence."""
        return self.automaton.after[self._state]

    def step(self, token: int) -> None:
        """The other text goes on with `token`."""
        automaton, state = self.automaton, self._state
        # The automaton may have grown since: a run now belongs to a state that was split off.
        while state and self.match <= automaton.length[automaton.link[state]]:
            state = automaton.link[state]
        while state and token not in automaton.next[state]:
            state = automaton.link[state]
            self.match = automaton.length[state]
        if token in automaton.next[state]:
            state, self.match = automaton.next[state][token], self.match + 1
        self._state = state


def copy_from(tokens: list[int], place: int, count: int) -> list[int]:
    """Up to `count` tokens from `place` on; past the end come those again that this text would repeat."""
    found: list[int] = []
    for at in range(place, place + count):
        token = tokens[at] if at < len(tokens) else found[at - len(tokens)]
        if token == BREAK:
            break
        found.append(token)
    return found
