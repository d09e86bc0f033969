"""Chat templates: as transformers renders them, and harmless even where they were written to do harm."""

import copy
import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from calls import count_calls
from nextok.errors import TemplateError
from nextok.hub import resolve
from nextok.text import child, load_tokenizer, plain, render_chat, sandbox, template

NOW = datetime(2026, 11, 3, 4, 5, 6)

SMOLLM2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'\
+ message['content'] | trim + '<|eot_id|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

QWEN2 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or loop.last %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' ~ message.role ~ '\\n'
            ~ message.content.split('</think>')[-1].lstrip('\\n') ~ loop.index0 }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- endif %}
{%- endfor %}
"""

CHATML = """{% for message in messages %}
    {%- generation %}{{ message | tojson }}{% endgeneration %}
{{ '<|im_start|>' ~ message.role | upper }}
{{ message.content | default('') | trim }}{{ message.get('name', 'nobody') }}{{ message.items() | first }}
{% if not loop.last %}{{ loop.index }}/{{ loop.length }}{% else %}{% break %}{% endif %}
{% endfor %}"""

MACROS = """{% macro turn(message, depth=0) -%}
    {{ '  ' * depth }}[{{ message.role | title }}] {{ message.content | replace('\\n', ' / ') | indent(4) }}
{% endmacro %}
{% set lines = [] %}{{ strftime_now('%d %b %Y') }}
{% for message in messages | selectattr('role', 'ne', 'system') %}{{ turn(message, loop.index) }}{% endfor %}
{% set joined %}{{ messages | map(attribute='role') | join(', ') }}{% endset %}
{{ joined }} {{ {'a': [1, 2.5, none, true], 'é': '<b>'} | tojson(indent=2) }} {{ dict(a=1).a }}
{{ '%s-%03d' | format('x', 7) }} {{ range(3) | list }} {{ messages | length ** 2 }}"""

PLAIN = {"smollm2": SMOLLM2, "llama3": LLAMA3, "qwen2": QWEN2, "mistral": MISTRAL}
TEMPLATES = {**PLAIN, "chatml": CHATML, "macros": MACROS}


def said(*contents, system=None):
    roles = ("user", "assistant")
    first = [{"role": "system", "content": system}] if system is not None else []
    return first + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


CHATS = [
    said("Hi"),
    said("Hi", system="Be brief."),
    said("Why is the sky blue?", "Scattering.", "Explain.\n\n  In depth. "),
    said("  padded\t", "\n<think>\nhm\n</think>\n\nanswer", " \u3000x", system=""),
    said(
        "<b>&\"'\\</b> {{ 7*7 }} {% raw %} {# x #}",
        "é e\u0301 中文 한국어 عربى हिन्दी",
        "👩‍👩‍👧‍👦 👍🏽 \x00 \u2028 \ufeff",
        system="日本語",
    ),
    said("", "", ""),
    said(*["long " * 300, "text\n" * 300, "x"] * 3),
]


@pytest.fixture
def no_child(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a child process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    template.CHILD.stop()


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_as_in_transformers(name, monkeypatch):
    from transformers.utils import chat_template_utils

    class Clock(datetime):
        @classmethod
        def now(cls, zone=None):
            return NOW

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    for messages in CHATS:
        for more in (True, False):
            options = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": more}
            expected, _ = chat_template_utils.render_jinja_template(
                [messages], chat_template=TEMPLATES[name], **options
            )
            assert render_chat(TEMPLATES[name], messages, **options, now=NOW) == expected[0]


@pytest.mark.parametrize("name", PLAIN)
def test_usual_templates_need_no_child_process(name, no_child):
    for messages in CHATS:
        assert render_chat(TEMPLATES[name], messages, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("name", PLAIN)
def test_a_child_process_renders_the_same(name):
    values = {"messages": CHATS[4], "tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    values["add_generation_prompt"] = True
    expected = render_chat(TEMPLATES[name], CHATS[4], bos_token="<s>", eos_token="</s>", now=NOW)
    assert template._render_in_child(TEMPLATES[name], values, NOW) == expected


@pytest.mark.model
def test_the_default_template_renders_in_few_calls(no_child):
    source = load_tokenizer(resolve("smollm2").path).chat_template
    assert source == SMOLLM2
    render_chat(source, CHATS[0])
    assert count_calls(lambda: render_chat(source, CHATS[2])) < 20_000  # some milliseconds


def test_messages_may_hold_more_than_text():
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}
    assert render_chat("{{ messages[0].tool_calls | tojson }}", (call,)) == '[{"name": "f", "arguments": {"x": 1}}]'


@pytest.mark.parametrize("messages", ["Hi", ["Hi"], [{"role": "user", "content": object()}], [{"x": b"bytes"}]])
def test_messages_of_another_shape_are_refused(messages):
    with pytest.raises(ValueError, match="messages must") as caught:
        render_chat(SMOLLM2, messages)
    assert not isinstance(caught.value, TemplateError)


@pytest.mark.parametrize("source", [None, ""])
def test_a_model_without_a_template_is_told_apart(source):
    with pytest.raises(TemplateError, match=r"no chat template: .*--raw"):
        render_chat(source, CHATS[0])


FAILURES = {
    "refusal": (MISTRAL, r"refuses these messages \(Conversation roles must alternate"),
    "syntax": ("{% for %}", "TemplateSyntaxError"),
    "undefined": ("{{ nothing.at.all }}", "'nothing' is undefined"),
    "division": ("{{ 1 // 0 }}", "ZeroDivisionError"),
    "length": ("a" * 100_000, "more than 65,536 characters"),
    "include": ("{% include '/etc/passwd' %}", "failed"),
    "import": ("{% import '/etc/passwd' as x %}", "failed"),
    "extends": ("{% extends '/etc/passwd' %}", "failed"),
    "unknown filter": ("{{ 'a' | nothing }}", "No filter named 'nothing'"),
    "nesting": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "chat template"),
    "chain": ("{{ a" + ".a" * 20000 + " }}", "chat template"),
    "blocks": ("{% if a %}" * 3000 + "{% endif %}" * 3000, "chat template"),
    "braces": ("{" * 60000, "chat template"),
}


@pytest.mark.parametrize(("source", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_wrong_template_fails_in_one_line(source, reason):
    with pytest.raises(TemplateError, match=reason) as caught:
        render_chat(source, [{"role": "assistant", "content": "x"}])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


REACHING = r"""''.__class__
''.__class__.__mro__[1].__subclasses__()
().__class__.__base__
[].__class__.__mro__
messages.__class__
messages[0].__init__.__globals__
''|attr('__class__')
''|attr('__cl' ~ 'ass__')
''['__class__']
''['__cl' + 'ass__']
''["\x5f\x5fclass\x5f\x5f"]
messages|map(attribute='__class__')|list
messages|map('attr', '__class__')|list
(messages|map('attr', '__class__')).gi_frame.f_globals
messages|selectattr('__class__')|list|first|attr('__class__')
messages|sort(attribute='__class__')|map(attribute='__class__')|first
messages|groupby('__class__')|first|attr('__class__')
messages|sum(attribute='__class__')
(messages|first).__class__
('a'|string).__class__
('a'|escape).__class__
('a'|safe).unescape.__func__.__globals__
('a'|e).__html__.__globals__
'{0.__class__}'.format('')
'{0.__class__.__mro__}'.format('')
'{x.__class__}'.format(x='')
'{x.__class__}'.format_map({'x': ''})
'{0[__class__]}'.format(messages)
('{0.__class__}'|attr('format'))('')
('{0.__class__}'|safe).format('')
('{0.__class__}'|safe|attr('format'))('')
('{0.__class__}'|format(''))
''.format.__self__.__class__
'%s'.__mod__.__self__
[].append.__self__.__class__
{}.get.__self__.__class__
''.join.__self__.__class__
''.encode().__class__
cycler.__init__.__globals__.os
joiner.__init__.__globals__
lipsum.__globals__['os'].popen('id').read()
lipsum()
namespace.__init__.__globals__
namespace(__class__=1)
namespace({'__class__': 1})
namespace({'_Namespace__attrs': 1})
namespace(a=1)._Namespace__attrs
range.__class__
range(3).__class__
(range(3)|batch(2)).gi_frame
dict.__mro__
dict.mro()
dict.__globals__
raise_exception.__globals__
raise_exception.__code__
strftime_now.__self__.__class__
strftime_now.__self__.__reduce__
strftime_now('%A').__class__.__base__
self.__init__.__globals__
self._TemplateReference__context
self.__dict__
caller.__class__
loop.__class__
config.items()
request.application.__globals__
get_flashed_messages.__globals__
url_for.__globals__
undefined.__class__
undefined.x.__init__
__import__('os')
open('/etc/passwd').read()
eval('1')
globals()
1.0.__class__
(1).__class__
(1).to_bytes.__self__.__class__
true.__class__
none.__class__"""
ESCAPED = (
    "<class",
    "<function",
    "<module",
    "<built-in",
    "<bound",
    "<code",
    "<frame",
    " at 0x",
    "root:",
    "__builtins__",
)


@pytest.mark.parametrize("attempt", REACHING.split("\n"))
def test_a_template_cannot_reach_into_python(attempt):
    request = {"now": NOW.isoformat(), "characters": 10**6, "values": {"messages": CHATS[1]}}
    sources = (
        f"{{% set x = {attempt} %}}{{{{ x }}}}",
        f"{{{{ ({attempt})() }}}}",
        f"{{{{ ({attempt})|attr('x') }}}}",
    )
    outcomes = [str(sandbox.run_job({**request, "template": source})) for source in sources]
    try:
        outcomes.append(render_chat(f"{{{{ {attempt} }}}}", CHATS[1]))
    except TemplateError as error:
        outcomes.append(str(error))
    for mark in ESCAPED:
        assert not [text for text in outcomes if mark in text]


CHANGING = """messages.append({'role': 'x'})
messages.clear()
messages.pop()
messages.extend(messages)
messages.sort()
messages.reverse()
messages[0].update({'content': 'x'})
messages[0].setdefault('x', 'y')
messages[0].pop('content')
messages[0].clear()
dict.update(messages[0], {'content': 'x'})
messages[0]['content'].replace.__self__.x"""


@pytest.mark.parametrize("attempt", CHANGING.split("\n"))
def test_a_template_cannot_change_the_messages(attempt):
    messages = copy.deepcopy(CHATS[2])
    with pytest.raises(TemplateError):
        render_chat(f"{{% set x = {attempt} %}}{{{{ {attempt} }}}}", messages)
    assert messages == CHATS[2]


BOMBS = {
    "long loop": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "longer loop": "{% for i in range(10**9) %}{% endfor %}",
    "loop over text": "{% set t = 'a' * 99999 %}{% for i in t %}{% for j in t %}{% endfor %}{% endfor %}",
    "plain loops": "{% for m in messages %}" + "{% for a in m.content %}" * 5 + "{% endfor %}" * 6,
    "repeated text": "{{ 'a' * 10**10 }}",
    "repeated list": "{{ [1] * 10**10 }}",
    "doubled text": "{% set n = namespace(t='a') %}{% for i in range(64) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "doubled plain text": "{% set n = namespace(t='ab') %}{% for m in messages[0].content %}{% set n.t = n.t + n.t %}"
    "{% endfor %}{{ n.t }}",
    "joined text": "{% set n = namespace(t='a') %}{% for i in range(64) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "nested lists": "{% set n = namespace(t=[1]) %}{% for i in range(64) %}{% set n.t = [n.t, n.t] %}{% endfor %}"
    "{{ n.t }}",
    "kept texts": "{% set n = namespace(t=[]) %}{% for i in range(99999) %}{% set n.t = n.t + ['a' * 999999] %}"
    "{% endfor %}",
    "recursion": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "fanned recursion": "{% macro a(n) %}{% if n %}{{ a(n-1) }}{{ a(n-1) }}{% endif %}{% endmacro %}{{ a(60) }}",
    "recursive loop": "{% for m in [messages] recursive %}{{ loop([messages]) }}{% endfor %}",
    "ljust": "{{ 'x'.ljust(10**10) }}",
    "center": "{{ 'x' | center(10**10) }}",
    "zfill": "{{ 'x'.zfill(10**10) }}",
    "indent": "{{ 'x\ny' | indent(10**10) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "percent of a plain text": "{{ '%999999999d' % messages | length }}",
    "percent by a star": "{{ '%*d' % (10**9, 1) }}",
    "format": "{{ '{:>10000000000}'.format('x') }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "exponent": "{{ 10 ** (10 ** 8) }}",
    "large factor": "{% set n = namespace(x=3) %}{% for i in range(64) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "replace": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "json": "{{ messages | tojson(indent=10**9) }}",
    "much output": "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "much plain output": "{% for a in messages[0].content %}{% for b in messages[0].content %}{{ messages }}"
    "{% endfor %}{% endfor %}",
    "date": "{{ strftime_now('a' * 3000000 + '%600000000Y') }}",
    "hash": "{% set n = namespace(t=()) %}{% for i in range(64) %}{% set n.t = (n.t, n.t) %}{% endfor %}"
    "{{ {n.t: 1} }}",
}


@pytest.mark.parametrize("source", ["{{ strftime_now(messages[0].content) }}", "{{ strftime_now('%50000000Y') }}"])
def test_a_date_whose_length_is_not_known_is_left_to_the_child(source):
    values = {"messages": said("%50000000Y")}
    assert plain.render_plain(source, values, NOW, 10**6) is None
    assert plain.render_plain("{{ strftime_now('%-d %b %Y, 100%%') }}", values, NOW, 10**6) == "3 Nov 2026, 100%"


@pytest.mark.parametrize(
    ("name", "expected"), [("wordwrap(3)", "a b\nc d"), ("striptags", "a b c d"), ("pprint", "'a b c d'")]
)
def test_filters_that_jinja_loads_late_work(name, expected):
    assert render_chat(f"{{{{ messages[0].content | {name} }}}}", said("a b c d")) == expected


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_a_bomb_ends_soon_and_leaves_this_process_alone(source):
    resource = pytest.importorskip("resource")
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sum(os.times()[:4])
    with pytest.raises(TemplateError) as caught:
        render_chat(source, said("abcdefgh" * 400))
    assert sum(os.times()[:4]) - seconds < 3  # of processor time, in this process and its child
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    assert len(str(caught.value).splitlines()) == 1


def test_the_child_process_has_no_files_and_no_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    code = """
import os, sys
sys.path += sys.argv[2:]
import runpy
sandbox = runpy.run_path(sys.argv[1])
sandbox["limit_this_process"](5)
for attempt in (lambda: open(sys.argv[1]), lambda: open("new", "w"), os.pipe, lambda: bytearray(1 << 30)):
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(type(error).__name__)
"""
    command = child.build_command()
    done = subprocess.run([*command[:4], code, *command[5:]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", "OSError", "OSError", "MemoryError"]
    assert command[1:3] == ["-I", "-S"]
    assert "HF_TOKEN" not in child.KEPT_VARIABLES


def test_one_process_renders_for_all_threads_and_keeps_nothing():
    source = "{% macro m(x) %}{{ x }}{% endmacro %}{% set ns = namespace(seen=0) %}{{ ns.seen }}{% set ns.seen = 1 %}"
    source += "{{ seen is defined }}{% set seen = 1 %}{{ m(messages[0].content) }}"
    with ThreadPoolExecutor(8) as pool:
        texts = [*pool.map(lambda word: render_chat(source, said(word)), map(str, range(40)))]
    assert texts == [f"0False{word}" for word in range(40)]
    process = child.CHILD._process
    assert render_chat(source, said("x")) == "0Falsex"
    assert child.CHILD._process is process
    assert process.poll() is None


@pytest.mark.parametrize("name", ["longer loop", "much output", "repeated text", "large factor", "fanned recursion"])
def test_a_bomb_does_not_end_the_process_for_others(name):
    assert render_chat(MACROS, CHATS[0])
    process = child.CHILD._process
    with pytest.raises(TemplateError):
        render_chat(BOMBS[name], CHATS[0])
    assert render_chat(MACROS, CHATS[0])
    assert child.CHILD._process is process


def test_a_process_that_was_killed_is_started_again():
    expected = render_chat(MACROS, CHATS[2])
    for _ in range(3):
        child.CHILD._process.kill()
        child.CHILD._process.wait()
        assert render_chat(MACROS, CHATS[2]) == expected
    child.CHILD._process.send_signal(signal.SIGSTOP)  # and one that does not answer is given up
    with pytest.raises(OSError, match=r"no answer in 0\.2 s"):
        child.CHILD.render(b"{}", 0.2)
    assert render_chat(MACROS, CHATS[2]) == expected


def test_an_interrupted_request_leaves_no_answer_for_the_next_one(monkeypatch):
    expected = render_chat(MACROS, CHATS[2])
    with monkeypatch.context() as patched:
        patched.setattr(child, "_read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_chat(MACROS, CHATS[1])
    assert render_chat(MACROS, CHATS[2]) == expected


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_a_process_that_cannot_start_is_one_line(monkeypatch):
    child.CHILD.stop()
    monkeypatch.setattr(child, "build_command", lambda: ["/nowhere/python"])
    with pytest.raises(TemplateError, match="could not be rendered"):
        render_chat(MACROS, CHATS[0])
    monkeypatch.setattr(child, "build_command", lambda: ["/bin/false"])
    with pytest.raises(TemplateError, match=r"could not be rendered \(its process ended\)"):
        render_chat(MACROS, CHATS[0])


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches a process by its handle, which is Linux's")
def test_the_process_ends_with_its_parent_and_a_fork_gets_its_own():
    code = """
