"""How the server treats its clients: who may come in and when, what it says of itself, and how it ends."""

import asyncio
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import nextok as nt
from nextok.api.errors import ApiError
from nextok.api.served import OPENAI_DEFAULTS
from nextok.serve import events, protocol, run
from nextok.serve import service as service_module
from nextok.serve.admission import Admission
from nextok.serve.app import build_app
from nextok.serve.turns import Turns
from servers import serve, serving
from tiny import tiny_lm

BODY = {"prompt": "abc", "max_tokens": 8, "seed": 1}
COMPLETIONS = "/v1/completions"


def ask_all(service, *requests, **app):
    """Requests to the application in this process, at once; each is a body, or a path, or both with headers."""

    async def ask():
        transport = httpx.ASGITransport(build_app(service, **app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(each(client) for each in requests))

    return asyncio.run(ask())


def post(body, path=COMPLETIONS, **headers):
    return lambda client: client.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def get(path, **headers):
    return lambda client: client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})


def wait_for(met, seconds=30):
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- the queue -----------------------------------------------------------------------------------------------------


def test_seats_are_handed_out_in_the_order_of_coming():
    async def play():
        admission, order = Admission(2, 10), []

        async def come(name, rows):
            async with admission.enter(rows):
                order.append(name)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(come(name, rows) for name, rows in [("a", 1), ("b", 2), ("c", 1), ("d", 9), ("e", 1)]))
        assert (admission.rows, admission.running, admission.waiting) == (0, 0, 0)
        return order

    assert asyncio.run(play()) == list("abcde")  # c does not overtake b, and d takes all seats


