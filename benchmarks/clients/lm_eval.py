"""lm-eval's local-completions: multiple choice and rolling log-likelihoods of a local task, beside nextok's own."""

import json
import os
import subprocess
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

CHOICES = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: {text}
doc_to_target: {target}
{more}
"""
ROWS = [
    {
        "question": "The capital of France is",
        "choices": ["Paris", "a small boat"],
        "answer": 0,
        "text": "The sea is.",
    },
    {"question": "Two and two make", "choices": ["four", "blue"], "answer": 0, "text": "Ein Satz, zwei Sätze: 三."},
]
DIRECT = """
import json, sys
import nextok as nt
lm = nt.load("smollm2")
for ids in json.load(sys.stdin):
    print(json.dumps(lm.score(ids).logprobs))
"""
place = Path("tasks")
place.mkdir()
Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
data = Path("rows.jsonl").resolve()
more = "doc_to_choice: choices\nmetric_list: [{metric: acc}]"
(place / "choice.yaml").write_text(
    CHOICES.format(name="choice", data=data, kind="multiple_choice", text="question", target="answer", more=more)
)
more = "metric_list: [{metric: word_perplexity}]"
(place / "rolling.yaml").write_text(
    CHOICES.format(name="rolling", data=data, kind="loglikelihood_rolling", text='""', target="text", more=more)
)
settings = {
    "model": "smollm2",
    "base_url": os.environ["OPENAI_BASE_URL"] + "/completions",
    "tokenizer_backend": "huggingface",
    "tokenizer": os.environ["NEXTOK_TOKENIZER"],
    "num_concurrent": 4,
}
result = lm_eval.simple_evaluate(
    "local-completions",
    model_args=settings,
    tasks=["choice", "rolling"],
    task_manager=TaskManager(include_path=str(place), include_defaults=False),
    log_samples=True,
    bootstrap_iters=0,
)

import transformers  # noqa: E402

tokenizer = transformers.AutoTokenizer.from_pretrained(os.environ["NEXTOK_TOKENIZER"])


def encode(text):
    return tokenizer.encode(text, add_special_tokens=False)


asked, cut, theirs = [], [], []
for sample in result["samples"]["choice"]:
    for (context, continuation), [value] in zip(
        [each.values() for each in sample["arguments"].values()]
        if isinstance(sample["arguments"], dict)
        else sample["arguments"],
        sample["resps"],
    ):
        asked.append(encode(context + continuation))
        cut.append(len(encode(context)))
        theirs.append(float(value[0]))
for sample, row in zip(result["samples"]["rolling"], ROWS):
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    asked.append([prefix, *encode(row["text"])])
    cut.append(1)
    value = sample["resps"][0][0]
    theirs.append(float(value[0] if isinstance(value, (list, tuple)) else value))
command = [os.environ["NEXTOK_PYTHON"], "-c", DIRECT]
lines = subprocess.run(command, input=json.dumps(asked), capture_output=True, check=True, text=True).stdout
ours = [sum(json.loads(line)[start:]) for line, start in zip(lines.splitlines(), cut)]
assert len(ours) == len(theirs) == 6
worst = max(abs(one - other) for one, other in zip(ours, theirs))
assert worst < 1e-3, (ours, theirs)
assert all(value < 0 for value in theirs)
print(f"loglikelihood and loglikelihood_rolling, apart by {worst:.1g} at most")
