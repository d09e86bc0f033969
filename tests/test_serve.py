"""The server: every field changes an answer, a mistake is told in OpenAI's form, and a seed gives the same text."""

import asyncio
import json
import threading
import time

import httpx
import jsonschema
import openai
import pytest

import nextok as nt
from nextok.api.fields import BOTH, CHAT, COMPLETION, FIELDS
from nextok.lm import LM
from nextok.models.toy import make_scores
from nextok.serve.app import build_app
from nextok.serve.run import check_address
from servers import is_refused, serve, serving
from tiny import EOS, VOCAB, saying, tiny_lm

LETTERS = range(ord("a"), ord("z") + 1)
PATHS = {COMPLETION: "/v1/completions", CHAT: "/v1/chat/completions"}
BASES = {
    COMPLETION: {"prompt": "abc", "max_tokens": 12, "seed": 1},
    CHAT: {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 12, "seed": 1},
}


SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
TOOL_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}<tool_call></tool_call>{% endif %}"
    "{% for m in messages %}<user>{{ m.role }}:{{ m.content or m.tool_calls | tojson }}<eos>{% endfor %}"
    "<user>assistant:\n\n"
)


def letters(path):
    """A model that writes small letters, and now and then ends."""
    scores = make_scores(VOCAB, 5)(path)
    return [score if token in LETTERS or token == EOS else -50.0 for token, score in enumerate(scores)]


def make_service(**options):
    lm = tiny_lm(letters, template=TOOL_TEMPLATE, context=900)
    return serve(lm, **{"drafts": {"lookup": nt.PromptLookup(), "itself": nt.DraftModel(lm)}} | options)


SERVICE = make_service()


def ask(path, body=None, service=SERVICE, keys=(), headers=(), content=None):
    """One request to the application, in this process."""

    async def run():
        transport = httpx.ASGITransport(build_app(service, keys))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            method = "GET" if body is None and content is None else "POST"
            data = content if content is not None else None if body is None else json.dumps(body)
            return await client.request(method, path, content=data, headers=dict(headers))

    return asyncio.run(run())


def say(route=COMPLETION, **fields):
    """The answer to the base request of a route with these fields, which must be a good one."""
    answer = ask(PATHS[route], BASES[route] | fields)
    assert answer.status_code == 200, answer.text
    return answer


