"""The command line in this process, on a model of bytes: what goes to which stream, and with which exit code."""

import io
import json
import sys

import pytest

import nextok
from nextok import hub
from nextok.cli import main
from nextok.cli.terminal import StdoutWriter
from nextok.errors import DownloadError, ModelFileError, ModelNotFoundError
from nextok.hub import Source
from nextok.models.toy import make_scores
from tiny import VOCAB, saying, tiny_lm, tiny_tokenizer

NAMES = ("smollm2", "tiny", "silent", "broken")


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """Every name but a few gives the tiny model; the last one loaded is in the list."""
    scores = {"broken": lambda path: [float("nan")] * VOCAB, "silent": saying("")}
    asked = []

    def load(name, **options):
        asked.append(name)
        if name not in NAMES:
            raise ModelNotFoundError(f"no model {name!r}")
        return tiny_lm(scores.get(name), context=400, template=None if name == "silent" else TEMPLATE)

    monkeypatch.setattr(nextok, "load", load)
    monkeypatch.setattr(nextok, "load_tokenizer", lambda name: tiny_tokenizer())
    monkeypatch.setattr(hub, "resolve", lambda name, **options: Source(tmp_path, name, "a test"))
    monkeypatch.setattr("sys.stdin", None)
    for name in ("NEXTOK_MODEL", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return asked


TEMPLATE = "{% for m in messages %}<user>{{ m['role'] }}:{{ m['content'] }}<eos>{% endfor %}<user>assistant:"


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command line; stdout, stderr and the exit code."""

    def run(*arguments, piped=None):
        if piped is not None:
            data = piped if isinstance(piped, bytes) else piped.encode()
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = main(arguments)
        out, err = capfd.readouterr()
        return out, err, code

    return run


SHORT = ("--max-tokens", "9")
ARRANGEMENTS = [
    ("generate", "Hi", *SHORT),
    ("Hi", *SHORT),
    (*SHORT, "--", "Hi"),
    ("--no-color", "generate", "Hi", *SHORT),
]


@pytest.mark.parametrize("arguments", ARRANGEMENTS, ids=" ".join)
def test_a_prompt_is_answered_through_the_chat_template(run, arguments):
    out, _, code = run(*arguments)
    assert (out, code) == (tiny_lm().chat("Hi", max_tokens=9).text + "\n", 0)


def test_raw_continues_the_text_itself(run):
    out, _, code = run("Hi", "--raw", "--max-tokens", "9")
    assert (out, code) == (tiny_lm().generate("Hi", max_tokens=9).text + "\n", 0)


def test_a_system_message_changes_what_the_model_reads(run):
    told = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    assert run("Hi", "--system", "Be brief", "--max-tokens", "9")[0] == tiny_lm().chat(told, max_tokens=9).text + "\n"


@pytest.mark.parametrize("arguments", [(), ("-",)])
@pytest.mark.parametrize("piped", ["Hi there\n", b"\xef\xbb\xbfHi there\r\n", "Hi there"])
def test_the_prompt_may_come_from_a_pipe(run, arguments, piped):
    out, _, code = run(*arguments, "--max-tokens", "5", piped=piped)
    assert (out, code) == (tiny_lm().chat("Hi there", max_tokens=5).text + "\n", 0)


def test_a_pipe_is_not_touched_when_there_is_a_prompt(run):
    assert run("Hi", "--max-tokens", "5", piped="unread")[0] == run("Hi", "--max-tokens", "5")[0]
    assert sys.stdin.read() == "unread"


def test_bytes_that_are_no_text_become_replacement_characters(run):
    assert json.loads(run("tokenize", "--json", piped=b"a\xffb")[0])["text"] == "a\ufffdb"
    assert json.loads(run("tokenize", "--json", "a\udcffb")[0])["text"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("arguments", "strategy"),
    [
        ((), nextok.Greedy()),
        (("--greedy",), nextok.Greedy()),
        (("--temperature", "0.8", "--top-k", "50"), nextok.Sample(0.8, top_k=50)),
        (("--temp", "0.8", "--top-p", "0.9", "--min-p", "0.1"), nextok.Sample(0.8, top_p=0.9, min_p=0.1)),
        (("--temperature=0",), nextok.Sample(0.0)),
        (("--seed", "7"), nextok.Sample()),
        (("-n", "2"), nextok.Sample()),
        (("--num-beams", "3"), nextok.Beam(3)),
        (("--num-beams", "3", "-n", "2", "--length-penalty", "0"), nextok.Beam(3, 0.0, n=2)),
        (("--num-beams", "3", "--early-stopping", "never"), nextok.Beam(3, early_stopping="never")),
        (("--num-beams", "3", "--early-stopping", "true"), nextok.Beam(3, early_stopping=True)),
        (("--draft", "prompt-lookup", "--max-draft", "3"), nextok.Speculate(nextok.PromptLookup(3))),
        (("--draft", "prompt-lookup", "--seed", "1"), nextok.Speculate(nextok.PromptLookup(), nextok.Sample())),
        (("--typical-p", "0.9", "--eta-cutoff", "0.001"), nextok.Sample(typical_p=0.9, eta_cutoff=0.001)),
        (("--epsilon-cutoff=0.001", "--top-n-sigma=1"), nextok.Sample(epsilon_cutoff=0.001, top_n_sigma=1.0)),
        (("--xtc", "0.5,0.2"), nextok.Sample(xtc=nextok.XTC(0.5, 0.2))),
        (("--mirostat", "1,4,0.2"), nextok.Sample(mirostat=nextok.Mirostat(1, 4, 0.2))),
        (
            ("--dynamic-temperature", "0.5,1.5"),
            nextok.Sample(dynamic_temperature=nextok.DynamicTemperature(0.5, 1.5)),
        ),
        (("--repetition-penalty", "1.2"), nextok.Greedy(repetition_penalty=1.2)),
        (("--greedy", "--presence-penalty=1"), nextok.Greedy(presence_penalty=1.0)),
        (("--dry", "0.8,1.5,3", "--seed", "1"), nextok.Sample(dry=nextok.DRY(0.8, 1.5, 3))),
        (
            ("--no-repeat-ngram", "2", "--frequency-penalty=-1"),
            nextok.Greedy(no_repeat_ngram_size=2, frequency_penalty=-1.0),
        ),
        (
            ("--draft=prompt-lookup", "--dry=1"),
            nextok.Speculate(nextok.PromptLookup(), nextok.Greedy(dry=nextok.DRY(1))),
        ),
    ],
    ids=repr,
)
def test_flags_make_a_strategy(run, arguments, strategy):
    out, _, code = run("Hi", "--json", "--n-predict", "4", *arguments)
    assert code == 0
    assert json.loads(out)["strategy"] == repr(strategy)


def test_a_draft_may_be_a_model(run, tiny):
    out, _, code = run("Hi", "--max-tokens", "9", "--draft", "tiny")
    assert (out, code, tiny) == (run("Hi", "--max-tokens", "9", "--greedy")[0], 0, ["tiny", "smollm2", "smollm2"])


def test_several_texts_come_one_after_another(run):
    out, err, _ = run("Hi", "-n", "2", "--seed", "3", "--max-tokens", "5")
    choices = tiny_lm().chat("Hi", nextok.Sample(), n=2, seed=3, max_tokens=5).choices
    assert out == "".join(choice.text + "\n" for choice in choices)
    assert err == "".join(f"── {i} of 2 · seed {choice.seed} ──\n" for i, choice in enumerate(choices, 1))
    assert run("Hi", "-n", "2", "--seed", "3", "--max-tokens", "5", "-q")[:2] == (out, "")
    assert "── 2 of 2 · score -" in run("Hi", "-n", "2", "--num-beams", "2", "--max-tokens", "5")[1]


def test_json_holds_everything(run):
    out, err, code = run("Hi", "--json", "--max-tokens", "5", "--logprobs", "2", "--seed", "4", "-n", "2")
    facts = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert set(facts) == {
        *("text", "token_ids", "finish_reason", "seed", "score", "logprobs", "choices", "usage", "passes", "drafted"),
        *(
            "accepted",
            "accepted_lengths",
            "draft_error",
            "prompt_logprobs",
            "timings",
            "strategy",
            "model",
            "origin",
            "versions",
        ),
    }
    assert [len(each["top"]) for each in facts["logprobs"]] == [2] * 5
    assert all(each["logprob"] == each["processed_logprob"] for each in facts["logprobs"])
    assert all(each["top"] == each["processed_top"] for each in facts["logprobs"])
    assert (facts["usage"]["generated_tokens"], facts["finish_reason"], len(facts["choices"])) == (10, "length", 2)
    assert facts["text"] == tiny_lm().chat("Hi", nextok.Sample(), n=2, seed=4, max_tokens=5).text


def test_statistics_and_logprobs_go_to_stderr(run):
    out, err, _ = run("Hi", "--max-tokens", "5", "--stats", "--logprobs", "1")
    assert out == run("Hi", "--max-tokens", "5")[0]
    assert "5 generated" in err
    assert "5 passes · Greedy()" in err
    assert "log-probability" in err
    assert "processed" not in err
    assert "prompt " not in err.replace("prompt tokens", "")


def test_stop_strings_and_the_context_end_a_text(run, monkeypatch):
    _, err, code = run("x" * 350, "--raw", "--max-tokens", "200")
    assert (code, err) == (0, "nextok: cut at the model's context of 400 tokens\n")
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(saying("one two three")))
    assert run("\n", "--raw", "--stop", "two", "--stop", "x")[0] == "one \n"
    assert run("\n", "--raw")[0] == "one two three\n"
    assert (
        run("\n", "--raw", "--ignore-eos", "--max-tokens", "15", "--stop", "t", "--min-tokens", "6")[0]
        == "one two \n"
    )


def test_control_characters_reach_a_pipe_but_not_a_terminal(run, monkeypatch):
    said = "a\x1b[31mb\x07\x9b\x7f\tc\rd"
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(saying(said)))
    assert run("\n", "--raw")[0] == said + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("\n", "--raw")[0] == "a\\x1b[31mb\\x07\\x9b\\x7f\tc\\x0dd\n"
    assert "\x1b" not in run("\n", "--raw", "--json")[0]


def test_a_text_ends_with_one_newline_at_least_and_no_second_one_is_added(capsys):
    page = StdoutWriter()
    for text in ("one\n", "two\n\n", "three", ""):
        page.write(text)
        page.end()
    assert capsys.readouterr().out == "one\ntwo\n\nthree\n\n"


def test_an_empty_answer_is_an_empty_line(run):
    assert run("Hi\n", "--raw", "-m", "silent")[0] == "\n"


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("Hi", "--greedy", "--temperature", "0"), 2, "--greedy and --temperature contradict"),
        (("Hi", "--num-beams", "4", "--draft", "x"), 2, "--num-beams and --draft contradict"),
        (("Hi", "--greedy", "--mirostat", "2"), 2, "--greedy and --mirostat contradict"),
        (("Hi", "--greedy", "--num-beams", "2"), 2, "--greedy and --num-beams contradict"),
        (("Hi", "--stochastic-beams", "2", "--num-beams", "2"), 2, "--num-beams and --stochastic-beams contradict"),
        (("Hi", "--stochastic-beams", "2", "--draft", "x"), 2, "--stochastic-beams and --draft contradict"),
        (("Hi", "--stochastic-beams", "2", "-n", "2"), 2, "-n 2 and --stochastic-beams contradict"),
        (("Hi", "--beam-groups", "2", "--temperature", "1"), 2, "--beam-groups and --temperature contradict"),
        (("Hi", "--beam-groups", "2", "--seed", "1"), 2, "--beam-groups and --seed contradict"),
        (
            ("Hi", "--dynamic-temperature", "1,2", "--temp", "1"),
            2,
            "--dynamic-temperature and --temperature contradict",
        ),
        (("Hi", "--patience", "2"), 2, "--patience means nothing without --num-beams"),
        (("Hi", "--num-beams", "4", "--beam-groups", "2"), 2, "--beam-groups means nothing without --diversity"),
        (("Hi", "--num-beams", "4", "--diversity", "2"), 2, "--diversity means nothing without --beam-groups"),
        (("Hi", "--choice", "a", "--regex", "b"), 2, "--choice and --regex contradict"),
        (("Hi", "--json-schema", "{}", "--grammar", "b"), 2, "--json-schema and --grammar contradict"),
        (
            ("Hi", "--grammar", "missing.lark"),
            2,
            "--grammar takes a file, but 'missing.lark' cannot be read: No such",
        ),
        (("Hi", "--json-schema", "missing.json"), 2, "--json-schema takes a file, but 'missing.json'"),
        (("Hi", "--dry", "x"), 2, "--dry takes MULTIPLIER[,BASE,LENGTH], numbers with commas between them, got 'x'"),
        (("Hi", "--dry", "-1"), 2, "--dry -1: multiplier of DRY must be"),
        (("Hi", "--dry", "1,2,1.5"), 2, "--dry 1,2,1.5: allowed_length of DRY must be"),
        (("Hi", "--xtc", "0.1,0.2,0.3"), 2, "--xtc takes P[,THRESHOLD], got 3 numbers in '0.1,0.2,0.3'"),
        (("Hi", "--xtc", "nan"), 2, "--xtc nan: probability of XTC must be"),
        (("Hi", "--mirostat", "3"), 2, "--mirostat 3: the version of mirostat must be 1 or 2"),
        (("Hi", "--dynamic-temperature", "1"), 2, "--dynamic-temperature takes LOW,HIGH[,EXPONENT], got 1 numbers"),
        (("Hi", "--dynamic-temperature", "2,1"), 2, "--dynamic-temperature 2,1: a dynamic temperature goes"),
        (("Hi", "--logit-bias", "5"), 2, "--logit-bias takes a token id and a number"),
        (("Hi", "--logit-bias", "a=1"), 2, "--logit-bias takes a token id and a number"),
        (("Hi", "--logit-bias", "5=nan"), 2, "logit_bias of token 5"),
        (("Hi", "--logit-bias", "5=1", "--logit-bias", "5=2"), 2, "--logit-bias names token 5 2 times"),
        (("Hi", "--logit-bias", "999=1"), 2, "token id 999"),
        (("Hi", "--bad-word", ""), 2, "--bad-word must be"),
        (("chat", "--bad-word", ""), 2, "--bad-word must be"),
        (("chat", "--choice", "a", "--regex", "b"), 2, "--choice and --regex contradict"),
        (("Hi", "--max-draft", "4"), 2, "--max-draft means nothing without --draft"),
        (("Hi", "--length-penalty", "0"), 2, "--length-penalty means nothing without --num-beams"),
        (("Hi", "--greedy", "-n", "2"), 2, "--greedy and -n 2"),
        (("Hi", "--raw", "--system", "x"), 2, "--raw and --system contradict"),
        (("Hi", "--temperature", "-1"), 2, "nextok: --temperature must be"),
        (("Hi", "--top-k", "0"), 2, "nextok: --top-k must be"),
        (("Hi", "--top-k", "1.5"), 2, "--top-k"),
        (("Hi", "--num-beams", "0"), 2, "nextok: --num-beams must be"),
        (("Hi", "--num-beams", "2", "-n", "3"), 2, "-n 3 is more than"),
        (("Hi", "--early-stopping", "maybe", "--num-beams", "2"), 2, "maybe"),
        (("Hi", "--max-tokens", "0"), 2, "nextok: --max-tokens must be"),
        (("Hi", "--draft", "tiny", "--max-draft", "99"), 2, "nextok: --max-draft must be"),
        (("Hi", "--stop", ""), 2, "nextok: --stop must be"),
        (("Hi", "--nonsense"), 2, "see nextok generate --help"),
        (("Why", "is"), 2, "'Why is' is 2 arguments: put a text of several words in quotes"),
        (("model", "list"), 2, "nextok models"),
        (("",), 2, "the text is empty"),
        ((), 2, "there is no text"),
        (("-",), 2, "there is no text"),
        (("models", "frobnicate"), 2, "frobnicate"),
        (("chat", "--max-tokens", "0"), 2, "nextok: --max-tokens must be"),
        (("compare", "Hi", "--max-tokens", "0"), 2, "nextok: --max-tokens must be"),
        (("tokenize", "--decode", "one"), 2, "--decode takes token ids"),
        (("tokenize", "--decode", "999"), 2, "token id 999"),
        (("tokenize", "--decode", "--ids", "9"), 2, "--ids and --decode"),
        (("Hi", "-m", "missing"), 3, "no model 'missing'"),
        (("Hi", "--draft", "missing"), 3, "--draft takes prompt-lookup or a model"),
        (("Hi", "-m", "silent"), 3, "--raw"),
        (("chat", "-m", "silent"), 3, "--raw"),
        (("x" * 500,), 4, "the model's context is 400"),
        (("compare", "x" * 500), 4, "the model's context is 400"),
        (("Hi", "-m", "broken"), 1, "no token can be chosen"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_what_is_wrong_is_said_in_one_line(run, arguments, code, says):
    out, err, found = run(*arguments)
    assert (found, out.strip()) == (code, "")
    assert says in err
    assert err.startswith("nextok: ")
    assert err.count("\n") == 1
    reported = run(*arguments, "--json") if arguments[:1] != ("chat",) else None
    if reported:
        error = json.loads(reported[0].strip().splitlines()[-1])["error"]
        assert (error["exit_code"], reported[2], reported[1]) == (code, code, "")


def raising(error):
    def load(name, **options):
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ModelFileError("bad\x1b[31m\nfile"), 3, r"bad\x1b[31m file"),
        (DownloadError("no network"), 5, "no network"),
        (MemoryError(), 4, "out of memory"),
        (OSError(28, "No space left on device", "/cache"), 1, "/cache: No space left on device"),
        (RuntimeError("odd"), 1, "unexpected RuntimeError: odd (run again with --debug"),
        (RecursionError("deep"), 1, "unexpected RecursionError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_failure_has_its_exit_code(run, monkeypatch, error, code, says):
    monkeypatch.setattr(nextok, "load", raising(error))
    out, err, found = run("Hi")
    assert (out, found, err.count("\n")) == ("", code, 1)
    assert says in err
    out, err, found = run("Hi", "--debug")
    assert found == code
    assert "Traceback" in err


def test_the_reader_of_the_output_may_leave(run, monkeypatch):
    monkeypatch.setattr(nextok, "load", raising(BrokenPipeError(32, "Broken pipe")))
    assert run("Hi") == ("", "", 141)


@pytest.mark.parametrize("arguments", [("Hi",), ("Hi", "--num-beams", "2")], ids=str)
def test_ctrl_c_ends_with_what_exists(run, monkeypatch, arguments):
    def scores(path):
        if len(path) > 30:
            raise KeyboardInterrupt
        return make_scores(VOCAB, 5)(path)

    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(scores))
    out, err, code = run(*arguments, "--stats")
    assert code == 130
    assert len(out.encode()) > 3
    assert "ended by cancelled" in err
    out, _, code = run(*arguments, "--json")
    assert (json.loads(out)["finish_reason"], code) == ("cancelled", 130)
