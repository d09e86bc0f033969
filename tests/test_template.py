"""Chat templates: as transformers renders them, and harmless whoever wrote them."""

import copy
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from nextok.errors import TemplateError
from nextok.hub import resolve
from nextok.text import load_tokenizer, render_chat, template

NOW = datetime(2026, 11, 3, 4, 5, 6)

SMOLLM2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}
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
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content.split('</think>')[-1].lstrip('\\n') ~ loop.index0 }}
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

TEMPLATES = {"smollm2": SMOLLM2, "llama3": LLAMA3, "qwen2": QWEN2, "mistral": MISTRAL, "chatml": CHATML, "macros": MACROS}
IN_PROCESS = ("smollm2", "llama3", "qwen2", "mistral")


def said(*contents, system=None):
    roles = ("user", "assistant")
    first = [{"role": "system", "content": system}] if system is not None else []
    return first + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


CHATS = [
    said("Hi"),
    said("Hi", system="Be brief."),
    said("Why is the sky blue?", "Scattering.", "Explain.\n\n  In depth. "),
    said("  padded\t", "\n<think>\nhm\n</think>\n\nanswer", " \u3000x", system=""),
    said("<b>&\"'\\</b> {{ 7*7 }} {% raw %} {# x #}", "é e\u0301 中文 한국어 عربى हिन्दी", "👩‍👩‍👧‍👦 👍🏽 \x00 \u2028 \ufeff", system="日本語"),
    said("", "", ""),
    said(*["long " * 300, "text\n" * 300, "x"] * 3),
]


@pytest.fixture
def no_child(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a child process was started")

    monkeypatch.setattr(subprocess, "run", refuse)


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
            expected, _ = chat_template_utils.render_jinja_template([messages], chat_template=TEMPLATES[name], **options)
            assert render_chat(TEMPLATES[name], messages, **options, now=NOW) == expected[0]


@pytest.mark.parametrize("name", IN_PROCESS)
def test_usual_templates_need_no_child_process(name, no_child):
    for messages in CHATS:
        assert render_chat(TEMPLATES[name], messages, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_child_process_renders_the_same(name):
    values = {"messages": CHATS[4], "tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    values["add_generation_prompt"] = True
    expected = render_chat(TEMPLATES[name], CHATS[4], bos_token="<s>", eos_token="</s>", now=NOW)
    assert template._render_in_child(TEMPLATES[name], values, NOW) == expected


@pytest.mark.model
def test_the_default_template_renders_in_milliseconds(no_child):
    source = load_tokenizer(resolve("smollm2").path).chat_template
    assert source == SMOLLM2
    render_chat(source, CHATS[0])
    start = time.perf_counter()
    for _ in range(10):
        render_chat(source, CHATS[2])
    assert (time.perf_counter() - start) / 10 < 0.02


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


REACHING = """''.__class__|''.__class__.__mro__[1].__subclasses__()|().__class__.__base__|[].__class__.__mro__
messages.__class__|messages[0].__init__.__globals__|''|attr('__class__')|''|attr('__cl'~'ass__')|''['__class__']
''['__cl' + 'ass__']|messages|map(attribute='__class__')|list|'{0.__class__}'.format('')|'{0.__class__.__mro__}'.format('')
'{x.__class__}'.format_map({'x': ''})|''.format.__self__|('{0.__class__}'|attr('format'))('')|'%s'.__mod__.__self__
cycler.__init__.__globals__.os|lipsum.__globals__['os'].popen('id').read()|joiner.__init__.__globals__|lipsum()
namespace.__init__.__globals__|namespace(__class__=1)|namespace({'__class__': 1})|range.__class__|dict.__mro__|dict.mro()
dict.fromkeys|self.__init__.__globals__|self._TemplateReference__context|self.__dict__|raise_exception.__globals__
raise_exception.__code__|strftime_now.__self__.__class__|strftime_now.__self__.__reduce__|loop.__class__|caller.__class__
config|request|get_flashed_messages.__globals__|url_for.__globals__|g.pop.__globals__|session|_|__import__('os')
open('/etc/passwd').read()|eval('1')|exec('1')|globals()|import('os')|undefined.__class__|undefined.x.__init__
(messages|first).__class__|('a'|string).__class__|('a'|escape).__class__|('a'|safe).unescape.__func__.__globals__
('a'|e).__html__.__globals__|messages|groupby('__class__')|messages|sum(attribute='__class__')|{}.get.__self__.__class__
1.0.__class__|(1).__class__|true.__class__|none.__class__|''.join.__self__.__class__|[].append.__self__.__class__
messages|selectattr('__class__')|list|messages|sort(attribute='__class__')|(range(3)|batch(2)).gi_frame
(messages|map('attr', '__class__'))|list|(messages|map('attr', '__class__')).gi_frame.f_globals|''.encode().__class__
''|xmlattr|{'a"><x': 1}|xmlattr|''|attr('format')|messages|attr('append')|strftime_now('%A').__class__.__base__"""


def reaching():
    """The attempts: rows hold several, and a filter's bar is told from a separator by trying both ends."""
    attempts = []
    for row in REACHING.split("\n"):
        for part in row.split("|"):
            if attempts and part.split("(")[0].isidentifier() and part.split("(")[0] in FILTERED:
                attempts[-1] += "|" + part
            else:
                attempts.append(part)
    return attempts
