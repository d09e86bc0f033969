"""litellm: completion, stream, tools, asyncio, a wrong key."""

import asyncio
import json
import os
import sys

import litellm

litellm.suppress_debug_info = True

PLACE = {"model": "openai/smollm2", "api_base": os.environ["OPENAI_BASE_URL"]}
BASE = {**PLACE, "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 60, "seed": 1}
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]

text = litellm.completion(**BASE).choices[0].message.content
assert text
print("completion")
assert "".join(part.choices[0].delta.content or "" for part in litellm.completion(**BASE, stream=True)) == text
print("stream")
assert asyncio.run(litellm.acompletion(**BASE)).choices[0].message.content == text
print("asyncio")
answer = litellm.completion(**BASE, tools=TOOLS, tool_choice="required")
calls = answer.choices[0].message.tool_calls
assert calls
assert all(json.loads(call.function.arguments)["city"] in ("Oslo", "Rome") for call in calls)
print("tools")
try:
    litellm.completion(**BASE, api_key="wrong")
    sys.exit("a wrong key was taken")
except litellm.AuthenticationError:
    print("wrong key")
