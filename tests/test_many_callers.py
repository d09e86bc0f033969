"""One LM and very many callers: threads, tasks, forks, signals. Each text is the one that its request gets alone.

Nothing here may hang: whatever does fails after a time. NEXTOK_ROUNDS is the number of rounds; 1000 take long.
"""

import asyncio
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from functools import cache
from pathlib import Path

import pytest

import nextok as nt
from strangers import CASES
from tiny import tiny_lm

ROUNDS = int(os.environ.get("NEXTOK_ROUNDS", "2"))
PATIENCE = 60.0
"""Time in seconds after which something is taken to hang; the machine may be busy."""
STRATEGIES = {
    "greedy": nt.Greedy(),
    "warm": nt.Sample(temperature=0.8, top_k=50),
    "penalised": nt.Sample(repetition_penalty=1.3),
    "beam": nt.Beam(3),
    "lookup": nt.Speculate(nt.PromptLookup(max_draft=4, shortest=1), nt.Sample()),
    "draft": nt.Speculate(nt.DraftModel(tiny_lm(), max_draft=3), nt.Sample()),
}
PROMPTS = ("abc", "The sea is", "x")


@pytest.fixture(scope="module")
def lm():
    return tiny_lm()


@cache
def alone(name, prompt, seed, tokens=12):
    """The token ids that a request gets from an LM of its own."""
    return tuple(tiny_lm().generate(prompt, STRATEGIES[name], seed=seed, max_tokens=tokens, ignore_eos=True).tokens)


def chosen(dice):
    """A strategy, a prompt and a seed."""
    return dice.choice(sorted(STRATEGIES)), dice.choice(PROMPTS), dice.randrange(6)


def run_all(*works, patience=PATIENCE):
    """Run these at once, each in a thread; raise the first error; fail if one of them hangs."""
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a caller hangs"
    for error in errors:
        raise error


def run_tasks(make):
    """`asyncio.run` in a thread, so that a loop that hangs fails."""
    run_all(lambda: asyncio.run(asyncio.wait_for(make(), PATIENCE)), patience=PATIENCE + 5)


def wait_until(true, patience=PATIENCE):
    """Sleep until it is true; fail if it never is."""
    until = time.monotonic() + patience
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


# --- what a caller may do ------------------------------------------------------------------------------------------


