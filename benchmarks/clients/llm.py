"""The llm tool: a prompt, a stream, a conversation that goes on, a schema."""

import json
import os
import subprocess
from pathlib import Path

MODELS = """- model_id: nextok
  model_name: smollm2
  api_base: {place}
  supports_schema: true
"""
Path("extra-openai-models.yaml").write_text(MODELS.format(place=os.environ["OPENAI_BASE_URL"]))
OPTIONS = ["-m", "nextok", "-o", "seed", "1", "-o", "max_tokens", "40"]


def llm(*words):
    return subprocess.run(["llm", *words], capture_output=True, check=True, text=True).stdout.strip()


text = llm("Name a colour.", "--no-stream", *OPTIONS)
assert text
print("prompt")
assert llm("Name a colour.", *OPTIONS) == text
print("stream")
assert llm("-c", "And another one?", *OPTIONS)
assert len(json.loads(llm("logs", "-c", "--json"))) == 2
print("conversation continued")
answer = json.loads(llm("A dog.", "--schema", "name, age int", "--no-stream", *OPTIONS[:-1], "300"))
assert answer.keys() == {"name", "age"}
assert isinstance(answer["age"], int)
print("schema")
