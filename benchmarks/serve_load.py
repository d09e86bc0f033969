"""The server under load: a real `nextok serve` process on a tiny model, and one line of result for each trial.

    python benchmarks/serve_load.py streams --seconds 120     256 open streams; /health ten times a second
    python benchmarks/serve_load.py soak --requests 10000     requests of all kinds; memory and open files
    python benchmarks/serve_load.py flood --requests 1000     all at once at a queue of 64
    python benchmarks/serve_load.py cuts --clients 200        clients that leave at random points, beside four others
    python benchmarks/serve_load.py ends --times 20           SIGTERM under load
    python benchmarks/serve_load.py all

The exit status is 1 if a trial failed. Clients and server share the machine, so times have the clients in them.
"""

import argparse
import asyncio
import http.client
import random
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context

from serving_tools import (
    Running,
    ask,
    children_of,
    free_port,
    memory_of,
    nextok_command,
    raise_open_files,
    running,
    write_request,
    write_tiny_model,
)

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
SEATS, QUEUE = 32, 64
MOST_HEALTH_MS, MOST_FREE_SECONDS, DRAIN_SECONDS = 100, 1.0, 30
IDLE = 2.0
"""Seconds after the last request in which memory goes back to the system."""
NOTICED = 0.25
"""Seconds from SIGTERM after which no new request is taken: the server looks ten times a second."""
ENOUGH_OPEN_FILES = 8192
GROWTH, SPARE_MB = 1.1, 16
"""Resident memory may end so many times, and so many MB, above where it began: allocators keep some."""


@contextmanager
def tiny_server(seats=SEATS, queue=QUEUE, context=4096):
    """A quiet server of the tiny model, which has answered a few requests of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = nextok_command(write_tiny_model(folder, context), port, seats=seats, queue=queue, cache_memory=16)
        with open(f"{folder}/log", "w+") as log:
            with running(command, port, log=log) as server:
                asyncio.run(warm_up(port))
                yield server
            log.seek(0)
            server.complaints += log.read().splitlines()


async def warm_up(port):
    for place in range(40):
        with suppress(ConnectionError):
            await send_mixed(port, place)


def make_body(tokens, seed=1, **fields):
    return {"prompt": f"the {seed}th", "max_tokens": tokens, "seed": seed, "ignore_eos": True} | fields


async def count_running(port):
    """How many requests the server says are in work or wait."""
    text = (await ask(port, "/metrics")).body.decode()
    return sum(int(float(each)) for each in re.findall(r"^nextok_num_requests_(?:running|waiting) (\S+)", text, re.M))


async def wait_until_free(port, most=0, seconds=60.0):
    """Seconds until at most so many requests are in flight; infinity if that takes too long."""
    began = time.perf_counter()
    while await count_running(port) > most:
        if time.perf_counter() - began > seconds:
            return float("inf")
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


def tell(name, passed, text, complaints=()):
    """The line of a trial, which has failed if the server logged an error."""
    if complaints:
        passed, text = (
            False,
            f"{text}; the server logged {len(complaints)} lines: {complaints[0][:100]} ... {complaints[-1][:200]}",
        )
    print(f"{name:8} {'pass' if passed else 'FAIL'}  {text}", flush=True)
    return passed


def find_part(values, part):
    """The value below which this part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def is_back(before, after):
    return after <= before * GROWTH + SPARE_MB


# 256 streams


async def hold_stream(port, body, end):
    """Read a stream until that time and leave; the number of its events. ConnectionError if it ends before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    events = 0
    try:
        writer.write(write_request(COMPLETIONS, body))
        while time.monotonic() < end:
            data = await reader.read(1 << 16)
            if not data:
                raise ConnectionError("a stream ended too soon")
            events += data.count(b"data: ")
    finally:
        writer.close()
    return events


def ask_health(port, seconds):
    """Milliseconds of each of ten answers a second, from a process of its own: the readers of streams are busy."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(max(0, 0.1 - took[-1] / 1000))
    return took