def generate(lm, dice):
    name, prompt, seed = chosen(dice)
    output = lm.generate(prompt, STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    assert tuple(output.tokens) == alone(name, prompt, seed)


def generate_several(lm, dice):
    name, _, seed = chosen(dice)
    outputs = lm.generate(list(PROMPTS), STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    assert [tuple(output.tokens) for output in outputs] == [alone(name, prompt, seed) for prompt in PROMPTS]


def read_stream(lm, dice):
    name, prompt, seed = chosen(dice)
    stream = lm.stream(prompt, STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    text = "".join(piece.text for piece in stream)
    output = stream.output()
    assert tuple(output.tokens) == alone(name, prompt, seed)
    assert text == output.text


def leave_stream(lm, dice):
    for _ in lm.stream("abc", nt.Sample(), max_tokens=300, ignore_eos=True):
        break


def close_elsewhere(lm, dice):
    stream = lm.stream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
    other = threading.Timer(dice.random() * 0.01, stream.close)
    other.start()
    for _ in stream:
        pass
    other.join(PATIENCE)
    tokens = tuple(stream.output().tokens)
    assert stream.output().finish_reason in ("cancelled", "length")
    assert tokens == alone_long()[: len(tokens)]


@cache
def alone_long():
    return tuple(tiny_lm().generate("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True).tokens)


def run_out_of_time(lm, dice):
    output = lm.generate("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True, timeout=0.01)
    assert output.finish_reason in ("timeout", "length")
    assert tuple(output.tokens) == alone_long()[: len(output.tokens)]


def make_a_mistake(lm, dice):
    case = CASES[dice.choice(["raises later", "yields None", "asks above the root", "raises SystemExit"])]
    with pytest.raises(Exception):  # noqa: B017
        lm.generate("abc", case.strategy, max_tokens=5)


def score(lm, dice):
    assert lm.score("abc").logprobs[0] is None


ACTS = (
    generate,
    generate,
    generate_several,
    read_stream,
    leave_stream,
    close_elsewhere,
    run_out_of_time,
    make_a_mistake,
    score,
)


async def agenerate(lm, dice):
    name, prompt, seed = chosen(dice)
    output = await lm.agenerate(prompt, STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    assert tuple(output.tokens) == alone(name, prompt, seed)


async def agenerate_several(lm, dice):
    name, _, seed = chosen(dice)
    outputs = await lm.agenerate(list(PROMPTS), STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    assert [tuple(output.tokens) for output in outputs] == [alone(name, prompt, seed) for prompt in PROMPTS]


async def read_astream(lm, dice):
    name, prompt, seed = chosen(dice)
    stream = lm.astream(prompt, STRATEGIES[name], seed=seed, max_tokens=12, ignore_eos=True)
    text = "".join([piece.text async for piece in stream])
    output = await stream.output()
    assert tuple(output.tokens) == alone(name, prompt, seed)
    assert text == output.text


async def leave_astream(lm, dice):
    async for _ in lm.astream("abc", nt.Sample(), max_tokens=300, ignore_eos=True):
        break


async def cancel_task(lm, dice):
    task = asyncio.create_task(lm.agenerate("abc", nt.Sample(), max_tokens=400, ignore_eos=True))
    await asyncio.sleep(dice.random() * 0.02)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.result().finish_reason == "length"


async def make_an_async_mistake(lm, dice):
    with pytest.raises(Exception):  # noqa: B017
        await lm.agenerate("abc", CASES["raises SystemExit"].strategy)


ASYNC_ACTS = (
    agenerate,
    agenerate,
    agenerate_several,
    read_astream,
    leave_astream,
    cancel_task,
    make_an_async_mistake,
)


def act_in_turn(lm, seed, count=4):
    dice = random.Random(seed)
    for _ in range(count):
        dice.choice(ACTS)(lm, dice)


async def act_in_tasks(lm, seed, tasks=50):
    dice = random.Random(seed)
    await asyncio.gather(*(dice.choice(ASYNC_ACTS)(lm, random.Random(dice.random())) for _ in range(tasks)))


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_threads_and_tasks_get_the_texts_that_they_get_alone(lm, round_):
    loop = [lambda: asyncio.run(asyncio.wait_for(act_in_tasks(lm, round_), PATIENCE))]
    run_all(*[lambda seed=seed: act_in_turn(lm, seed) for seed in range(8 * round_, 8 * round_ + 8)], *loop)
    gc.collect()
    lm.generate("x", max_tokens=1)
    assert lm.runner.jobs() == []


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_two_lms_share_a_model_as_target_and_as_draft(round_):
    first, second = tiny_lm(), tiny_lm()
    strategies = [nt.Speculate(nt.DraftModel(lm, max_draft=3), nt.Sample()) for lm in (second, first)]

    def work(lm, strategy, seed):
        output = lm.generate("abc", strategy, seed=seed, max_tokens=12, ignore_eos=True)
        assert tuple(output.tokens) == tuple(
            tiny_lm().generate("abc", nt.Sample(), seed=seed, max_tokens=12, ignore_eos=True).tokens
        )

    pairs = list(zip((first, second), strategies))
    run_all(*[lambda pair=pair, seed=seed: work(*pair, seed) for pair in pairs for seed in range(4)])


@pytest.mark.model
def test_threads_and_tasks_on_the_real_model():
    real = nt.load("smollm2", precision="exact")
    prompts = ["Once upon a time", "The capital of France is", "def add(a, b):"]
    options = {"max_tokens": 6, "seed": 3, "ignore_eos": True}
    texts = {prompt: real.generate(prompt, nt.Sample(), **options).tokens for prompt in prompts}

    def work(prompt):
        assert real.generate(prompt, nt.Sample(), **options).tokens == texts[prompt]

    async def tasks():
        outputs = await asyncio.gather(*(real.agenerate(prompt, nt.Sample(), **options) for prompt in prompts))
        assert [output.tokens for output in outputs] == list(texts.values())

    run_all(*[lambda prompt=prompt: work(prompt) for prompt in prompts], lambda: asyncio.run(tasks()))
    if hasattr(os, "fork"):
        assert in_child(lambda: real.generate(prompts[0], nt.Sample(), **options).tokens == texts[prompts[0]])
    real.close()


# --- streams that are not read -------------------------------------------------------------------------------------


def test_a_stream_that_is_not_read_pauses_while_others_go_on(lm):
    stream = lm.stream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
    for _ in range(30):
        assert len(lm.generate("x", max_tokens=12, ignore_eos=True).tokens) == 12
    assert not stream.finished
    first = len(stream.output().tokens)
    assert 64 <= first < 80  # pieces hold whole characters
    assert "".join(piece.text for piece in stream) == stream.output().text
    assert tuple(stream.output().tokens) == alone_long()


def test_an_async_stream_that_is_not_read_pauses_beside_callers_of_both_kinds(lm):
    async def work():
        stream = lm.astream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
        pieces = [(await anext(stream)).text]
        for _ in range(10):
            assert len((await lm.agenerate("x", max_tokens=12, ignore_eos=True)).tokens) == 12
            output = await asyncio.to_thread(lm.generate, "x", max_tokens=12, ignore_eos=True)
            assert len(output.tokens) == 12
        assert len((await stream.output()).tokens) < 80
        pieces += [piece.text async for piece in stream]
        output = await stream.output()
        assert "".join(pieces) == output.text
        assert tuple(output.tokens) == alone_long()

    run_tasks(work)


def test_two_threads_and_two_tasks_may_wait_for_one_stream(lm):
    stream, found = lm.stream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True), []
    run_all(*[lambda: found.extend(piece.text for piece in stream)] * 2)
    assert sum(map(len, found)) == len(stream.output().text)

    async def work():
        astream = lm.astream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
        outputs = await asyncio.gather(astream.wait(), astream.wait())
        assert [tuple(output.tokens) for output in outputs] == [alone_long()] * 2

    run_tasks(work)


def test_dropped_streams_leave_nothing_running():
    lm = tiny_lm()

    async def drop():
        for _ in range(40):  # more than there are seats
            await leave_astream(lm, None)

    run_tasks(drop)
    for _ in range(40):
        leave_stream(lm, None)
    gc.collect()
    lm.generate("x", max_tokens=1)
    assert lm.runner.jobs() == []


def test_what_asyncio_has_cancelled_is_freed_although_no_further_pass_is_made():
    async def read_and_leave():
        streams = [lm.astream(f"abc{place}", max_tokens=900, ignore_eos=True) for place in range(8)]
        for stream in streams:
            await anext(stream)
        trees = [weakref.ref(job.tree) for job in lm.runner.jobs()]
        for stream in streams:
            stream.close()
        return trees

    with tiny_lm(context=1000) as lm:
        trees = asyncio.run(read_and_leave())
        assert len(trees) == 8
        wait_until(lambda: not gc.collect() and not any(tree() for tree in trees))


def test_an_error_that_is_kept_keeps_no_stream_of_another_caller_alive():
    lm = tiny_lm()
    stream = lm.stream("abc", nt.Sample(), max_tokens=300, ignore_eos=True)
    sick = lm.stream("abc", CASES["raises later"].strategy)
    while not sick.finished:
        next(stream)  # this thread runs the strategy that fails
    with pytest.raises(ZeroDivisionError) as raised:
        list(sick)
    assert any("strangers.py" in note for note in raised.value.__notes__)
    del stream
    lm.generate("x", max_tokens=1)
    assert lm.runner.jobs() == []


def test_an_error_that_the_caller_handles_meanwhile_keeps_its_frames(lm):
    try:
        raise LookupError("the caller's own")
    except LookupError as own:
        with pytest.raises(ZeroDivisionError):
            lm.generate("abc", CASES["raises later"].strategy)
        frames = own.__traceback__
    assert frames


def test_an_async_stream_closed_before_it_began_computes_nothing(lm):
    async def work():
        stream = lm.astream("abc", nt.Sample(), max_tokens=300, ignore_eos=True)
        stream.close()
        output = await stream.wait()
        assert (output.finish_reason, output.tokens) == ("cancelled", [])

    run_tasks(work)


# --- forks ---------------------------------------------------------------------------------------------------------


def in_child(work):
    """Whether `work()` is true in a forked child, which has its own time limit."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE))  # kills a child that hangs
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_between_harms_neither_side(lm):
    begun = lm.stream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
    abegun = lm.astream("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True)
    next(begun)
    asyncio.run(asyncio.wait_for(anext(abegun), PATIENCE))
    over = threading.Event()

    def busy():
        while not over.is_set():
            generate(lm, random.Random(1))

    def tell(lm):
        with pytest.raises(nt.NextokError, match="begun before a fork"):
            begun.wait()
        with pytest.raises(nt.NextokError, match="begun before a fork"):
            asyncio.run(abegun.wait())
        generate_several(lm, random.Random(2))
        asyncio.run(agenerate(lm, random.Random(3)))
        return True

    def fork():
        try:
            for _ in range(max(5, ROUNDS // 10)):
                assert in_child(lambda: tell(lm))
        finally:
            over.set()

    run_all(busy, busy, fork)
    assert tuple(begun.wait().tokens) == alone_long()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_inside_a_step_is_told_in_the_child():
    lm, found = tiny_lm(), []

    def fork(row):
        if not found:
            found.append(os.fork())
            if not found[0]:
                signal.alarm(int(PATIENCE))
        return row

    try:
        output = lm.generate("abc", nt.Greedy(), max_tokens=3), lm.generate("abc", nt.Sample(custom=fork), seed=1)
    except nt.NextokError as error:
        os._exit(0 if not found[0] and "forked" in str(error) else 3)
    if not found[0]:
        os._exit(4)
    assert len(output) == 2
    assert os.waitpid(found[0], 0)[1] == 0


# --- the life of an LM ---------------------------------------------------------------------------------------------


def test_a_closed_lm_says_so_and_its_callers_end():
    lm = tiny_lm()
    stream = lm.stream("abc", max_tokens=400, ignore_eos=True)
    found = []

    def work():
        try:
            found.append(lm.generate("abc", nt.Sample(), max_tokens=500, ignore_eos=True).finish_reason)
        except nt.NextokError as error:
            found.append(str(error))

    def close():
        time.sleep(0.02)
        lm.close()

    run_all(*[work] * 4, lambda: asyncio.run(closed_tasks(lm, found)), close, close)
    assert len(found) == 6
    assert {*found} <= {"cancelled", "length", "this LM is closed; load it again to go on"}
    assert stream.finished
    for call in (lambda: lm.generate("x"), lambda: lm.stream("x"), lambda: lm.score("x"), lambda: lm.model):
        with pytest.raises(nt.NextokError, match="this LM is closed; load it again"):
            call()
    with pytest.raises(nt.NextokError, match="this LM is closed"):
        asyncio.run(lm.agenerate("x"))
    lm.close()


async def closed_tasks(lm, found):
    async def work():
        try:
            found.append((await lm.agenerate("abc", nt.Sample(), max_tokens=400, ignore_eos=True)).finish_reason)
        except nt.NextokError as error:
            found.append(str(error))

    await asyncio.wait_for(asyncio.gather(work(), work()), PATIENCE)


def test_with_frees_an_lm_and_a_pickle_is_refused():
    with tiny_lm() as lm:
        assert lm.generate("x", max_tokens=2).tokens
        with pytest.raises(TypeError, match="cannot be pickled; load tiny again"):
            pickle.dumps(lm)
    with pytest.raises(nt.NextokError, match="closed"):
        lm.generate("x")


def test_the_threads_of_a_dropped_lm_end():
    before = threading.active_count()
    lm = tiny_lm()
    asyncio.run(lm.agenerate("x", max_tokens=2))
    lm.generate("x", max_tokens=2)
    assert threading.active_count() > before
    del lm
    gc.collect()
    wait_until(lambda: threading.active_count() <= before)


def program(code, *, interrupt_after=None, patience=PATIENCE):
    """What a program prints, and its exit status; fail if it does not end by itself."""
    head = "import sys; sys.path.insert(0, %r)\nimport nextok as nt\nfrom tiny import tiny_lm\nlm = tiny_lm()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head % str(Path(__file__).parent) + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if interrupt_after:
            assert process.stdout.readline() == "ready\n"
            time.sleep(interrupt_after)
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=patience)
    finally:
        process.kill()
    return out, process.returncode


BACKGROUND = """
import asyncio
async def main():
    global stream
    stream = lm.astream("abc", nt.Sample(), max_tokens=10**6 if {endless} else 400, ignore_eos=True)
    print((await anext(stream)) is not None)
    if {endless}:
        lm.runner.jobs()[0].is_full = lambda: False
asyncio.run(main())
import time; began = time.monotonic()
import atexit; atexit._run_exitfuncs()
print(time.monotonic() - began)
"""


@pytest.mark.parametrize("endless", [False, True])
def test_a_program_ends_by_itself_while_a_stream_runs(endless):
    out, code = program(BACKGROUND.format(endless=endless).replace("tiny_lm()", "tiny_lm(context=10**7)"))
    assert code == 0, out
    told, seconds = out.split()
    assert told == "True"
    assert float(seconds) < 9  # a thread that does not end is waited for 10 seconds


INTERRUPTED = """
import threading
texts, over = [], []
def work():
    texts.append(lm.generate("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True).tokens)
alone = lm.generate("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True).tokens
threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
try:
    print("ready", flush=True)
    while True:
        lm.generate("abc", nt.Sample(), max_tokens=300, ignore_eos=True)
except KeyboardInterrupt:
    print("interrupted")
for thread in threads:
    thread.join(60)
print(texts == [alone] * 4, lm.generate("abc", nt.Sample(), seed=1, max_tokens=400, ignore_eos=True).tokens == alone)
print(lm.runner.jobs())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to one process")
@pytest.mark.parametrize("moment", [0.02, 0.2])
def test_ctrl_c_in_the_main_thread_lets_the_others_finish(moment):
    out, code = program(INTERRUPTED, interrupt_after=moment)
    assert (out, code) == ("interrupted\nTrue True\n[]\n", 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers by signal")
def test_a_signal_handler_may_call_and_never_hangs(lm):
    heard = []

    def handle(*_):
        try:
            heard.append(lm.generate("abc", nt.Sample(), seed=1, max_tokens=5, ignore_eos=True).tokens)
        except nt.NextokError as error:
            heard.append(str(error))

    before = signal.signal(signal.SIGALRM, handle)
    over = threading.Event()

    def busy():
        while not over.is_set():
            generate(lm, random.Random(1))

    other = threading.Thread(target=busy, daemon=True)
    try:
        for beside in (False, True):
            if beside:
                other.start()
            for delay in (0.001, 0.003, 0.005, 0.008):
                count = len(heard)
                signal.setitimer(signal.ITIMER_REAL, delay)
                until = time.monotonic() + PATIENCE
                while len(heard) == count:
                    assert time.monotonic() < until
                    output = lm.generate("abc", nt.Sample(), seed=1, max_tokens=100, ignore_eos=True)
                    assert tuple(output.tokens) == alone_long()[:100]
    finally:
        over.set()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other.join(PATIENCE)
    assert not other.is_alive()
    refusals = [each for each in heard if isinstance(each, str)]
    assert all(each == list(alone_long()[:5]) for each in heard if not isinstance(each, str))
    assert all("in the middle of a step in this thread" in each for each in refusals)


# --- interruptions between any two bytecodes -----------------------------------------------------------------------


def interrupt_at(nth, work):
    """Run it with a KeyboardInterrupt before the nth line of the engine's room that this thread runs."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if "nextok/engine" not in frame.f_code.co_filename.replace(os.sep, "/"):
            return None
        if frame.f_code.co_name == "abandon":  # called by finalisers, where Python reports an interrupt and goes on
            return None
        if event == "line":
            seen += 1
            if seen == nth:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def short(lm, seed=1):
    """The first tokens of the long text."""
    return tuple(lm.generate("abc", nt.Sample(), seed=seed, max_tokens=30, ignore_eos=True).tokens)


@pytest.mark.parametrize("start", range(1, 14))
def test_ctrl_c_before_any_line_leaves_the_lm_whole(start):
    lm = tiny_lm()
    for nth in range(start, 700, 13 * max(1, 40 // ROUNDS)):
        struck = interrupt_at(nth, lambda: short(lm))
        run_all(lambda: short(lm) == alone_long()[:30] or pytest.fail("another text"), patience=PATIENCE)
        assert short(lm) == alone_long()[:30], f"line {nth}"
        assert struck
        assert lm.engine.jobs == []


@pytest.mark.parametrize("start", range(1, 6))
def test_ctrl_c_before_any_line_lets_other_threads_finish(start):
    lm = tiny_lm()
    for nth in range(start, 1500, 211 if ROUNDS < 100 else 5):
        found = []
        others = [threading.Thread(target=lambda found=found: found.append(short(lm)), daemon=True) for _ in range(2)]
        for thread in others:
            thread.start()
        for _ in range(20):
            if interrupt_at(nth, lambda: short(lm, 2)):
                break
        for thread in others:
            thread.join(PATIENCE)
        assert found == [alone_long()[:30]] * 2, f"line {nth}"
        assert short(lm) == alone_long()[:30], f"line {nth}"