def test_who_waits_too_long_or_finds_the_queue_full_is_told_and_takes_no_seat():
    async def play():
        admission = Admission(1, 1, patience=0.05)
        async with admission.enter(1):
            waiting = asyncio.ensure_future(admission.enter(1).__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(ApiError, match="1 requests are in work and 1 wait") as full:
                await admission.enter(1).__aenter__()
            with pytest.raises(ApiError, match=r"within 0\.05 seconds") as late:
                await waiting
        assert (full.value.code, late.value.code) == ("queue_full", "queue_timeout")
        assert full.value.status == late.value.status == 503
        assert (admission.rows, admission.waiting) == (0, 0)
        async with admission.enter(1):
            pass

    asyncio.run(play())


def test_who_leaves_the_queue_lets_the_next_one_in():
    async def play():
        admission = Admission(2, 10)
        async with admission.enter(1):
            entries = [admission.enter(2), admission.enter(1)]
            large, small = (asyncio.ensure_future(each.__aenter__()) for each in entries)
            await asyncio.sleep(0)
            assert not small.done()
            large.cancel()
            await asyncio.wait({small}, timeout=5)
            assert admission.rows == 2

    asyncio.run(play())


def test_who_leaves_the_queue_when_a_seat_becomes_free_disturbs_nobody():
    async def run():
        admission = Admission(1, 5)

        async def come():
            async with admission.enter(1):
                return "was in"

        async with admission.enter(1):
            leaving, staying = asyncio.create_task(come()), asyncio.create_task(come())
            while admission.waiting < 2:
                await asyncio.sleep(0)
            leaving.cancel()  # which it learns after the seat has become free
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await staying == "was in"
        assert (admission.rows, admission.running, admission.waiting) == (0, 0, 0)

    asyncio.run(run())


def test_beams_and_samples_count_as_the_texts_that_they_write():
    service = serve(tiny_lm(), seats=4, queue=0)

    async def play():
        transport = httpx.ASGITransport(build_app(service))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with client, service.admission.enter(2):
            bodies = [
                {"n": 2},
                {"n": 3},
                {"decoder": {"name": "beam", "width": 2}},
                {"use_beam_search": True, "n": 3},
            ]
            bodies += [{"prompt": ["a", "b"]}, {"prompt": ["a", "b", "c"]}]
            return [(await client.post(COMPLETIONS, json=BODY | each)).status_code for each in bodies]

    assert asyncio.run(play()) == [200, 503, 200, 503, 200, 503]


def test_one_request_cannot_ask_for_any_number_of_texts():
    [many] = ask_all(serve(tiny_lm()), post(BODY | {"prompt": ["a"] * 64, "n": 16}))
    assert many.status_code == 400
    assert "1024" in many.json()["error"]["message"]
    [fits] = ask_all(serve(tiny_lm()), post(BODY | {"prompt": ["a"] * 60}))
    assert len(fits.json()["choices"]) == 60


def test_scores_wait_in_the_queue_too_and_are_counted():
    service = serve(tiny_lm(), seats=1)
    echo = {"prompt": ["abc", "abd"], "echo": True, "max_tokens": 0, "logprobs": 1, "return_token_ids": True}
    [answer] = ask_all(service, post(echo))
    usage = answer.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (6, 0, 6)
    assert "prompt_tokens_details" in usage
    assert answer.json()["choices"][1]["prompt_token_ids"] == [97, 98, 100]
    [metrics] = ask_all(service, get("/metrics"))
    assert "nextok_prompt_tokens_total 6.0" in metrics.text
    [long] = ask_all(service, post(echo | {"prompt": "a" * 512}))  # all of the context
    assert len(long.json()["choices"][0]["logprobs"]["tokens"]) == 512
    [longer] = ask_all(service, post(echo | {"prompt": "a" * 513}))
    assert longer.json()["error"]["code"] == "context_length_exceeded"


def test_forms_that_take_long_hold_up_no_other_request(monkeypatch):
    """Threads are few: requests whose grammars are slow must leave some to the others."""
    slow, read = threading.Event(), service_module.read_task

    def read_slowly(served, kind, body):
        if "grammar" in body:
            slow.wait(30)
        return read(served, kind, body)

    monkeypatch.setattr(service_module, "read_task", read_slowly)
    service = serve(tiny_lm())

    async def play():
        transport = httpx.ASGITransport(build_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            form = BODY | {"grammar": 'root ::= "a"'}
            slow_ones = [asyncio.ensure_future(client.post(COMPLETIONS, json=form)) for _ in range(40)]
            await asyncio.sleep(0)
            quick = await client.post(COMPLETIONS, json=BODY, timeout=20)
            slow.set()
            return quick, await asyncio.gather(*slow_ones)

    quick, rest = asyncio.run(play())
    assert quick.status_code == 200
    assert {each.json()["choices"][0]["text"] for each in rest} == {"a"}


def test_every_text_ends_by_the_deadline():
    service = serve(tiny_lm(), deadline=0.0001)
    [answer] = ask_all(service, post(BODY | {"max_tokens": 400, "ignore_eos": True}))
    assert answer.json()["usage"]["completion_tokens"] < 400
    [answer] = ask_all(service, post(BODY | {"max_tokens": 400, "ignore_eos": True, "timeout": 1000}))
    assert answer.json()["usage"]["completion_tokens"] < 400


# --- what is said --------------------------------------------------------------------------------------------------


def test_every_answer_has_an_id_which_the_client_may_choose():
    service = serve(tiny_lm())
    made, chosen, refused, odd = ask_all(
        service,
        post(BODY),
        post(BODY, x_request_id="mine-1"),
        post({"n": -1}, x_request_id="mine-2"),
        post(BODY, x_request_id="x" * 1000),
    )
    assert made.headers["x-request-id"].startswith("req-")
    assert (chosen.headers["x-request-id"], refused.headers["x-request-id"]) == ("mine-1", "mine-2")
    assert odd.headers["x-request-id"].startswith("req-")
    [stream] = ask_all(service, post(BODY | {"stream": True}, x_request_id="mine-3"))
    assert stream.headers["x-request-id"] == "mine-3"


def lines_of(caplog, form):
    formatter = run._Lines(form == "json")
    return [formatter.format(record) for record in caplog.records if record.name == "nextok.serve"]


def test_the_log_tells_numbers_and_no_texts_unless_asked(caplog):
    caplog.set_level(logging.INFO, "nextok.serve")
    secret = {"prompt": "sesame", "max_tokens": 3, "seed": 1}
    ask_all(serve(tiny_lm()), post(secret, x_request_id="one"))
    ask_all(serve(tiny_lm()), post({"messages": [{"role": "sesame"}]}, path="/v1/chat/completions"))
    ask_all(serve(tiny_lm()), post({"prompt": ["sesame", 3]}), post({"sesame": 1, "prompt": ""}))
    text = lines_of(caplog, "text")
    assert text[0].startswith("POST /v1/completions 200 0.")
    assert "6 tokens read, 3 written (length)" in text[0]
    told = json.loads(lines_of(caplog, "json")[0])
    assert (told["id"], told["route"], told["status"]) == ("one", COMPLETIONS, 200)
    assert (told["prompt_tokens"], told["generated_tokens"], told["finish_reasons"]) == (6, 3, ["length"])
    assert not any("sesame" in line for form in ("text", "json") for line in lines_of(caplog, form))
    caplog.clear()
    ask_all(serve(tiny_lm()), post(secret), logs_requests=True)
    assert all("sesame" in line for form in ("text", "json") for line in lines_of(caplog, form))


def test_metrics_tell_what_was_refused_and_why_without_names_of_clients():
    service = serve(tiny_lm(), seats=1, queue=0, strict=True)
    ask_all(service, post(BODY | {"temperature": 9}))
    ask_all(service, post(BODY | {"my_field": 9}))

    async def fill():
        transport = httpx.ASGITransport(build_app(service))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with client, service.admission.enter(1):
            await client.post(COMPLETIONS, json=BODY)

    asyncio.run(fill())
    [answer] = ask_all(service, get("/metrics"))
    assert 'nextok_invalid_requests_total{param="temperature"} 1.0' in answer.text
    assert 'nextok_invalid_requests_total{param="other"} 1.0' in answer.text
    assert "my_field" not in answer.text
    assert 'nextok_requests_rejected_total{reason="queue_full"} 1.0' in answer.text


def test_the_models_own_settings_decode_what_names_nothing():
    lm = tiny_lm()
    model = serve(lm, defaults=OPENAI_DEFAULTS | {"temperature": 0.3, "top_k": 3, "repetition_penalty": 1.5})
    wanted = lm.generate("abc", nt.Sample(0.3, top_k=3, repetition_penalty=1.5), max_tokens=8, seed=1).text
    [answer] = ask_all(model, post(BODY))
    assert answer.json()["choices"][0]["text"] == wanted
    named = nt.Sample(0.9, top_k=3, repetition_penalty=1.5)
    [answer] = ask_all(model, post(BODY | {"temperature": 0.9}))
    assert answer.json()["choices"][0]["text"] == lm.generate("abc", named, max_tokens=8, seed=1).text
    [answer] = ask_all(model, post(BODY | {"decoder": {"name": "greedy"}}))
    assert answer.json()["choices"][0]["text"] == lm.generate("abc", max_tokens=8).text


def test_log_probabilities_of_a_prompt_in_both_forms():
    lm = tiny_lm()
    scores = lm.score("abc", 2)
    [answer] = ask_all(serve(lm), post(BODY | {"prompt_logprobs": 2}))
    first, second, _ = answer.json()["choices"][0]["prompt_logprobs"]
    assert first is None
    assert second["98"]["logprob"] == scores.logprobs[1]
    assert [each["rank"] for each in second.values()][-2:] == [1, 2]
    streamed, whole = ask_all(
        serve(lm), *(post(BODY | {"echo": True, "logprobs": 1, "stream": s}) for s in (True, False))
    )
    frames = [json.loads(line[6:]) for line in streamed.text.split("\n\n")[:-2]]
    parts = [frame["choices"][0]["logprobs"] for frame in frames if frame["choices"][0]["logprobs"]]
    joined = {key: [each for part in parts for each in part[key]] for key in parts[0]}
    assert joined == whole.json()["choices"][0]["logprobs"]
    chat = {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 2, "prompt_logprobs": 0}
    [answer] = ask_all(serve(lm), post(chat, path="/v1/chat/completions"))
    assert len(answer.json()["prompt_logprobs"]) == answer.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"use_beam_search": True, "n": 2, "top_k": 5}, "top_k"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"temperature": 0, "typical_p": 0.5}, "typical_p"),
        ({"xtc_threshold": 0.5}, "xtc_threshold"),
        ({"dry_base": 2.0}, "dry_base"),
        ({"response_format": {"type": "text", "note": 1}}, "response_format.note"),
        ({"response_format": {"type": "json_object", "json_object": {"x": 1}}}, "response_format.json_object.x"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
    ids=str,
)
def test_what_changes_nothing_beside_the_other_fields_is_told_or_refused(fields, name):
    [answer] = ask_all(serve(tiny_lm()), post(BODY | fields))
    assert answer.status_code == 200, answer.text
    assert name in answer.headers["x-nextok-ignored"].replace("%5B", "[")
    [refused] = ask_all(serve(tiny_lm(), strict=True), post(BODY | fields))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == name


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"include_usage": 1}},
        {"decoder": {"name": "beam", "width": 3}, "n": 2},
        {"decoder": {"name": "beam", "width": 3}, "length_penalty": 2.0},
        {"decoder": {"name": "diverse_beam", "width": 4, "groups": 2}},
        {"decoder": {"name": "sample", "dry": {"multiplier": -1}}},
        {"decoder": {"name": "beam", "width": 2, "sampling": {"name": "beam", "width": 2}}},
        {"structured_outputs": {"json_object": 3}},
        {"json_schema": {"type": "object"}, "grammar": 'root ::= "a"'},
        {"grammar": "root ::= x"},
        {"prompt_logprobs": 2, "stream": True},
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(fields):
    [answer] = ask_all(serve(tiny_lm()), post(BODY | fields))
    assert answer.status_code == 400, answer.text
    assert "__init__" not in answer.text


