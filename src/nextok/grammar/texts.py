"""Sets of JSON texts, as expressions of llguidance's terminals, and whether there is any text in one."""

from dataclasses import dataclass
from typing import Any

from nextok.grammar.formats import NO_PATTERN, PATTERNS
from nextok.grammar.keywords import refuse
from nextok.grammar.matching import accepts_nothing
from nextok.grammar.pattern_reader import ALL
from nextok.grammar.patterns import quote_letters, quote_text, translate_pattern

MOST_LENGTH = 8000
"""Largest number of characters of a text that has a bound; a longer bound is taken for this one."""

MOST_TOGETHER = 8
"""Largest number of patterns, formats and bounds that one text must keep."""

ANY_TEXT = f"{quote_letters(ALL)}*"


@dataclass(frozen=True, slots=True)
class Texts:
    """The JSON of texts (without the quotes) that all of `needed` match and none of `banned`."""

    needed: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()

    def add(self, needed: tuple[str, ...] = (), banned: tuple[str, ...] = ()) -> "Texts":
        """Those that are in these, too, and not in those."""
        return Texts(tuple(dict.fromkeys(self.needed + needed)), tuple(dict.fromkeys(self.banned + banned)))

    def write(self) -> str:
        """The expression of the quoted texts."""
        needed = [f'/"{each}"/' for each in self.needed or (ANY_TEXT,)]
        return " & ".join(needed + ([f'~/"(?:{"|".join(self.banned)})"/'] if self.banned else []))

    def is_empty(self, where: str) -> bool:
        """Whether there is no such text; ValueError, which names the place, if that is too hard to find out."""
        if len(self.needed) < 2 and not self.banned:
            return False
        if len(self.needed) > MOST_TOGETHER:
            raise refuse(where, f"one text must keep over {MOST_TOGETHER} patterns, formats and lengths; use fewer")
        try:
            return accepts_nothing(self.write())
        except ValueError as error:
            raise refuse(where, f"its texts are too complex ({error!s:.80}); use simpler patterns") from None


def list_rules(rules: dict[str, Any], where: str, wide: bool) -> Texts:
    """The texts that these keywords allow; more than these where `wide`."""
    needed = []
    least, most = int(rules.get("minLength", 0)), rules.get("maxLength")
    if least or most is not None:
        bound = None if most is None else min(int(most), MOST_LENGTH)
        if bound is not None and least > bound:
            return Texts((ANY_TEXT,), (ANY_TEXT,))
        needed.append(f"{quote_letters(ALL)}{{{least},{'' if bound is None else bound}}}")
    if "pattern" in rules:
        needed.append(translate(rules["pattern"], f"{where}/pattern", wide))
    if "format" in rules and rules["format"] not in NO_PATTERN:
        if rules["format"] not in PATTERNS:
            known = ", ".join(sorted(PATTERNS))
            raise refuse(
                f"{where}/format", f"{rules['format']!r:.40} is no known format; use pattern, or one of {known}"
            )
        if not wide:
            needed.append(translate_pattern(f"^(?:{PATTERNS[rules['format']]})$"))
    return Texts(tuple(needed))


def translate(pattern: str, where: str, wide: bool) -> str:
    """The texts in which a pattern is found; ValueError if it cannot be translated."""
    try:
        return translate_pattern(pattern, wide)
    except ValueError as error:
        raise refuse(where, f"the pattern {pattern!r:.40} cannot be used: {error!s:.100}") from None


def find_in(pattern: str, text: str, where: str) -> bool:
    """Whether a pattern is found in a text; ValueError where Python and ECMAScript may differ."""
    literal = quote_text(text)
    if not Texts((translate_pattern(pattern), literal)).is_empty(where):
        return True
    if not Texts((translate_pattern(pattern, True), literal)).is_empty(where):
        raise refuse(where, f"Python and ECMAScript may differ on whether {pattern!r:.40} is found in {text!r:.40}")
    return False
