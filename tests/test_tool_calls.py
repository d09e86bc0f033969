"""What a model's answer means: content, reasoning and tool calls, however it is cut; and calls that must be made."""

import itertools
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nextok as nt
from nextok.chat.answer import AnswerReader
from nextok.chat.answer_events import CallArguments, CallBegun, Content, Reasoning
from nextok.chat.families import Family, Thinking, find_control, find_family, find_thinking
from nextok.chat.forced import force_calls
from tiny import EOS, USER, VOCAB, tiny_lm, tiny_tokenizer


def tool(name, properties=None, required=None):
    parameters = {"type": "object", "properties": properties or {}, "additionalProperties": False}
    if required:
        parameters["required"] = required
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool("weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, ["city"])
LIGHT = tool("light", {"on": {"type": "boolean"}, "room": {"enum": ["hall", "bath"]}}, ["on", "room"])
TOOLS = [WEATHER, LIGHT]
TEMPLATES = {
    "hermes": "{{ tools }}<tool_call></tool_call>",
    "qwen3-coder": "{{ tools }}<tool_call><function=f></function></tool_call>",
    "mistral": "{{ tools }}[TOOL_CALLS]",
    "mistral new": "{{ tools }}[TOOL_CALLS][ARGS]",
    "llama3": "{{ tools }}<|python_tag|>",
    "glm": "{{ tools }}<tool_call>name<arg_key>",
}
FAMILIES = {name: find_family(template, tiny_tokenizer()) for name, template in TEMPLATES.items()}
FORCED = {name: family for name, family in FAMILIES.items() if family.form != "pairs"}
CONTROL = Family(
    "hermes", "json", "<tool_call>", "</tool_call>", control=(("<tool_call>", 300), ("</tool_call>", 301))
)
ROME = '{"name": "weather", "arguments": {"city": "Rome"}}'
HALL = '{"name": "light", "arguments": {"on": true, "room": "hall"}}'
LLAMA = '{"name": "weather", "parameters": {"city": "Rome"}}'
XML = "<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>"
PAIRS = (
    "weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>"
)
IN_ROME, IN_HALL = ("weather", {"city": "Rome"}), ("light", {"on": True, "room": "hall"})
BROKEN = ("weather", '{"city": NaN}')
IN_ROME_3 = ("weather", {"city": "Rome", "days": 3})

# family, answer, content, calls
TRANSCRIPTS = [
    ("hermes", f"<tool_call>\n{ROME}\n</tool_call>", None, [IN_ROME]),
    ("hermes", f"I look.\n<tool_call>\n{ROME}\n</tool_call>", "I look.", [IN_ROME]),
    ("hermes", f"<tool_call>{ROME}</tool_call>\n<tool_call>\n{HALL}</tool_call>", None, [IN_ROME, IN_HALL]),
    ("hermes", f"<tool_call>\n{ROME}", None, [IN_ROME]),
    ("hermes", f"<tool_call>\n{ROME}<tool_call>{HALL}", None, [IN_ROME, IN_HALL]),
    ("hermes", f"<tool_call>{ROME}</tool_call> Done.", "Done.", [IN_ROME]),
    ("hermes", f"a <tool_ca <tool_call>x</tool_call> {ROME} ", f"a <tool_ca <tool_call>x</tool_call> {ROME} ", []),
    ("hermes", '<tool_call>\n{"name": "weather", "argu', '<tool_call>\n{"name": "weather", "argu', []),
    ("hermes", '<tool_call>{"name": "x", "arguments": {}}</tool_call>', ..., []),
    ("hermes", '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>', ..., []),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": NaN}}</tool_call>', None, [BROKEN]),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": NaN}', None, [BROKEN]),
    ("hermes", '<tool_call>{"arguments": {"city": NaN}, "name": "weather"}</tool_call>', ..., []),
    ("hermes", '<tool_call>{"arguments": {"city": "Rome"}, "name": "weather"}</tool_call>', None, [IN_ROME]),
    ("hermes", '<tool_call>{"name": "weather", "id": 1, "arguments": {"city": "Rome"}}', None, [IN_ROME]),
    ("hermes", '<tool_call>{"name": "wea\\u0074her", "arguments": {"city": "Rome"}}', None, [IN_ROME]),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Ro', None, [("weather", '{"city": "Ro')]),
    (
        "hermes",
        ROME.replace("Rome", "x").join(["<tool_call>", ",</tool_call>"]),
        ",</tool_call>",
        [("weather", {"city": "x"})],
    ),
    ("hermes", '<tool_call>{"name": "weather" "arguments": {}}</tool_call>', ..., []),
    ("hermes", f"<tool_call><tool_call>{ROME}</tool_call>", "<tool_call>", [IN_ROME]),
    ("hermes", "<tool_call>{]}</tool_call>", ..., []),
    ("hermes", '{"name": "weather", "arguments": {"city": "Rome"}}', ..., []),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "{\\"</tool_call>\\\\"}}</tool_call>',
        None,
        [("weather", {"city": '{"</tool_call>\\'})],
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": "{\\"days\\": 2}"}', None, [("weather", {"days": 2})]),
    ("hermes", '<tool_call>{"name": "light"}</tool_call>', None, [("light", {})]),
    ("qwen3-coder", f"<tool_call>\n{XML}\n</tool_call>", None, [IN_ROME_3]),
    ("qwen3-coder", f"So:\n\n<tool_call>\n{XML}\n</tool_call>\n<tool_call>{XML}", "So:", [IN_ROME_3, IN_ROME_3]),
    ("qwen3-coder", f"<tool_call>\n{XML[:-1]}\n</tool_call>", ..., []),
    ("qwen3-coder", "<tool_call><function=nothing></function></tool_call>", ..., []),
    ("qwen3-coder", "<tool_call><function=light></function></tool_call>", None, [("light", {})]),
    ("qwen3-coder", "<tool_call> <funny> and so on", ..., []),
    (
        "qwen3-coder",
        "<tool_call><function=light><parameter=on>True</parameter> "
        "<parameter=room>\n\n<b> 1\n\n</parameter></function>",
        None,
        [("light", {"on": True, "room": "\n<b> 1\n"})],
    ),
    ("mistral", f"[TOOL_CALLS] [{ROME}, {HALL}]", None, [IN_ROME, IN_HALL]),
    ("mistral", f"[TOOL_CALLS][{ROME}, {{}}]", None, [IN_ROME]),
    ("mistral", f"[TOOL_CALLS][{ROME} {ROME}]", None, [IN_ROME, IN_ROME]),
    ("mistral", f"[TOOL_CALLS][{ROME},]", None, [IN_ROME]),
    ("mistral", f'[TOOL_CALLS][{ROME}, {{"arguments": {{}}, "name": "light"}}]', None, [IN_ROME, ("light", {})]),
    ("mistral", "[TOOL_CALLS] []", ..., []),
    ("mistral", "[TOOL_CALLS] are made so.", ..., []),
    ("mistral new", '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}', None, [IN_ROME]),
    (
        "mistral new",
        'Yes.[TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{"city": "Rome"}'
        '[TOOL_CALLS]light[ARGS] {"on": true, "room": "hall"}',
        "Yes.",
        [IN_ROME, IN_HALL],
    ),
    ("mistral new", f"[TOOL_CALLS] [{ROME}]", None, [IN_ROME]),
    ("mistral new", "[TOOL_CALLS]" + "x" * 500 + "[ARGS]{}", ..., []),
    ("glm", f"Ah.<tool_call>{PAIRS}</tool_call>\n<tool_call>light</tool_call>", "Ah.", [IN_ROME_3, ("light", {})]),
    ("glm", f"<tool_call>{PAIRS[:-1]}</tool_call>", ..., []),
    ("glm", "<tool_call>nothing</tool_call>", ..., []),
    ("glm", "<tool_call><arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", ..., []),
    ("llama3", LLAMA, None, [IN_ROME]),
    ("llama3", f"\n{LLAMA}; {LLAMA}", None, [IN_ROME, IN_ROME]),
    ("llama3", f"<|python_tag|>{LLAMA}", None, [IN_ROME]),
    ("llama3", f"Well {LLAMA}", ..., []),
    ("llama3", '{"a": 1} is JSON', ..., []),
    ("llama3", f"{LLAMA} ; so", "; so", [IN_ROME]),
    ("llama3", '<|python_tag|>print("a")', ..., []),
]


def counter():
    """A maker of ids that are the same in every run."""
    numbers = itertools.count()
    return lambda: f"id{next(numbers)}"


def read(family, pieces, thinking=None, tools=TOOLS, opened=""):
    """The message of an answer in pieces; the events must add up to it."""
    reader = AnswerReader(family, thinking, tools, opened, counter())
    events = [event for piece in pieces for event in reader.feed(*piece)] + reader.finish()
    message = reader.message()
    content = "".join(event.text for event in events if isinstance(event, Content))
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    calls = [[event.id, event.name, ""] for event in events if isinstance(event, CallBegun)]
    for event in events:
        if isinstance(event, CallArguments):
            calls[event.index][2] += event.text
    assert (message["content"] or "", message.get("reasoning_content", "")) == (content, reasoning)
    assert calls == [
        [each["id"], each["function"]["name"], each["function"]["arguments"]]
        for each in message.get("tool_calls", [])
    ]
    return message


def calls_of(message):
    """The names and arguments of the calls; of broken ones the text."""
    return [
        (each["function"]["name"], value_of(each["function"]["arguments"])) for each in message.get("tool_calls", [])
    ]


def value_of(text):
    try:
        return json.loads(text, parse_constant=int)  # NaN is no whole number: ValueError
    except ValueError:
        return text


@pytest.mark.parametrize(("name", "answer", "content", "calls"), TRANSCRIPTS)
def test_an_answer_is_read_the_same_however_it_is_cut(name, answer, content, calls):
    message = read(FAMILIES[name], [(answer,)])
    assert message["content"] == (answer if content is ... else content)
    assert calls_of(message) == calls
    assert read(FAMILIES[name], [(each,) for each in answer]) == message
    for cut in range(1, len(answer)):
        assert read(FAMILIES[name], [(answer[:cut],), (answer[cut:],)]) == message


@given(st.data())
def test_three_cuts_anywhere_change_nothing(data):
    name, answer, _, _ = data.draw(st.sampled_from(TRANSCRIPTS))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=3))), len(answer)]
    pieces = [(answer[start:stop],) for start, stop in itertools.pairwise(cuts)]
    assert read(FAMILIES[name], pieces) == read(FAMILIES[name], [(answer,)])


PARTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<function=", "<parameter=", "</function>", "</parameter>", "[TOOL_CALLS]"),
        *("[ARGS]", "<|python_tag|>", "<think>", "</think>", ROME, LLAMA, XML, "weather", "x", "é"),
        *'{}[]"\\ \n;',
    ]
)


@pytest.mark.parametrize("name", FAMILIES)
@given(st.lists(PARTS, max_size=12), st.booleans())
def test_any_text_is_read_without_an_error_and_nothing_is_lost(name, parts, thinks):
    answer, thinking = "".join(parts), Thinking() if thinks else None
    message = read(FAMILIES[name], [(answer,)], thinking)
    assert read(FAMILIES[name], [(each,) for each in answer], thinking) == message
    if "tool_calls" not in message and "reasoning_content" not in message and not thinks:
        assert message["content"] == answer
    for function, arguments in calls_of(message):
        assert function in ("weather", "light")
        assert isinstance(arguments, dict) or arguments.startswith("{")


@pytest.mark.parametrize("name", ["hermes", "mistral", "mistral new", "llama3"])
def test_arguments_are_told_while_they_are_written(name):
    long = json.dumps({"city": "R" * 50, "days": 3})
    key = FAMILIES[name].arguments
    call = f"weather[ARGS]{long}" if name == "mistral new" else f'{{"name": "weather", "{key}": {long}}}'
    answer = FAMILIES[name].opening + (f"[{call}]" if name == "mistral" else call)
    reader = AnswerReader(FAMILIES[name], None, TOOLS, "", counter())
    seen = [reader.feed(letter) for letter in answer]
    begun = next(place for place, events in enumerate(seen) if any(isinstance(each, CallBegun) for each in events))
    assert begun <= answer.index(long)
    told = ["".join(each.text for each in events if isinstance(each, CallArguments)) for events in seen]
    assert told[answer.index(long) :][: len(long)] == list(long)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "unit",
    ["<tool_call>", "{", '<tool_call>{"\\"', "[TOOL_CALLS]", "<tool_call><function=f><parameter=k>", " ", "[ARGS]"],
)
def test_a_long_answer_of_marks_is_read_in_one_piece_and_in_small_ones(name, unit):
    """A reader that looks at the rest of the text at each mark would take hours for this."""
    answer = unit * (400_000 // len(unit))
    assert read(FAMILIES[name], [(answer,)])["content"] == answer
    start = FAMILIES[name].opening + '{"a": "'
    pieces = [(start,), *((answer[place : place + 7],) for place in range(0, 70_000, 7))]
    assert read(FAMILIES[name], pieces)["content"] == "".join(text for (text,) in pieces)


def test_a_deep_call_ends_where_it_is_too_deep():
    for deep in ("[" * 100_000 + "]" * 100_000, '{"a":' * 70 + "1" + "}" * 70):
        answer = f'<tool_call>{{"arguments": {deep}, "name": "weather"}}</tool_call>'
        assert read(FAMILIES["hermes"], [(answer,)])["content"] == answer
    deep = '{"a":' * 200_000 + "1" + "}" * 200_000
    message = read(FAMILIES["hermes"], [(f'<tool_call>{{"name": "weather", "arguments": {deep}}}</tool_call>',)])
    assert len(message["tool_calls"][0]["function"]["arguments"]) < 400
    fits = '{"a":' * 63 + "1" + "}" * 63
    message = read(FAMILIES["hermes"], [(f'<tool_call>{{"name": "weather", "arguments": {fits}}}</tool_call>',)])
    assert message["tool_calls"][0]["function"]["arguments"] == fits


def test_a_mark_that_is_a_control_token_counts_by_its_id_alone():
    spelled = f"<tool_call>{ROME}</tool_call>"
    assert read(CONTROL, [(spelled,)]) == {"role": "assistant", "content": spelled}
    message = read(CONTROL, [("Look.\n", (1,)), ("", (300,)), (ROME, (5, 6)), ("", (301,)), ("", (EOS,))])
    assert message["content"] == "Look."
    assert calls_of(message) == [IN_ROME]


def test_a_control_token_inside_the_json_ends_what_looked_like_a_call():
    pieces = [("", (300,)), (ROME[:20], ()), ("", (300,)), (ROME, ()), ("", (301,))]
    message = read(CONTROL, pieces)
    assert message["content"] == ROME[:20].rstrip()
    assert calls_of(message) == [IN_ROME]


def test_half_characters_in_an_answer_are_no_marks():
    message = read(CONTROL, [("\ud800" + ROME,)])
    assert message["content"] == "\ufffd" + ROME


def test_half_characters_in_arguments_stay_escaped():
    message = read(FAMILIES["hermes"], [(ROME.replace("Rome", "\\ud800") + "x",)], opened="<tool_call>")
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "\\ud800"}'