def test_a_decoder_takes_the_librarys_records():
    lm = tiny_lm()
    sample = {
        "name": "sample",
        "temperature": 0.8,
        "dry": {"multiplier": 2.0, "breakers": ["x"]},
        "xtc": {"probability": 0.5},
    }
    wanted = nt.Sample(0.8, dry=nt.DRY(2.0, breakers=("x",)), xtc=nt.XTC(0.5))
    [answer] = ask_all(serve(lm), post(BODY | {"decoder": sample}))
    assert answer.json()["choices"][0]["text"] == lm.generate("abc", wanted, max_tokens=8, seed=1).text
    beam = {"name": "beam", "width": 3, "sampling": {"name": "sample", "top_k": 4}}
    [answer] = ask_all(serve(lm), post(BODY | {"decoder": beam}))
    drawn = nt.Beam(3, sampling=nt.Sample(top_k=4))
    assert answer.json()["choices"][0]["text"] == lm.generate("abc", drawn, max_tokens=8, seed=1).text


# --- who may come in -----------------------------------------------------------------------------------------------


def test_a_page_of_another_site_is_refused_but_not_a_program():
    hosts = run.LOCAL
    own, other, none, null = ask_all(
        serve(tiny_lm()),
        post(BODY, origin="http://localhost:8000"),
        post(BODY, origin="https://evil.example"),
        post(BODY),
        post(BODY, origin="null"),
        hosts=hosts,
    )
    assert [each.status_code for each in (own, other, none, null)] == [200, 403, 200, 403]
    assert not any(name.startswith("access-control") for name in own.headers)


