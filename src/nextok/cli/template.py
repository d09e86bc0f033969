"""The options of what a chat template gets besides the messages."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from nextok.cli.flags import option
from nextok.cli.prompts import clean
from nextok.cli.text import read_file

if TYPE_CHECKING:
    from nextok.generation.chat_options import TurnOptions

PANEL = "Chat template"


@dataclass(frozen=True, slots=True)
class TemplateFlags:
    """What a chat template gets besides the messages."""

    tools: Annotated[
        str | None, option("--tools", metavar="FILE", text="Functions to call: a JSON list of tools.", panel=PANEL)
    ] = None
    chat_template_kwargs: Annotated[
        str | None,
        option("--chat-template-kwargs", metavar="JSON", text="Its variables, as a JSON object.", panel=PANEL),
    ] = None
    allow_special: Annotated[
        bool, option("--allow-special", text="Control tokens in a message count as such.", panel=PANEL)
    ] = False

    def read_options(self) -> "TurnOptions":
        """The library's options; ValueError if one is wrong or a file cannot be read."""
        from nextok.chat.settings import read_template_values, read_tools

        options: TurnOptions = {"allow_special": self.allow_special}
        if self.tools is not None:
            options["tools"] = read_tools(_parse("--tools", read_file("--tools", self.tools)))
        if self.chat_template_kwargs is not None:
            values = _parse("--chat-template-kwargs", clean(self.chat_template_kwargs))
            options["chat_template_kwargs"] = read_template_values(values)
        return options

    def refuse_with_raw(self) -> None:
        """ValueError if one is given, since text that is continued as it is has no template."""
        given = {"--tools": self.tools, "--chat-template-kwargs": self.chat_template_kwargs}
        for flag, value in given.items():
            if value is not None:
                raise ValueError(f"--raw and {flag} contradict each other: leave one of them out")


def _parse(flag: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{flag} takes JSON, and this is none: {str(error)[:80]}") from None