def test_without_tools_a_call_is_text():
    answer = f"<tool_call>{ROME}</tool_call>"
    assert read(FAMILIES["hermes"], [(answer,)], tools=None)["content"] == answer
    assert read(None, [(answer,)])["content"] == answer


THOUGHTS = [
    ("<think>\nHm.\n</think>\n\nYes.", False, "Hm.", "Yes."),
    ("Hm.\n</think>\n\nYes.", True, "Hm.", "Yes."),
    ("\n<think>\n\n</think>\n\nYes.", False, None, "Yes."),
    ("<think>no end <tool_call>", False, "no end <tool_call>", ""),
    ("I say <think> here.", False, None, "I say <think> here."),
    ("<think", False, None, "<think"),
    ("a </think> b", False, None, "a </think> b"),
]


@pytest.mark.parametrize(("answer", "begun", "reasoning", "content"), THOUGHTS)
def test_reasoning_is_told_apart_from_the_answer(answer, begun, reasoning, content):
    for pieces in ([(answer,)], [(each,) for each in answer]):
        message = read(FAMILIES["hermes"], pieces, Thinking(begun))
        assert (message.get("reasoning_content"), message["content"]) == (reasoning, content)


def test_a_call_after_reasoning_is_read_and_one_inside_it_is_not():
    call = f"<tool_call>{ROME}</tool_call>"
    message = read(FAMILIES["hermes"], [(f"<think>{call}</think>\n{call}",)], Thinking())
    assert message["reasoning_content"] == call
    assert message["content"] is None
    assert calls_of(message) == [IN_ROME]