def test_a_server_that_loads_or_ends_is_alive_and_not_ready():
    service = serve(tiny_lm())
    opened, service.opened = service.opened, None
    for state in ("loading", "draining"):
        health, ready, asked, metrics = ask_all(service, get("/health"), get("/ready"), post(BODY), get("/metrics"))
        assert (health.status_code, metrics.status_code) == (200, 200)
        for answer in (ready, asked):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, state)
            assert "retry-after" in answer.headers
        service.opened, service.is_draining = opened, True
    service.is_draining = False
    assert ask_all(service, get("/ready"))[0].status_code == 200


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason():
    service = serve(tiny_lm())
    service.opened = None

    def load():
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        asyncio.run(
            run.run(run.build_server(service, "127.0.0.1"), service, run.open_socket("127.0.0.1", 0), load, print)
        )


def test_what_has_not_ended_in_time_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(run, "DRAIN_SECONDS", 0.2)

    def slow(path):
        time.sleep(0.02)
        return [float(token == 97) for token in range(259)]

    service = serve(tiny_lm(slow), seats=2)
    with ThreadPoolExecutor(2) as pool, httpx.Client(timeout=30) as client:
        with serving(service) as address:

            def ask(**fields):
                request = client.build_request(
                    "POST", address + COMPLETIONS, json=BODY | {"max_tokens": 500} | fields
                )
                return client.send(request, stream=True)

            stream = ask(stream=True)
            lines = stream.iter_lines()
            begun = next(lines)
            written = pool.submit(ask)
            wait_for(lambda: service.admission.running == 2)
            waiting = pool.submit(ask)
            wait_for(lambda: service.admission.waiting == 1)
        whole = [written.result(), waiting.result()]
        told = [json.loads(answer.read())["error"]["code"] for answer in whole]
        last = [line for line in (begun, *lines) if line][-1]
    assert (stream.status_code, [answer.status_code for answer in whole]) == (200, [503, 503])
    assert [json.loads(last[6:])["error"]["code"], *told] == ["draining"] * 3


