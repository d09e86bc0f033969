"""The llm tool: a prompt, a stream, a conversation that goes on, a schema.

Its models are those of the block in docs/serving.md, which benchmarks/clients.py has written.
"""

import json
import os
import subprocess

OPTIONS = ["-m", "nextok", "-o", "seed", "1", "-o", "max_tokens", "40"]


def llm(*words):
    return subprocess.run(["llm", *words], capture_output=True, check=True, text=True).stdout.strip()


llm("keys", "set", "nextok", "--value", os.environ["OPENAI_API_KEY"])
text = llm("Name a colour.", "--no-stream", *OPTIONS)
assert text
print("prompt")
assert llm("Name a colour.", *OPTIONS) == text
print("stream")
assert llm("-c", "And another one?", *OPTIONS)
assert len(json.loads(llm("logs", "-c", "--json"))) == 2
print("conversation continued")
schema = {"type": "object", "properties": {"name": {"enum": ["red", "green"]}}, "required": ["name"]}
schema["additionalProperties"] = False
assert json.loads(llm("A colour.", "--schema", json.dumps(schema), "--no-stream", *OPTIONS))["name"] in (
    "red",
    "green",
)
print("schema")