def test_reasoning_marks_that_are_control_tokens_count_by_their_ids():
    thinking = Thinking(control=(("<think>", 310), ("</think>", 311)))
    message = read(CONTROL, [("", (310,)), ("Hm </think>.", ()), ("", (311,)), ("Yes", ())], thinking)
    assert (message["reasoning_content"], message["content"]) == ("Hm </think>.", "Yes")


def test_thinking_is_found_in_the_template_and_at_the_end_of_the_prompt():
    template, tokenizer = "<think></think>", tiny_tokenizer()
    assert find_thinking("{{ messages }}", tokenizer) is None
    assert find_thinking(template, tokenizer) == Thinking()
    assert find_thinking(template, tokenizer, "assistant\n<think>\n") == Thinking(begun=True)
    assert find_thinking(template, tokenizer, "assistant\n<think>\n\n</think>\n\n") is None
    assert find_thinking("[THINK][/THINK]", tokenizer, "[/INST][THINK]") == Thinking(True, "[THINK]", "[/THINK]")


def test_a_template_tells_its_family():
    found = {name: family.name for name, family in FAMILIES.items()}
    assert found == {name: name.partition(" ")[0] for name in FAMILIES}
    for template in (None, "", "{{ messages }}<tool_call>", "{{ tools }}"):
        assert find_family(template, tiny_tokenizer()) is None