import os, sys
from nextok.text import child, render_chat
source, said = "{% macro m() %}x{% endmacro %}{{ m() }}", [{"role": "user", "content": "x"}]
assert render_chat(source, said) == "x"
first = child.CHILD._process.pid
fork = os.fork()
if not fork:
    assert child.CHILD._process is None
    assert render_chat(source, said) == "x"
    assert child.CHILD._process.pid != first
    child.CHILD.stop()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 7
assert render_chat(source, said) == "x"
assert child.CHILD._process.pid == first
print(first, flush=True)
if len(sys.argv) > 1:
    os.kill(os.getpid(), 9)
"""
    for arguments in ([], ["killed"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, check=False)
        assert done.returncode == (-9 if arguments else 0)
        assert ends_soon(int(done.stdout))


def ends_soon(process):
    """Whether a process ends within some seconds, which is no child of this one."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    ready, _, _ = select.select([handle], [], [], 10)
    os.close(handle)
    return bool(ready)


def test_a_copy_that_renders_cannot_read_the_requests_of_others():
    code = """
import json, os, runpy, sys
sys.path += sys.argv[2:]
sandbox = runpy.run_path(sys.argv[1])
def spy(job):
    try:
        return {"text": os.read(0, 10).decode()}
    except OSError as error:
        return {"error": type(error).__name__}
sandbox["_render_and_exit"].__globals__["run_job"] = spy
print(sandbox["render_in_copy"](json.dumps({"seconds": 5}).encode()).decode())
"""
    command = child.build_command()
    run = [*command[:4], code, *command[5:]]
    done = subprocess.run(run, input="secret", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"error": "OSError"}
