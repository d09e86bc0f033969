"""Real clients of OpenAI's API, unmodified, against a real `nextok serve`.

    python benchmarks/clients.py [--only NAME ...]

Each client gets a virtual environment of its own, which is kept in ~/.cache/nextok/clients, and its program
`benchmarks/clients/NAME.py` runs there, then the blocks of docs/serving.md that are marked with its name. A program
prints what it checked, one line each, and ends with a status other than 0 at the first wrong answer. One table is
printed; the status is 1 if a client failed. A client that cannot be installed is told and is not a failure.

The template of smollm2 takes no tools, so the server runs with the template `benchmarks/clients/template.jinja`.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from serving_tools import free_port, nextok_command

import nextok as nt
from nextok.hub import resolve
from nextok.text.to_folder import SETTINGS, TEMPLATE, write_tokenizer

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "nextok" / "clients"
PAGE = HERE.parent / "docs" / "serving.md"
PAGE_ADDRESS, PAGE_KEY = "http://127.0.0.1:8000", "KEY"
MOST_SECONDS = 300
"""Longest time, in seconds, that one program may take."""


@dataclass(frozen=True)
class Client:
    """A client: the name of its program and its page blocks, and the package to install, if any."""

    name: str
    package: str = ""
    version: str = ""
    extra: str = ""
    beside: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return CACHE / f"{self.package}-{self.version}"


CLIENTS = (
    Client("curl"),
    Client("openai", "openai", "2.54.0"),
    Client("openai", "openai", "3.57.0"),
    Client("langchain", "langchain-openai", "1.7.4"),
    Client("llm", "llm", "0.36"),
    Client("litellm", "litellm", "1.110.2"),
    Client("lm_eval", "lm-eval", "0.4.13", "[api]", ("transformers==5.23.0",)),
)


def install(client: Client) -> str:
    """Make the client's environment unless it is there; what pip says last if that fails, else nothing."""
    if not client.package:
        return "" if shutil.which(client.name) else f"{client.name} is not on this machine"
    done = client.folder / "installed"
    if done.exists():
        return ""
    subprocess.run([sys.executable, "-m", "venv", client.folder], check=True)
    wanted = [f"{client.package}{client.extra}=={client.version}", *client.beside]
    command = [client.folder / "bin" / "pip", "install", "--quiet", *wanted]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return (result.stderr.strip().splitlines() or ["pip failed"])[-1]
    done.touch()
    return ""


def write_tools_tokenizer(folder: Path) -> None:
    """Write the tokenizer of smollm2 as a Hugging Face folder, with a template that takes tools."""
    with nt.load("smollm2") as lm:
        write_tokenizer(folder, resolve("smollm2").path, lm.tokenizer)
    settings = json.loads((folder / SETTINGS).read_text())
    settings.pop("chat_template", None)
    (folder / SETTINGS).write_text(json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    shutil.copy(HERE / "clients" / "template.jinja", folder / TEMPLATE)


def start_server(key: str, tokenizer: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server as a process, once it is ready; its address."""
    port = free_port()
    flags = {"tokenizer": tokenizer, "draft": "lookup=prompt-lookup", "api_key": key}
    server = subprocess.Popen(nextok_command("smollm2", port, **flags))
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/ready")
            return server, address
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    server.kill()
    sys.exit("the server does not start")


def write_blocks(name: str, address: str, key: str, folder: Path) -> list[list[str]]:
    """Write the blocks of the page that are marked with a client's name; the commands that run them."""
    page, commands = PAGE.read_text(encoding="utf-8"), []
    for kind, block in re.findall(rf"```(python|sh|yaml) {name}\n(.*?)```", page, re.DOTALL):
        text = block.replace(PAGE_ADDRESS, address).replace(f'"{PAGE_KEY}"', f'"{key}"')
        if kind == "yaml":  # the file that the llm tool reads
            (folder / "extra-openai-models.yaml").write_text(text)
            continue
        path = folder / f"block{len(commands)}.{'py' if kind == 'python' else 'sh'}"
        path.write_text(text if kind == "python" else f"set -e\n{text}")
        commands.append(["python" if kind == "python" else "sh", str(path)])
    return commands


def run_client(client: Client, address: str, key: str, tokenizer: Path) -> tuple[list[str], str]:
    """What a client's program and blocks checked, and the last line of the one that failed, if any."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            **os.environ,
            "NEXTOK_ADDRESS": address,
            "NEXTOK_PYTHON": sys.executable,
            "NEXTOK_TOKENIZER": str(tokenizer),
            "OPENAI_API_KEY": key,
            "OPENAI_BASE_URL": f"{address}/v1",
            "LLM_USER_PATH": name,
            "HF_HUB_OFFLINE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        settings["PATH"] = f"{client.folder / 'bin' if client.package else HERE}:{os.environ['PATH']}"
        python = str(client.folder / "bin" / "python") if client.package else sys.executable
        blocks = write_blocks(client.name, address, key, folder)
        checked = []
        # -P: the programs have the names of the libraries that they import
        for place, command in enumerate([["python", str(HERE / "clients" / f"{client.name}.py")], *blocks]):
            words = [python, "-P", *command[1:]] if command[0] == "python" else command
            try:
                result = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    cwd=folder,
                    env=settings,
                    capture_output=True,
                    text=True,
                    timeout=MOST_SECONDS,
                )
            except subprocess.TimeoutExpired:
                return checked, f"more than {MOST_SECONDS} seconds"
            if place == 0:
                checked += result.stdout.splitlines()
            if result.returncode:
                sys.stderr.write(result.stderr)
                return checked, (result.stderr.strip().splitlines() or ["no message"])[-1]
        return [*checked, f"{len(blocks)} blocks of docs/serving.md"] if blocks else checked, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of clients")
    only = parser.parse_args().only
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is ended too
    key, tokenizer = secrets.token_urlsafe(), Path(tempfile.mkdtemp())
    write_tools_tokenizer(tokenizer)
    server, address = start_server(key, tokenizer)
    rows, failed = [], False
    try:
        for client in CLIENTS:
            if only and client.name not in only:
                continue
            if missing := install(client):
                rows.append((client, [], f"not installed: {missing}"))
                continue
            checked, wrong = run_client(client, address, key, tokenizer)
            failed = failed or bool(wrong)
            rows.append((client, checked, f"FAILED: {wrong}" if wrong else "right"))
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(tokenizer)
    print("| client | version | checked | result |\n|---|---|---|---|")
    for client, checked, result in rows:
        print(f"| {client.package or client.name} | {client.version} | {'; '.join(checked)} | {result} |")
    sys.exit(failed)


if __name__ == "__main__":
    main()
