"""curl: a chat, a stream, a wrong key."""

import json
import os
import subprocess

ADDRESS, KEY = os.environ["NEXTOK_ADDRESS"], os.environ["OPENAI_API_KEY"]
BODY = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "seed": 1}


def ask(body, key=KEY, *options):
    command = ["curl", "-sN", *options, "-H", f"Authorization: Bearer {key}", "-d", json.dumps(body)]
    command.append(f"{ADDRESS}/v1/chat/completions")
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


text = json.loads(ask(BODY))["choices"][0]["message"]["content"]
assert text
print("chat")

lines = [line.removeprefix("data: ") for line in ask(BODY | {"stream": True}).splitlines() if line]
assert lines[-1] == "[DONE]"
assert len(lines) > 3
assert "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]) == text
print("stream")

assert ask(BODY, "wrong", "-o", os.devnull, "-w", "%{http_code}") == "401"
print("wrong key")