def test_ids_are_new_and_of_the_length_that_the_family_wants():
    ids = [
        call["id"]
        for reader in (AnswerReader(FAMILIES["mistral"], None, TOOLS) for _ in range(2))
        for call in (reader.feed(f"[TOOL_CALLS][{ROME},{ROME}]"), reader.message())[1]["tool_calls"]
    ]
    assert len(set(ids)) == 4
    assert all(len(each) == 9 and each.isalnum() for each in ids)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", ["hermes", "mistral", "mistral new", "llama3"])
@given(st.lists(st.dictionaries(WORDS, VALUES, max_size=3), min_size=1, max_size=3), st.booleans())
def test_calls_that_are_written_are_read_back(name, given_arguments, ascii_only):
    family = FAMILIES[name]
    written = [{"name": "weather", family.arguments: arguments} for arguments in given_arguments]
    texts = [json.dumps(each, ensure_ascii=ascii_only) for each in written]
    answer = {
        "hermes": "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts),
        "mistral": f"[TOOL_CALLS] [{', '.join(texts)}]",
        "mistral new": "".join(f"[TOOL_CALLS]weather[ARGS]{json.dumps(each)}" for each in given_arguments),
        "llama3": "; ".join(texts),
    }[name]
    message = read(family, [(answer[place : place + 3],) for place in range(0, len(answer), 3)])
    assert message["content"] is None
    assert calls_of(message) == [("weather", arguments) for arguments in given_arguments]


