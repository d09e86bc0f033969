"""The openai library: synchronous and asynchronous, streams, forms, tools, log-probabilities, errors."""

import asyncio
import json
import math
import sys
from typing import Literal

import openai
from pydantic import BaseModel

client = openai.OpenAI()  # address and key from the environment
BASE = {"model": "smollm2", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "seed": 1}
TOOL = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Weather.", "parameters": TOOL}}]


class Colour(BaseModel):
    name: Literal["red", "green"]
    bright: bool


text = client.chat.completions.create(**BASE).choices[0].message.content
assert text
assert client.chat.completions.create(**BASE, extra_body={"draft": "lookup"}).choices[0].message.content == text
print("synchronous")

parts = list(client.chat.completions.create(**BASE, stream=True, stream_options={"include_usage": True}))
assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == text
assert parts[-1].usage.completion_tokens > 0
print("streaming")


async def ask_many():
    async with openai.AsyncOpenAI() as other:
        answers = await asyncio.gather(*(other.chat.completions.create(**BASE) for _ in range(8)))
        assert {answer.choices[0].message.content for answer in answers} == {text}
        stream = await other.chat.completions.create(**BASE, stream=True)
        assert "".join([part.choices[0].delta.content or "" async for part in stream if part.choices]) == text


asyncio.run(ask_many())
print("asynchronous, 8 at once")

raw = client.chat.completions.with_raw_response.create(**BASE)
assert raw.status_code == 200
assert raw.parse().choices[0].message.content == text
print("raw response")

parsed = client.chat.completions.parse(**BASE | {"max_tokens": 200}, response_format=Colour).choices[0].message.parsed
assert isinstance(parsed, Colour)
print("parse")

messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
forced = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "weather"}}, "max_tokens": 100}
message = client.chat.completions.create(**BASE | forced | {"messages": messages}).choices[0].message
[call] = message.tool_calls
assert call.function.name == "weather"
assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
result = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 4}'}
messages += [message.model_dump(exclude_none=True), result]
final = client.chat.completions.create(**BASE | {"messages": messages, "tools": TOOLS, "tool_choice": "none"})
assert final.choices[0].message.content
print("tools, there and back")

scored = client.completions.create(model="smollm2", prompt="The sea is", max_tokens=3, echo=True, logprobs=2)
logprobs = scored.choices[0].logprobs
assert "".join(logprobs.tokens) == scored.choices[0].text
assert scored.choices[0].text.startswith("The sea is")
assert logprobs.token_logprobs[0] is None
assert all(each <= 0 and math.isfinite(each) for each in logprobs.token_logprobs[1:])
print("completions with echo and logprobs")

assert [model.id for model in client.models.list()] == ["smollm2"]
assert client.models.retrieve("smollm2").id == "smollm2"
print("models")

try:
    client.chat.completions.create(**BASE | {"temperature": -1})
    sys.exit("a bad temperature was taken")
except openai.BadRequestError as error:
    if error.param != "temperature":
        sys.exit(f"the error names {error.param}")
try:
    client.with_options(api_key="wrong").models.list()
    sys.exit("a wrong key was taken")
except openai.AuthenticationError as error:
    if error.code != "invalid_api_key":
        sys.exit(f"the error has the code {error.code}")
try:
    client.models.retrieve("nothing")
    sys.exit("an unknown model was found")
except openai.NotFoundError:
    print("errors")
