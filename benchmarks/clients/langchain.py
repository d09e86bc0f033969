"""LangChain's ChatOpenAI and OpenAI: invoke, stream, a form, tools, plain completions, asyncio."""

import asyncio
import os
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

PLACE = {"model": "smollm2", "base_url": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
QUESTION = "Name a colour."
chat = ChatOpenAI(**PLACE, max_tokens=100, seed=1, temperature=0.7)


class Colour(BaseModel):
    """A colour."""

    name: Literal["red", "green"]


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """The weather of a city."""
    return f"rain in {city}"


text = chat.invoke(QUESTION).content
assert text
print("invoke")
assert "".join(piece.content for piece in chat.stream(QUESTION)) == text
print("stream")
assert asyncio.run(chat.ainvoke(QUESTION)).content == text
print("asyncio")
for method in ("json_schema", "function_calling"):
    assert chat.with_structured_output(Colour, method=method).invoke(QUESTION).name in ("red", "green")
print("with_structured_output, two methods")

question = HumanMessage("What is the weather in Oslo?")
message = chat.bind_tools([weather], tool_choice="weather").invoke([question])
[call] = message.tool_calls
result = weather.invoke(call["args"])
assert result.startswith("rain in ")
assert chat.invoke([question, message, ToolMessage(result, tool_call_id=call["id"])]).content
print("bind_tools, there and back")

plain = OpenAI(**PLACE, max_tokens=8, seed=1, temperature=0.7)
text = plain.invoke("The sea is")
assert text
assert "".join(plain.stream("The sea is")) == text
print("completions")