@pytest.mark.parametrize("number", ["1e999", "-1.50", "9" * 5000, "12E+2"])
def test_numbers_in_arguments_stay_as_the_model_wrote_them(number):
    arguments = f'{{"days":  {number}}}'
    answers = {
        "hermes": f'<tool_call>{{"name": "weather", "arguments": {arguments}}}</tool_call>',
        "mistral": f'[TOOL_CALLS] [{{"arguments":{arguments} , "name":"weather"}} ]',
        "mistral new": f"[TOOL_CALLS]weather[ARGS]{arguments}",
        "llama3": f'{{"name": "weather", "parameters": {arguments}}}',
        "qwen3-coder": f"<tool_call><function=weather><parameter=days>{number}</parameter></function></tool_call>",
    }
    for name, answer in answers.items():
        [call] = read(FAMILIES[name], [(answer,)])["tool_calls"]
        assert call["function"]["arguments"].replace("  ", " ") == arguments.replace("  ", " ")


@given(WORDS.filter(lambda text: "</parameter>" not in text and "</tool_call>" not in text))
def test_text_in_an_xml_call_is_read_back(city):
    answer = f"<tool_call>\n<function=weather>\n<parameter=city>\n{city}\n</parameter>\n</function>\n</tool_call>"
    assert calls_of(read(FAMILIES["qwen3-coder"], [(answer,)])) == [("weather", {"city": city})]


# Short values, so that a model of random texts ends them.
SHORT = [
    tool("set", {"to": {"type": "integer", "minimum": 0, "maximum": 20}, "unit": {"enum": ["C", 'é"\\']}}, ["to"]),
    tool("stop"),
]
WAYS = {
    "greedy": nt.Greedy(),
    "sampling": nt.Sample(),
    "beams": nt.Beam(3),
    "drafts": nt.Speculate(nt.PromptLookup(), sampling=nt.Sample()),
}


def check_forced(family, output, opening, names=("set", "stop")):
    """The message of each text; its calls must fit their schemas."""
    schemas = {each["function"]["name"]: each["function"]["parameters"] for each in SHORT}
    for choice in output.choices:
        assert choice.finish_reason == "stop"
        message = read(family, [(choice.text,)], tools=SHORT, opened=opening)
        assert message["content"] is None
        assert calls_of(message)
        for name, arguments in calls_of(message):
            assert name in names
            jsonschema.validate(arguments, schemas[name])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*FORCED, "control"])
def test_a_forced_call_always_parses_and_fits_its_schema(name, way):
    family = CONTROL if name == "control" else FAMILIES[name]
    lm = tiny_lm(context=4096)
    for wanted in (None, "set", "stop"):
        forced = force_calls(family, SHORT, wanted)
        for seed in range(3):
            prompt = f"x{seed}\n{forced.opening}"
            output = lm.generate(prompt, WAYS[way], grammar=forced.grammar, max_tokens=2000, seed=seed)
            check_forced(family, output, forced.opening, ("set", "stop") if wanted is None else (wanted,))


def follow(text):
    """A model that writes this text byte by byte (or these tokens) after the prompt `x`, where it may."""
    script = [*(text.encode() if isinstance(text, str) else text), EOS]

    def scores(path):
        logits = [0.0] * VOCAB
        logits[script[min(len(path) - 1, len(script) - 1)]] = 20.0
        return logits

    return tiny_lm(scores, context=4096)


def test_a_forced_call_may_hold_any_text_that_the_form_can():
    family = FAMILIES["qwen3-coder"]
    forced = force_calls(family, [WEATHER])
    text = "<function=weather>\n<parameter=city>\n<b>\n</b\n</parameter\n</parameter>\n</function>\n</tool_call>"
    output = follow(text).generate("x", grammar=forced.grammar, max_tokens=300)
    assert output.text == text
    message = read(family, [(text,)], opened=forced.opening)
    assert calls_of(message) == [("weather", {"city": "<b>\n</b\n</parameter"})]