async def stream_and_ask(port, clients, seconds, context):
    end = time.monotonic() + seconds
    bodies = [make_body(context - 64, seed, stream=True) for seed in range(clients)]
    streams = asyncio.gather(*(hold_stream(port, body, end) for body in bodies), return_exceptions=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        health = await asyncio.get_running_loop().run_in_executor(pool, ask_health, port, seconds)
    counts = await streams
    freed = await wait_until_free(port)
    return health, counts, freed


def try_streams(options):
    """Twice, each for half of the time: allocators keep what they once had, and what leaks grows again."""
    clients, context, half = options.clients, 1 << 16, options.seconds / 2
    health, counts = [], []
    with tiny_server(seats=clients, context=context) as server:
        memory, files = [server.memory()], [server.descriptors()]
        for _ in range(2):
            more, ended, freed = asyncio.run(stream_and_ask(server.port, clients, half, context))
            health, counts = health + more, counts + ended
            time.sleep(IDLE)  # after which the server gives memory back
            memory.append(server.memory())
            files.append(server.descriptors())
    lost = [each for each in counts if isinstance(each, Exception)]
    events = [each for each in counts if not isinstance(each, Exception)]
    middle, most, worst = find_part(health, 0.5), find_part(health, 0.99), max(health)
    passed = not lost and min(events) > 1 and most < MOST_HEALTH_MS and freed < 5
    passed = passed and is_back(memory[1], memory[2]) and files[2] <= files[0]
    rate = sum(events) / options.seconds
    text = f"{clients} streams for two times {half:g} s, {rate:,.0f} events/s, {len(lost)} lost; "
    text += f"/health p50 {middle:.1f}, p99 {most:.1f}, max {worst:.1f} ms of {len(health)}; "
    text += (
        f"memory {memory[0]:.0f}, {memory[1]:.0f}, {memory[2]:.0f} MB, open files {files}; free after {freed:.2f} s"
    )
    return tell("streams", passed, text, server.complaints)


# requests of all kinds


async def send_mixed(port, place):
    """One request of the kind that belongs to its place; AssertionError if the answer is another one."""
    body, chat = make_body(8 + place % 24, place), {"messages": [{"role": "user", "content": f"say {place}"}]}
    chat |= {"max_tokens": 12, "seed": place}
    match place % 10:
        case 0:
            answer = await ask(port, COMPLETIONS, body | {"stream": True})
            assert answer.is_whole, answer
        case 1:
            answer = await ask(port, COMPLETIONS, body | {"n": 3, "logprobs": 2})
            assert len(answer.json()["choices"]) == 3
        case 2:
            answer = await ask(port, CHATS, chat)
            assert answer.json()["choices"][0]["message"]["role"] == "assistant"
        case 3:
            answer = await ask(port, CHATS, chat | {"stream": True, "stream_options": {"include_usage": True}})
            assert answer.is_whole, answer
        case 4:
            answer = await ask(port, COMPLETIONS, body | {"temperature": "hot"})
            assert answer.status == 400, answer
        case 5:
            answer = await ask(port, f"/v1/nowhere{place}", {})
            assert answer.status == 404, answer
        case 6:
            form = {"structured_outputs": {"regex": "[a-f]{4,9}"}}
            answer = await ask(port, COMPLETIONS, body | {"max_tokens": 20, "ignore_eos": False} | form)
            assert re.fullmatch("[a-f]{4,9}", answer.text()), answer
        case 7:
            answer = await ask(port, COMPLETIONS, body | {"prompt": f"{place} " * 300})
            assert answer.status == 200, answer
        case 8:
            body = make_body(2000, place, stream=True)
            await ask(port, COMPLETIONS, body, until=lambda data: data.count(b"data: ") > place % 7)
        case _:
            await cut_after(port, make_body(2000, place), place % 50 / 1000)


async def cut_after(port, body, seconds):
    """Send a request, and leave so much later, whether or not there is an answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ask(port, COMPLETIONS, body)


async def send_many(port, places, at_once=24):
    """All of them, so many at a time; what went wrong."""
    wrong, rest = [], iter(places)

    async def work():
        for place in rest:
            try:
                await send_mixed(port, place)
            except (AssertionError, OSError, ValueError, LookupError) as error:
                wrong.append(f"request {place}: {type(error).__name__} {str(error)[:200]}")

    await asyncio.gather(*(work() for _ in range(at_once)))
    await wait_until_free(port)
    return wrong


def try_soak(options):
    count, first = options.requests, min(1000, options.requests // 2)
    with tiny_server() as server:
        files = server.descriptors()
        wrong = asyncio.run(send_many(server.port, range(first)))
        early, files_early = server.memory(), server.descriptors()
        began = time.perf_counter()
        wrong += asyncio.run(send_many(server.port, range(first, count)))
        rate, late = (count - first) / (time.perf_counter() - began), server.memory()
        asyncio.run(asyncio.sleep(2))
        end, files_end = server.memory(), server.descriptors()
    passed = not wrong and is_back(early, end) and files_end <= files
    text = f"{count:,} requests, {rate:.0f}/s, {len(wrong)} wrong{': ' + wrong[0] if wrong else ''}; "
    text += f"memory {early:.0f} MB "
    text += (
        f"after {first:,}, {late:.0f} after all, {end:.0f} at the end; open files {files}, {files_early}, {files_end}"
    )
    return tell("soak", passed, text, server.complaints)


# all at once


async def flood(port, count):
    asked = (ask(port, COMPLETIONS, make_body(50, place)) for place in range(count))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await wait_until_free(port)
    return answers, await ask(port, COMPLETIONS, make_body(50, 1))


def try_flood(options):
    with tiny_server() as server:
        answers, after = asyncio.run(flood(server.port, options.requests))
    lost = [each for each in answers if isinstance(each, Exception)]
    done = [each for each in answers if not isinstance(each, Exception)]
    good = [each for each in done if each.status == 200 and each.is_whole]
    refused = [each for each in done if each.status == 503 and each.is_whole and each.headers.get("retry-after")]
    others = sorted({each.status for each in done if each not in good and each not in refused})
    passed = len(good) + len(refused) == options.requests and len(good) >= SEATS + QUEUE and after.status == 200
    text = f"{options.requests:,} at once: {len(good)} answered, {len(refused)} refused with 503 and Retry-After, "
    text += f"{len(lost)} lost{f' ({lost[0]!r})' if lost else ''}, others {others}"
    if refused:
        text += f"; refusals p99 {1000 * find_part([each.whole for each in refused], 0.99):.0f} ms"
    return tell("flood", passed, f"{text}; a request afterwards: {after.status}", server.complaints)


# clients that leave


def make_others(count=4):
    """Requests that stay, with seeds of their own."""
    return [make_body(1500, 1000 + place, stream=place % 2 == 0) for place in range(count)]


async def leave(port, place, draw):
    """One client that leaves: in the queue or the prompt, in the stream, or while it waits for a whole answer."""
    kind, long = place % 4, "a long prompt, " * 200
    await asyncio.sleep(draw.random() * 1.5)
    with suppress(ConnectionError):
        if kind == 0:
            after = draw.randrange(1, 60)
            body = make_body(2000, place, stream=True)
            await ask(port, COMPLETIONS, body, until=lambda data: data.count(b"data: ") >= after)
        elif kind == 1:
            await cut_after(port, make_body(500, place, stream=True, prompt=f"{place} {long}"), draw.random() * 0.1)
        elif kind == 2:
            await cut_after(port, make_body(2000, place), draw.random())
        else:
            await cut_after(port, make_body(500, place, stream=True, n=2), draw.random() * 0.3)


async def disturb(port, clients, seed):
    """The texts of the others alone and disturbed, and seconds until all is free after the last one left."""
    draw = random.Random(seed)
    alone = [await ask(port, COMPLETIONS, body) for body in make_others()]
    tasks = [asyncio.create_task(ask(port, COMPLETIONS, body)) for body in make_others()]
    while await count_running(port) < len(tasks):
        await asyncio.sleep(0.01)
    await asyncio.gather(*(leave(port, place, draw) for place in range(clients)))
    stay = sum(not task.done() for task in tasks)
    freed = await wait_until_free(port, most=stay)
    disturbed = await asyncio.gather(*tasks)
    same = [one.text() == other.text() and other.is_whole for one, other in zip(alone, disturbed)]
    return same, stay, freed, await wait_until_free(port)


def try_cuts(options):
    with tiny_server(queue=2 * options.clients) as server:
        files = server.descriptors()
        same, stay, freed, at_end = asyncio.run(disturb(server.port, options.clients, options.seed))
        files_end = server.descriptors()
    passed = all(same) and freed < MOST_FREE_SECONDS and at_end < MOST_FREE_SECONDS and files_end <= files
    text = f"{options.clients} clients left; all but the {stay} others free after {freed:.2f} s; "
    text += f"{sum(same)} of {len(same)} others unchanged; open files {files} -> {files_end}"
    return tell("cuts", passed, text, server.complaints)


# the end


async def knock(port, process):
    """New connections until the process has ended; the answers, later than NOTICED, that are neither 503 nor none."""
    wrong, began = [], time.perf_counter()
    while process.poll() is None:
        sent = time.perf_counter() - began
        with suppress(OSError):
            answer = await ask(port, COMPLETIONS, make_body(3))
            if answer.status not in (0, 503) and sent > NOTICED:
                wrong.append(f"{answer.status} after {sent:.2f} s")
        await asyncio.sleep(0.05)
    return wrong


async def end_under_load(server: Running, tokens):
    """SIGTERM while streams and whole answers are in flight, and connections that ask for nothing."""
    port, body = server.port, make_body(tokens)
    begun = [asyncio.Event() for _ in range(16)]

    def notice(event):
        return lambda data: b"data: " in data and event.set()

    streams = [asyncio.create_task(ask(port, COMPLETIONS, body | {"stream": True}, notice(each))) for each in begun]
    whole = [asyncio.create_task(ask(port, COMPLETIONS, body | {"seed": seed})) for seed in range(8)]
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    idle[0][1].write(b"POST /v1/completions HTTP/1.1\r\nHost: loc")
    await asyncio.gather(*(event.wait() for event in begun))
    while await count_running(port) < len(streams) + len(whole):
        await asyncio.sleep(0.01)
    began, children = time.perf_counter(), children_of(server.process.pid)
    server.process.terminate()
    await asyncio.sleep(0)
    wrong = await knock(port, server.process)
    seconds = time.perf_counter() - began
    for _, writer in idle:
        writer.close()
    answers = await asyncio.gather(*streams, *whole, return_exceptions=True)
    left = [child for child in children if memory_of(child)]
    return answers, wrong, seconds, left


def ended_properly(answer):
    """Whole, or told that it was ended."""
    if isinstance(answer, Exception):
        return False
    return answer.is_whole or answer.status == 503 or b'"error"' in answer.body.split(b"data: ")[-1]


def try_ends(options):
    times, bad, statuses, complaints = [], [], set(), []
    for number in range(options.times):
        tokens = 50_000 if number == options.times - 1 else 300  # the last ones do not end within the drain time
        with tiny_server(context=1 << 16) as server:
            answers, wrong, seconds, left = asyncio.run(end_under_load(server, tokens))
            status = server.process.wait()
        complaints += server.complaints
        statuses.add(status)
        times.append(seconds)
        lost = sum(not ended_properly(each) for each in answers)
        if lost or wrong or left or status or seconds > DRAIN_SECONDS + 3:
            bad.append(
                f"end {number}: status {status}, {lost} of {len(answers)} answers broken off, {left=}, {wrong=}"
            )
    text = f"{options.times} times SIGTERM with 24 in flight: exit status {sorted(statuses)}, seconds to the end "
    text += f"{min(times):.1f} to {max(times):.1f}, {len(bad)} bad{': ' + bad[0] if bad else ''}"
    return tell("ends", not bad, text, complaints)


TRIALS = {"streams": try_streams, "soak": try_soak, "flood": try_flood, "cuts": try_cuts, "ends": try_ends}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=[*TRIALS, "all"])
    parser.add_argument("--clients", type=int, help="of streams (256) and cuts (200)")
    parser.add_argument("--requests", type=int, help="of soak (10000) and flood (1000)")
    parser.add_argument("--seconds", type=int, default=120, help="of streams")
    parser.add_argument("--times", type=int, default=20, help="of ends")
    parser.add_argument("--seed", type=int, default=1, help="of the points where clients leave")
    given = parser.parse_args()
    raise_open_files(ENOUGH_OPEN_FILES)
    results = []
    for name in TRIALS if given.trial == "all" else [given.trial]:
        options = argparse.Namespace(**vars(given))
        options.clients = given.clients or (256 if name == "streams" else 200)
        options.requests = given.requests or (10_000 if name == "soak" else 1000)
        results.append(TRIALS[name](options))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