# --- slow and odd clients ------------------------------------------------------------------------------------------


def connect(address):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_a_client_whose_headers_never_end_is_cut(monkeypatch):
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    with serving(serve(tiny_lm())) as address:
        with connect(address) as silent, connect(address) as slow, connect(address) as second:
            for byte in b"GET /hea":
                slow.send(bytes([byte]))
                time.sleep(0.02)
            second.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
            assert b"200 OK" in second.recv(9999)
            assert silent.recv(9) == slow.recv(9) == b""
            while second.recv(9999):
                pass
        assert httpx.get(f"{address}/health").status_code == 200


def test_a_long_silence_is_broken_and_the_text_is_the_same(monkeypatch):
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    thinking = threading.Event()

    def slow(path):
        thinking.wait(30)
        return [float(token == 97) for token in range(259)]

    with serving(serve(tiny_lm(slow))) as address, httpx.Client(timeout=30) as client:
        with client.stream("POST", address + COMPLETIONS, json=BODY | {"stream": True}) as answer:
            lines = answer.iter_lines()
            assert answer.status_code == 200
            assert next(lines) == ": ping"
            thinking.set()
            frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        text = "".join(frame["choices"][0]["text"] for frame in frames)
        assert text == client.post(address + COMPLETIONS, json=BODY).json()["choices"][0]["text"]


def test_an_error_in_the_middle_of_a_stream_is_told_and_logged(caplog):
    calls = []

    def failing(path):
        calls.append(path)
        if len(calls) > 4:
            raise RuntimeError("the cable is loose")
        return [float(token == 97) for token in range(259)]

    with serving(serve(tiny_lm(failing))) as address:
        answer = httpx.post(address + COMPLETIONS, json=BODY | {"stream": True}, timeout=30)
    last = answer.text.split("\n\n")[-2]
    assert json.loads(last[6:])["error"]["type"] == "server_error"
    assert "cable" not in answer.text
    assert any("the cable is loose" in str(record.exc_info) for record in caplog.records)


def test_streams_that_always_have_something_to_send_leave_turns_to_others():
    """Without turns one task sends all that it has, and 256 of them hold the loop for seconds."""

    async def play():
        turns, sent, seen = Turns(4), [0], []

        async def stream():
            for _ in range(50):
                await turns.wait()
                sent[0] += 1

        streams = [asyncio.ensure_future(stream()) for _ in range(10)]
        while not all(each.done() for each in streams):
            before = sent[0]
            await asyncio.sleep(0)
            seen.append(sent[0] - before)
        return sent[0], max(seen)

    total, most = asyncio.run(play())
    assert total == 500
    assert most <= 8


def test_an_answer_does_not_wait_for_the_clients_acknowledgement():
    """A connection has this from the socket that listens, and without it each answer takes 40 ms longer."""
    with run.open_socket("127.0.0.1", 0) as opened:
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with socket.create_connection(opened.getsockname()), opened.accept()[0] as taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