def test_arrays_and_objects_can_be_forced_where_they_hold_no_free_text():
    xml, choice = FAMILIES["qwen3-coder"], {"enum": ["a", "b"]}
    closed = {"type": "object", "properties": {"k": choice}, "required": ["k"], "additionalProperties": False}
    listed = {"type": "array", "items": closed, "maxItems": 2}
    given_tool = tool("f", {"k": listed}, ["k"])
    forced = force_calls(xml, [given_tool], "f")
    for seed in range(4):
        output = tiny_lm(context=4096).generate("x\n", nt.Sample(), grammar=forced.grammar, max_tokens=900, seed=seed)
        [(_, arguments)] = calls_of(read(xml, [(output.text,)], tools=[given_tool], opened=forced.opening))
        jsonschema.validate(arguments, given_tool["function"]["parameters"])
    for free in ({"type": "array", "items": {"type": "string"}}, {"type": "array"}, {"type": "object"}):
        with pytest.raises(ValueError, match="cannot be guaranteed"):
            force_calls(xml, [tool("f", {"k": free})])


def test_several_calls_can_be_forced_or_one_alone():
    family = FAMILIES["hermes"]
    text = '{"name": "stop", "arguments": {}}\n</tool_call>'
    both = f"{text}\n<tool_call>\n{text}"
    assert follow(both).generate("x", grammar=force_calls(family, SHORT).grammar, max_tokens=300).text == both
    for forced in (force_calls(family, SHORT, parallel=False), force_calls(family, SHORT, "stop")):
        assert follow(both).generate("x", grammar=forced.grammar, max_tokens=300).text == text


def test_a_forced_call_that_is_cut_off_is_content_before_its_arguments_and_a_call_after():
    forced = force_calls(FAMILIES["hermes"], [WEATHER])
    for most in (5, 40):
        output = tiny_lm().generate("x", nt.Sample(), grammar=forced.grammar, max_tokens=most)
        message = read(FAMILIES["hermes"], [(output.text,)], opened=forced.opening)
        if most == 5:
            assert message == {"role": "assistant", "content": f"<tool_call>\n{output.text}"}
        else:
            [(name, arguments)] = calls_of(message)
            assert (name, arguments) == ("weather", output.text.partition('"arguments": ')[2])


def test_what_cannot_be_guaranteed_is_refused_before_anything_runs():
    xml = FAMILIES["qwen3-coder"]
    with pytest.raises(ValueError, match="must name one of the tools"):
        force_calls(xml, TOOLS, "nothing")
    for schema in ({"type": "string", "pattern": "a+"}, {}, True, {"type": ["string", "null"]}, {"enum": ["<"]}):
        with pytest.raises(ValueError, match="cannot be guaranteed"):
            force_calls(xml, [tool("f", {"k": schema})])
    for name in ("a<", "", "a\nb", "x" * 300):
        with pytest.raises(ValueError, match="name must have"):
            force_calls(xml, [tool("f", {name: {"type": "integer"}})])
    with pytest.raises(ValueError, match="cannot be forced"):
        force_calls(FAMILIES["glm"], TOOLS)
    for family in FORCED.values():
        with pytest.raises(ValueError, match='type "object"'):
            force_calls(family, [{"function": {"name": "f", "parameters": {"type": "array"}}}])
        for wrong in ({"properties": 1}, {"properties": {"a": {"type": "nothing"}}}, {"required": [{}]}):
            with pytest.raises(ValueError):
                force_calls(family, [{"function": {"name": "f", "parameters": wrong}}])


@pytest.mark.parametrize("stop", [(), ("weather+",)])
def test_a_stream_is_read_by_its_pieces(stop):
    """Held back text and control tokens come in the order in which the model wrote them."""
    family = Family("tiny", "json", "<user>", control=find_control(tiny_tokenizer(), ("<user>", "<tool>")))
    assert family.control == (("<user>", USER),)
    lm = follow([*b"An <user>: weather", USER, *ROME.encode(), USER, *HALL.encode()])
    stream = lm.stream("x", max_tokens=300, stop=stop)
    message = read(family, [(piece.text, piece.tokens) for piece in stream])
    assert message["content"] == "An <user>: weather"
    assert calls_of(message) == [IN_ROME, IN_HALL]