def told(answer):
    """What of an answer does not change from call to call."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return [{**each, "id": 0, "created": 0} for each in events(answer.text)]
    return {**answer.json(), "id": 0, "created": 0}


def events(text):
    frames = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]


def text_of(answer):
    choice = answer.json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


TEXT = {route: text_of(say(route)) for route in BOTH}
LOOPS = {"allowed_token_ids": [ord("x"), ord("y")], "max_tokens": 120, "ignore_eos": True}
REPEATED = {"temperature": 0.7, "max_tokens": 60, "ignore_eos": True}
OTHER_MESSAGES = [{"role": "user", "content": "xyz"}]
# Field -> what is set, and what stands beside it in both requests.
CHANGES = {
    "messages": (OTHER_MESSAGES, {}),
    "prompt": ("xyz", {}),
    "max_tokens": (3, {}),
    "min_tokens": (12, {"stop": list("abcdefghijklmnop")}),
    "temperature": (0, {}),
    "top_p": (0.1, {}),
    "top_k": (1, {}),
    "min_p": (0.9, {}),
    "typical_p": (0.05, {"seed": 3}),
    "top_n_sigma": (0.01, {}),
    "repetition_penalty": (5.0, REPEATED),
    "presence_penalty": (2.0, REPEATED),
    "frequency_penalty": (2.0, REPEATED),
    "seed": (2, {}),
    "n": (2, {}),
    "best_of": (4, {}),
    "stop": (list("aeiou"), {"max_tokens": 60, "ignore_eos": True}),
    "stop_token_ids": (list(LETTERS)[:20], {"max_tokens": 60}),
    "ignore_eos": (True, {"max_tokens": 400}),
    "logit_bias": ({str(ord("q")): 100}, {}),
    "allowed_token_ids": ([ord("x"), ord("y")], {}),
    "bad_words": (list("abcdefghijklm"), {"max_tokens": 40}),
    "logprobs": ({COMPLETION: 2, CHAT: True}, {}),
    "top_logprobs": (2, {"logprobs": True}),
    "echo": (True, {}),
    "stream": (True, {}),
    "stream_options": ({"include_usage": True}, {"stream": True}),
    "response_format": ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, {}),
    "structured_outputs": ({"choice": ["yes", "no"]}, {}),
    "use_beam_search": (True, {}),
    "length_penalty": (-5.0, {"use_beam_search": True, "n": 4, "max_tokens": 40}),
    "decoder": ({"name": "beam", "width": 3}, {}),
    "draft": ("itself", {"max_tokens": 40, "ignore_eos": True}),
    "return_token_ids": (True, {}),
    "tools": (TOOLS, {}),
    "tool_choice": ("required", {"tools": TOOLS, "max_tokens": 200}),
    "parallel_tool_calls": (False, {"tools": TOOLS, "tool_choice": "required", "max_tokens": 400, "seed": 4}),
    "continue_final_message": (True, {"messages": [*OTHER_MESSAGES, {"role": "assistant", "content": "Sure"}]}),
    "timeout": (0.001, {"max_tokens": 400, "ignore_eos": True}),
    "xtc_probability": (1.0, {"xtc_threshold": 0.01}),
    "xtc_threshold": (0.01, {"xtc_probability": 1.0}),
    "dynatemp_range": (0.9, {"max_tokens": 60}),
    "dynatemp_exponent": (9.0, {"max_tokens": 60, "dynatemp_range": 0.9}),
    "mirostat": (2, {"max_tokens": 60, "mirostat_tau": 0.5}),
    "mirostat_tau": (0.1, {"max_tokens": 60, "mirostat": 2}),
    "mirostat_eta": (1.0, {"max_tokens": 60, "mirostat": 2, "mirostat_tau": 0.5}),
    "dry_multiplier": (90.0, LOOPS),
    "dry_base": (99.0, LOOPS | {"dry_multiplier": 0.05}),
    "dry_allowed_length": (30, LOOPS | {"dry_multiplier": 50.0}),
    "dry_penalty_last_n": (4, LOOPS | {"dry_multiplier": 50.0}),
    "dry_sequence_breakers": (list("abcdefghijklmnopqrstuvwxyz"), LOOPS | {"dry_multiplier": 50.0}),
    "prompt_logprobs": (1, {}),
    "json_schema": (SCHEMA, {}),
    "grammar": ('root ::= "yes" | "no"', {}),
}
SPECIAL = {"model", "chat_template_kwargs", "tokens", "add_special_tokens", "return_token_strs"}
"""Fields with a test of their own."""


def test_every_field_has_a_case():
    assert CHANGES.keys() | SPECIAL == {field.name for field in FIELDS}


@pytest.mark.parametrize(
    ("route", "name"),
    [(route, field.name) for field in FIELDS for route in field.routes if route in BOTH and field.name in CHANGES],
)
def test_every_field_changes_an_answer(route, name):
    value, beside = CHANGES[name]
    value = value[route] if isinstance(value, dict) and route in value else value
    assert told(say(route, **beside)) != told(say(route, **beside | {name: value}))


@pytest.mark.parametrize(
    ("alias", "name"),
    [(alias, field.name) for field in FIELDS for alias in field.aliases if COMPLETION in field.routes],
)
def test_other_programs_names_mean_the_same(alias, name):
    value = CHANGES[name][0]
    base = {key: each for key, each in BASES[COMPLETION].items() if key != name}
    answers = [ask("/v1/completions", base | {key: value}) for key in (alias, name)]
    assert told(answers[0]) == told(answers[1])
    both = ask("/v1/completions", base | {alias: value, name: value})
    assert both.status_code == 400
    assert "are the same field" in both.json()["error"]["message"]


def test_template_values_reach_the_template():
    service = serve(tiny_lm(letters, template="{{ style }}<user>{{ messages[0].content }}"))
    body = {"messages": [{"role": "user", "content": "abc"}], "chat_template_kwargs": {"style": "short"}}
    assert ask("/apply-template", body, service).json()["prompt"] == "short<user>abc"
    told_ids = ask("/v1/chat/completions", body | {"max_tokens": 2, "return_token_ids": True}, service)
    assert bytes(told_ids.json()["prompt_token_ids"][:5]) == b"short"


# --- the seed law --------------------------------------------------------------------------------------------------


def joined(answer, route):
    """The text of a streamed answer, of its first choice."""
    parts = [choice for each in events(answer.text) for choice in each["choices"] if choice["index"] == 0]
    return "".join(part["text"] if route == COMPLETION else part["delta"].get("content", "") for part in parts)


@pytest.mark.parametrize("route", BOTH)
def test_a_seed_gives_the_same_text_streamed_or_not_and_with_any_draft(route):
    for fields in (
        {},
        {"temperature": 0},
        {"top_k": 5, "temperature": 0.7},
        {"logprobs": 0} if route == COMPLETION else {},
    ):
        wanted = text_of(say(route, max_tokens=60, ignore_eos=True, **fields))
        for more in ({}, {"draft": "lookup"}, {"draft": "itself"}):
            assert text_of(say(route, max_tokens=60, ignore_eos=True, **fields, **more)) == wanted
            streamed = say(route, max_tokens=60, ignore_eos=True, stream=True, **fields, **more)
            assert joined(streamed, route) == wanted


def test_a_seed_gives_the_same_text_among_32_others():
    alone = {seed: text_of(say(seed=seed, max_tokens=30)) for seed in range(8)}

    async def crowd():
        transport = httpx.ASGITransport(build_app(SERVICE))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            bodies = [BASES[COMPLETION] | {"seed": seed % 8, "max_tokens": 30} for seed in range(32)]
            return await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))

    for seed, answer in enumerate(asyncio.run(crowd())):
        assert text_of(answer) == alone[seed % 8]


def test_the_text_is_the_librarys():
    lm, sample = SERVICE.served.lm, nt.Sample()
    assert TEXT[COMPLETION] == lm.generate("abc", sample, max_tokens=12, seed=1).text
    assert TEXT[CHAT] == lm.chat("abc", sample, max_tokens=12, seed=1).text
    output = lm.generate("abc", nt.Beam(3, n=2), max_tokens=12)
    answer = say(decoder={"name": "beam", "width": 3, "n": 2}).json()
    assert [choice["text"] for choice in answer["choices"]] == [choice.text for choice in output.choices]


@pytest.mark.parametrize("fields", [{"min_p": 1}, {"top_n_sigma": 1}, {"top_p": 0}], ids=str)
def test_a_filter_at_the_end_of_its_range_counts(fields):
    [[name, value]] = fields.items()
    wanted = nt.Sample(top_k=1) if name == "top_p" else nt.Sample(**{name: float(value)})
    texts = [text_of(say(max_tokens=40, ignore_eos=True, seed=seed, **fields)) for seed in range(3)]
    told_by_library = [
        SERVICE.served.lm.generate("abc", wanted, max_tokens=40, ignore_eos=True, seed=seed).text for seed in range(3)
    ]
    assert texts == told_by_library


def test_logprobs_are_those_of_the_library():
    lm = SERVICE.served.lm
    output = lm.generate("abc", nt.Sample(), max_tokens=12, seed=1, logprobs=2)
    raw = [each.logprob for each in output.logprobs]
    whole = say(logprobs=2).json()["choices"][0]["logprobs"]
    assert whole["token_logprobs"] == pytest.approx(raw)
    assert "".join(whole["tokens"]).startswith(output.text)
    echoed = say(logprobs=2, echo=True).json()["choices"][0]["logprobs"]
    assert echoed["token_logprobs"][:3] == [None, *lm.score("abc").logprobs[1:]]
    assert echoed["token_logprobs"][3:] == pytest.approx(raw)
    scored = say(logprobs=2, echo=True, max_tokens=0).json()["choices"][0]
    assert (scored["text"], scored["logprobs"]["token_logprobs"]) == ("abc", echoed["token_logprobs"][:3])
    for stream in (False, True):
        answer = say(CHAT, logprobs=True, top_logprobs=2, stream=stream)
        parts = events(answer.text) if stream else [answer.json()]
        content = [
            each
            for part in parts
            for choice in part["choices"]
            for each in (choice["logprobs"] or {"content": []})["content"]
        ]
        chat = lm.chat("abc", nt.Sample(), max_tokens=12, seed=1, logprobs=2)
        assert [each["logprob"] for each in content] == pytest.approx([each.logprob for each in chat.logprobs])
        assert [len(each["top_logprobs"]) for each in content] == [2] * len(content)
        assert bytes(byte for each in content for byte in each["bytes"]).decode() == chat.text


def test_usage_counts_drafts():
    usage = say(draft="itself", max_tokens=40, ignore_eos=True).json()["usage"]
    assert usage["completion_tokens"] == 40
    assert usage["prompt_tokens"] + 40 == usage["total_tokens"]
    assert usage["completion_tokens_details"]["accepted_prediction_tokens"] > 10
    last = events(say(stream=True, stream_options={"include_usage": True}).text)[-1]
    assert last["choices"] == []
    assert (
        last["usage"]["completion_tokens"] == len(TEXT[COMPLETION].encode())
        or last["usage"]["completion_tokens"] <= 12
    )


# --- tools and thinking --------------------------------------------------------------------------------------------


def service_that_says(text):
    """A server whose model says this after each prompt of a chat."""
    return serve(tiny_lm(saying(text), template=TOOL_TEMPLATE, context=900))


CALL = '{"name": "look", "arguments": {"a": 2}}'
QUESTION = {"messages": [{"role": "user", "content": "abc"}], "tools": TOOLS, "temperature": 0, "max_tokens": 200}


def test_tool_calls_come_back_as_data_streamed_or_not():
    service = service_that_says(f"I see. <tool_call>{CALL}</tool_call>")
    [choice] = ask("/v1/chat/completions", QUESTION, service).json()["choices"]
    [call] = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I see.")
    assert call["function"] == {"name": "look", "arguments": '{"a": 2}'}
    parts = [
        each["choices"][0] for each in events(ask("/v1/chat/completions", QUESTION | {"stream": True}, service).text)
    ]
    deltas = [call for part in parts for call in part["delta"].get("tool_calls", ())]
    assert "".join(part["delta"].get("content", "") for part in parts) == "I see."
    assert deltas[0]["function"]["name"] == "look"
    assert json.loads("".join(each["function"]["arguments"] for each in deltas)) == {"a": 2}
    assert parts[-1]["finish_reason"] == "tool_calls"
    assert len(deltas) > 5  # told while they were written
    cut = QUESTION | {"max_tokens": 52}  # inside the arguments
    for stream in (False, True):
        answer = ask("/v1/chat/completions", cut | {"stream": stream}, service)
        [last] = (events(answer.text)[-1] if stream else answer.json())["choices"]
        assert last["finish_reason"] == "length"
    plain = ask("/v1/chat/completions", QUESTION | {"tool_choice": "none"}, service).json()["choices"][0]
    assert plain["finish_reason"] == "stop"
    assert "tool_calls" not in plain["message"]


@pytest.mark.parametrize(
    "more", [{}, {"draft": "itself"}, {"use_beam_search": True, "n": 2}, {"temperature": 0}], ids=str
)
def test_a_forced_call_parses_and_fits_its_schema(more):
    named = {"type": "function", "function": {"name": "look"}}
    for choice in ("required", named):
        body = BASES[CHAT] | {"tools": TOOLS, "tool_choice": choice, "max_tokens": 300} | more
        for answer in ask("/v1/chat/completions", body).json()["choices"]:
            assert answer["finish_reason"] == "tool_calls"
            for call in answer["message"]["tool_calls"]:
                jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)


def test_a_tools_result_is_read_and_the_library_answers_alike():
    service = service_that_says(f"<tool_call>{CALL}</tool_call>")
    output = service.served.lm.chat("abc", tools=TOOLS, max_tokens=200)
    assert output.message["tool_calls"][0]["function"]["arguments"] == '{"a": 2}'
    assert asyncio.run(service.served.lm.achat("abc", tools=TOOLS, max_tokens=200)).message["content"] is None
    result = {"role": "tool", "tool_call_id": output.message["tool_calls"][0]["id"], "content": "blue"}
    messages = [{"role": "user", "content": "abc"}, output.message, result]
    answer = ask("/v1/chat/completions", QUESTION | {"messages": messages}, service)
    assert answer.status_code == 200, answer.text
    prompt = service.served.lm.write_prompt(messages, tools=TOOLS).text
    assert "tool:blue" in prompt
    forced = service.served.lm.chat("abc", tools=TOOLS, tool_choice="required", max_tokens=300).message
    assert forced["tool_calls"][0]["function"]["name"] == "look"
    with pytest.raises(ValueError, match="contradict each other"):
        service.served.lm.chat("abc", tools=TOOLS, tool_choice="required", grammar=nt.Grammar.choices(["a"]))


def test_reasoning_is_told_apart():
    template = "{{ '</think>' if False }}" + TOOL_TEMPLATE
    service = serve(tiny_lm(saying("<think>hm</think>Blue."), template=template))
    body = {"messages": [{"role": "user", "content": "abc"}], "temperature": 0, "max_tokens": 100}
    message = ask("/v1/chat/completions", body, service).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Blue.")
    parts = [
        each["choices"][0]["delta"]
        for each in events(ask("/v1/chat/completions", body | {"stream": True}, service).text)
    ]
    assert "".join(part.get("reasoning_content", "") for part in parts) == "hm"
    assert "".join(part.get("content", "") for part in parts) == "Blue."


def test_a_chat_finds_its_beginning_again_although_its_request_is_gone():
    lm = tiny_lm(letters, template=TOOL_TEMPLATE, context=900)
    service = serve(LM(lm.model, lm.tokenizer, "tiny", cache_memory=1 << 24))
    first = {"role": "user", "content": "abc " * 50}
    body = {"messages": [first], "max_tokens": 8, "seed": 1}
    answer = ask("/v1/chat/completions", body, service).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    said = {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
    more = {"messages": [first, said, {"role": "user", "content": "xyz"}], "max_tokens": 8, "seed": 1}
    again = ask("/v1/chat/completions", more, service).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 150
    assert again["choices"] == ask("/v1/chat/completions", more).json()["choices"]
    assert "nextok_prefix_cache_hits_total" in ask("/metrics", service=service).text


# --- wrong requests ------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told():
    for path in ("/v1/responses", "/v1/embeddings"):
        answer = ask(path, {})
        is_refused(answer, 404)
        assert "/v1/chat/completions" in answer.json()["error"]["message"]
    is_refused(ask("/nothing"), 404)
    is_refused(ask("/v1/completions"), 405)
    is_refused(ask("/v1/completions", BASES[COMPLETION] | {"model": "other"}), 404)
    for name in ("other", "..%2f..%2fetc%2fpasswd", "etc/passwd", "tiny%2f..", "%00", "a" * 5000):
        is_refused(ask(f"/v1/models/{name}"), 404)
    assert ask("/v1/models/tiny").json()["id"] == "tiny"


def test_fields_without_meaning_are_told_or_refused():
    answer = say(user="me", store=True)
    assert answer.json()["warnings"] == ["user", "store"]
    assert answer.headers["x-nextok-ignored"] == "user, store"
    refused = ask("/v1/completions", BASES[COMPLETION] | {"user": "me"}, make_service(strict=True))
    is_refused(refused)
    assert refused.json()["error"]["param"] == "user"
    odd = say(**{"日本": 1, "a\r\nset-cookie: x=1": 1})
    assert odd.headers["x-nextok-ignored"] == "%E6%97%A5%E6%9C%AC, a%0D%0Aset-cookie%3A%20x%3D1"
    assert "set-cookie" not in odd.headers
    assert say(user=None, temperature=None, stop=[]).headers.get("x-nextok-ignored") is None


def test_only_who_has_a_key_gets_an_answer():
    for path in ("/v1/models", "/v1/completions", "/metrics", "/tokenize", "/nothing", "/openapi.json"):
        for given in (
            {},
            {"authorization": "Bearer nope"},
            {"authorization": "Bearer secre"},
            {"authorization": "secret"},
        ):
            is_refused(ask(path, keys=("secret",), headers=given), 401)
    assert ask("/v1/models", keys=("other", "secret"), headers={"authorization": "Bearer secret"}).status_code == 200
    assert ask("/health", keys=("secret",)).status_code == 200


def test_other_names_of_this_machine_are_refused():
    async def run(host):
        transport = httpx.ASGITransport(build_app(SERVICE, hosts=("localhost", "127.0.0.1", "[::1]")))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/models", headers={"host": host})

    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert asyncio.run(run(host)).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "[::2]:8000"):
        is_refused(asyncio.run(run(host)), 403)


def test_an_address_for_others_needs_a_key_or_a_word():
    for host in ("127.0.0.1", "localhost", "::1"):
        check_address(host, (), False)
    with pytest.raises(ValueError, match="lets others in"):
        check_address("0.0.0.0", (), False)
    check_address("0.0.0.0", ("key",), False)
    check_address("0.0.0.0", (), True)


def test_a_full_house_says_when_to_come_again():
    service = make_service(seats=2, queue=0)

    async def run():
        transport = httpx.ASGITransport(build_app(service))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        bodies = [BASES[COMPLETION] | more for more in ({}, {"stream": True})]
        async with client, service.admission.enter(2):
            return [await client.post("/v1/completions", json=body) for body in bodies]

    for answer in asyncio.run(run()):
        is_refused(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "queue_full"
    assert ask("/v1/completions", BASES[COMPLETION], service).status_code == 200
    assert (service.admission.rows, service.admission.running) == (0, 0)


def test_tokens_and_texts():
    assert ask("/tokenize", {"prompt": "abc", "return_token_strs": True}).json() == {
        "tokens": [97, 98, 99],
        "count": 3,
        "max_model_len": 900,
        "token_strs": ["a", "b", "c"],
    }
    assert ask("/tokenize", {"content": "abc"}).json()["tokens"] == [97, 98, 99]
    assert ask("/detokenize", {"tokens": [97, 98, 99]}).json()["prompt"] == "abc"
    is_refused(ask("/detokenize", {"tokens": [VOCAB]}))
    is_refused(ask("/detokenize", {"tokens": "x"}))
    is_refused(ask("/tokenize", {"prompt": 3}))
    said = ask("/apply-template", {"messages": OTHER_MESSAGES}).json()
    assert said["prompt"] == "<user>user:xyz<eos><user>assistant:\n"
    assert ask("/tokenize", {"messages": OTHER_MESSAGES}).json()["tokens"] == said["tokens"]


def test_metrics_count():
    service = make_service()
    ask("/v1/completions", BASES[COMPLETION] | {"draft": "itself", "max_tokens": 40, "ignore_eos": True}, service)
    ask("/v1/completions", BASES[COMPLETION] | {"n": -1}, service)
    text = ask("/metrics", service=service).text
    assert 'nextok_http_requests_total{route="/v1/completions",status="400"} 1.0' in text
    assert "nextok_generation_tokens_total 40.0" in text
    assert 'nextok_request_success_total{finished_reason="length"} 1.0' in text
    assert 'nextok_spec_decode_num_accepted_tokens_per_pos_total{position="0"}' in text


def test_the_api_describes_itself():
    described = ask("/openapi.json").json()
    chat = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert chat["properties"].keys() == {field.name for field in FIELDS if CHAT in field.routes}


# --- a real server, and OpenAI's own client ------------------------------------------------------------------------


def test_the_openai_client():
    with (
        serving(make_service(), ("key",)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="key") as client,
    ):
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").id == "tiny"
        chat = client.chat.completions.create(model="tiny", **BASES[CHAT])
        assert chat.choices[0].message.content == TEXT[CHAT]
        chunks = client.chat.completions.create(
            model="tiny", **BASES[CHAT], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(chunks)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT[CHAT]
        assert chunks[-1].usage.prompt_tokens == chat.usage.prompt_tokens
        text = client.completions.create(
            model="tiny", **BASES[COMPLETION], extra_body={"decoder": {"name": "greedy"}}
        )
        assert text.choices[0].text == tiny_lm(letters).generate("abc", max_tokens=12).text
        with pytest.raises(openai.BadRequestError, match="temperature must be a number") as wrong:
            client.completions.create(model="tiny", prompt="abc", temperature=9)
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        fitting = client.chat.completions.create(model="tiny", **BASES[CHAT], response_format=form)
        assert json.loads(fitting.choices[0].message.content)["a"] in (1, 2)
        stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
        with stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_the_openai_client_for_asyncio():
    async def run(address):
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="key") as client:
            asked = [client.completions.create(model="tiny", **BASES[COMPLETION]) for _ in range(16)]
            assert {answer.choices[0].text for answer in await asyncio.gather(*asked)} == {TEXT[COMPLETION]}
            stream = await client.chat.completions.create(model="tiny", **BASES[CHAT], stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(parts) == TEXT[CHAT]

    with serving(make_service()) as address:
        asyncio.run(run(address))


def leave(address, body):
    """Send a request, and close the connection in the middle of the answer."""
    with httpx.Client() as client, client.stream("POST", address, json=body) as answer:
        next(answer.iter_raw())


def test_a_client_that_leaves_frees_its_place():
    service = make_service()
    with serving(service) as address:
        address += "/v1/completions"
        long = BASES[COMPLETION] | {"max_tokens": 500, "ignore_eos": True, "n": 16}
        leave(address, long | {"stream": True})
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(address, json=long, timeout=0.1)
        until = time.monotonic() + 60
        while service.admission.rows or service.served.lm.engine.jobs:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert text_of(httpx.post(address, json=BASES[COMPLETION])) == TEXT[COMPLETION]


def test_a_client_that_leaves_before_the_first_token_frees_its_place():
    waiting = threading.Event()

    def slow(path):
        waiting.wait(30)
        return letters(path)

    service = serve(tiny_lm(slow))
    with serving(service) as address:
        for stream in (True, False):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/v1/completions", json=BASES[COMPLETION] | {"stream": stream}, timeout=0.3)
            until = time.monotonic() + 60
            while service.admission.rows:
                assert time.monotonic() < until
                time.sleep(0.01)
        waiting.set()
