"""What a model's answer means: content, reasoning and tool calls, however it is cut; and calls that must be made."""

import itertools
import json

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nextok as nt
from calls import count_calls
from nextok.chat.answer import STEP, AnswerReader
from nextok.chat.events import CallArguments, CallBegun, Content, Reasoning
from nextok.chat.families import THINKING, Family, Thinking, find_control, find_family, find_thinking
from nextok.chat.forced import force_calls
from nextok.chat.marks import Marks
from nextok.chat.scan import JsonScanner
from nextok.chat.turn import ChatTurn, begin_turn
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
    "glm": "{{ tools }}<tool_call><arg_key></arg_key><arg_value></arg_value></tool_call>",
    "mistral": "{{ tools }}[TOOL_CALLS]",
    "mistral new": "{{ tools }}[TOOL_CALLS][ARGS]",
    "llama3": "{{ tools }}<|python_tag|>",
}
FAMILIES = {name: find_family(template, tiny_tokenizer()) for name, template in TEMPLATES.items()}
CONTROL = Family(
    "hermes", "json", "<tool_call>", "</tool_call>", control=(("<tool_call>", 300), ("</tool_call>", 301))
)
ROME = '{"name": "weather", "arguments": {"city": "Rome"}}'
HALL = '{"name": "light", "arguments": {"on": true, "room": "hall"}}'
CALL = '{"name": "weather", "arguments": '
LLAMA = '{"name": "weather", "parameters": {"city": "Rome"}}'
XML = "<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>"
GLM = (
    "weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>"
)
IN_ROME, IN_HALL = ("weather", {"city": "Rome"}), ("light", {"on": True, "room": "hall"})
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
    # From the bracket of the arguments on it is a call, with the arguments as far as they are JSON.
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": NaN}}</tool_call>',
        "NaN}}</tool_call>",
        [("weather", '{"city": ')],
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Ro', None, [("weather", '{"city": "Ro')]),
    (
        "hermes",
        f'<tool_call>{{"name": "weather", "arguments": {{"days": 1</tool_call> <tool_call>{HALL}',
        None,
        [("weather", '{"days": 1'), IN_HALL],
    ),
    ("hermes", f"<tool_call>{ROME[:-1]}, x</tool_call>", "x</tool_call>", [IN_ROME]),
    ("hermes", f'<tool_call>{ROME[:-1]}, "id": 3}}</tool_call>', None, [IN_ROME]),
    ("hermes", '<tool_call>{"arguments": {"days": 2}, "name": "weather"}', None, [("weather", {"days": 2})]),
    ("hermes", '<tool_call>{"arguments": {"days": 2}, "name": "weather"', ..., []),
    ("hermes", '<tool_call>{"name": "weather", "arguments": "{\\"days\\": 2"}', ..., []),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"a\nb": 1}}', 'b": 1}}', [("weather", '{"a')]),
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
    ("glm", f"So:\n<tool_call>{GLM}\n</tool_call>\n<tool_call>{GLM}</tool_call>", "So:", [IN_ROME_3, IN_ROME_3]),
    ("glm", f"<tool_call>\n{GLM.replace(chr(10), '')}", None, [IN_ROME_3]),
    ("glm", "<tool_call>light</tool_call> Done.", "Done.", [("light", {})]),
    ("glm", "<tool_call>lightning</tool_call>", ..., []),
    ("glm", "<tool_call> is a mark", ..., []),
    ("glm", f"<tool_call>{GLM[:-1]}</tool_call>", ..., []),
    ("glm", f"<tool_call>{GLM} so</tool_call>", ..., []),
    (
        "glm",
        "<tool_call>weather<arg_key>city</arg_key><arg_value> 3\n</arg_value><arg_key>x</arg_key>"
        '<arg_value>{"a": [1]}</arg_value></tool_call>',
        None,
        [("weather", {"city": " 3\n", "x": {"a": [1]}})],
    ),
    ("mistral", f"[TOOL_CALLS] [{ROME}, {HALL}]", None, [IN_ROME, IN_HALL]),
    ("mistral", f"[TOOL_CALLS][{{}}, {ROME}]", ..., []),
    ("mistral", f"[TOOL_CALLS][{ROME}, {{}}]", "{}]", [IN_ROME]),
    ("mistral", f"[TOOL_CALLS][{ROME} {ROME}]", f"{ROME}]", [IN_ROME]),
    ("mistral", f"[TOOL_CALLS][{ROME},]", "]", [IN_ROME]),
    ("mistral", f"[TOOL_CALLS][{ROME}, {HALL[:-4]}", None, [IN_ROME, ("light", '{"on": true, "room": "hal')]),
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
    ("mistral new", '[TOOL_CALLS]light[ARGS]{"on": t', None, [("light", '{"on": t')]),
    ("mistral new", '[TOOL_CALLS]dark[ARGS]{"a": "[TOOL_CALLS]light[ARGS]{}"}', ..., []),
    ("mistral new", "[TOOL_CALLS]light[ARGS][1]", ..., []),
    ("mistral new", "[TOOL_CALLS]" + "x" * 500 + "[ARGS]{}", ..., []),
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
    """The names and arguments of calls; arguments that do not end are a text."""
    calls = []
    for function in (each["function"] for each in message.get("tool_calls", [])):
        try:
            calls.append((function["name"], json.loads(function["arguments"])))
        except json.JSONDecodeError:
            calls.append((function["name"], function["arguments"]))
    return calls


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
        *("[ARGS]", "<|python_tag|>", "<think>", "</think>", ROME, LLAMA, XML, GLM, "weather", "x", "é"),
        *(
            '{"name": "weather", "arguments": {',
            '"parameters": {"a": ',
            '{"name":"light"',
            "weather[ARGS]{",
            "\\u00e",
        ),
        *("null", "tru", "-0.5e", "12", "\x00", '": ', '{"days": 1}'),
        *'{}[]"\\ \n;,:',
    ]
)


@pytest.mark.parametrize("name", FAMILIES)
@given(st.lists(PARTS, max_size=12), st.booleans(), st.lists(st.integers(0, 200), max_size=4))
def test_any_text_is_read_without_an_error_and_nothing_is_lost(name, parts, thinks, cuts):
    answer, thinking = "".join(parts), Thinking() if thinks else None
    message = read(FAMILIES[name], [(answer,)], thinking)
    assert read(FAMILIES[name], [(each,) for each in answer], thinking) == message
    places = [0, *sorted(cuts), len(answer)]
    pieces = [(answer[start:stop],) for start, stop in itertools.pairwise(places)]
    assert read(FAMILIES[name], pieces, thinking) == message
    if "tool_calls" not in message and "reasoning_content" not in message and not thinks:
        assert message["content"] == answer
    for function, arguments in calls_of(message):
        assert function in ("weather", "light")
        assert isinstance(arguments, dict) or arguments.startswith("{")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "unit",
    [
        "<tool_call>",
        "{",
        '<tool_call>{"\\"',
        '<tool_call>{"name":"',
        "[TOOL_CALLS]",
        "<tool_call><function=f><parameter=k>",
        " ",
        "[ARGS]",
    ],
)
def test_a_long_answer_of_marks_is_read_in_one_piece_and_in_small_ones(name, unit):
    """A reader that looks at the rest of the text at each mark would take hours for this."""
    answer = unit * (400_000 // len(unit))
    assert read(FAMILIES[name], [(answer,)])["content"] == answer
    start = FAMILIES[name].opening + '{"a": "'
    pieces = [(start,), *((answer[place : place + 7],) for place in range(0, 70_000, 7))]
    assert read(FAMILIES[name], pieces)["content"] == "".join(text for (text,) in pieces)


def test_what_is_deeper_than_64_in_the_arguments_of_a_call_is_content():
    for depth, is_whole in ((64, True), (65, False), (200_000, False)):
        deep = '{"a":' * depth + "1" + "}" * depth
        [(_, arguments)] = calls_of(message := read(FAMILIES["hermes"], [(f"<tool_call>{CALL}{deep}}}",)]))
        assert isinstance(arguments, dict) == is_whole
        assert message["content"] == (None if is_whole else ('{"a":' * (depth - 64) + "1" + "}" * (depth + 1)))


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 65 + "1" + "}" * 65])
def test_a_call_that_is_told_once_it_is_whole_is_content_where_it_is_too_deep(deep):
    answer = f'<tool_call>{{"arguments": {deep}, "name": "weather"}}'
    assert read(FAMILIES["hermes"], [(answer,)])["content"] == answer
    in_text = f'<tool_call>{{"arguments": {json.dumps(deep)}, "name": "weather"}}'
    assert read(FAMILIES["hermes"], [(in_text,)])["content"] == in_text
    xml = f"<tool_call><function=weather><parameter=days>{deep}</parameter></function></tool_call>"
    assert calls_of(read(FAMILIES["qwen3-coder"], [(xml,)])) == [("weather", {"days": deep})]


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


@pytest.mark.parametrize("marks", THINKING)
@pytest.mark.parametrize(("answer", "begun", "reasoning", "content"), THOUGHTS)
def test_reasoning_is_told_apart_from_the_answer(answer, begun, reasoning, content, marks):
    def spell(text):
        for own, mark in zip(("<think>", "</think>", "<think"), (*marks, marks[0][:-1]), strict=True):
            text = text and text.replace(own, mark)
        return text

    answer = spell(answer)
    for pieces in ([(answer,)], [(each,) for each in answer]):
        message = read(FAMILIES["hermes"], pieces, Thinking(begun, *marks))
        assert (message.get("reasoning_content"), message["content"]) == (spell(reasoning), spell(content))


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
    tokenizer = tiny_tokenizer()
    assert find_thinking("{{ messages }}", tokenizer) is None
    for opening, closing in THINKING:
        template, end = f"{opening}{closing}", f"assistant\n{opening}\n"
        assert find_thinking(template, tokenizer) == Thinking(False, opening, closing)
        assert find_thinking(template, tokenizer, end) == Thinking(True, opening, closing)
        assert find_thinking(template, tokenizer, f"{end}\n{closing}\n\n") is None


@pytest.mark.parametrize(("opening", "closing"), THINKING)
def test_reasoning_that_the_template_begins_ends_before_a_forced_call(opening, closing):
    template = f"{{{{ tools | length }}}}{{{{ '{closing}<tool_call>' if False }}}}{opening}"
    tokenizer = tiny_tokenizer(template)
    marks, said = Marks(tokenizer), [{"role": "user", "content": "x"}]
    turn = begin_turn(marks, said, tools=TOOLS, tool_choice="required")
    assert tokenizer.decode(turn.ids) == f"2{opening}\n{closing}\n\n<tool_call>\n"
    assert turn.read(ROME, list(ROME.encode()))["content"] is None
    free = begin_turn(marks, said, tools=TOOLS)
    assert free.read(f"Hm{closing}Yes", list(f"Hm{closing}Yes".encode())) == {
        "role": "assistant",
        "content": "Yes",
        "reasoning_content": "Hm",
    }


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
@pytest.mark.parametrize("name", [*FAMILIES, "control"])
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


def test_a_forced_call_of_glm_may_hold_what_ends_a_value_of_another_form():
    forced = force_calls(FAMILIES["glm"], [WEATHER])
    text = "weather\n<arg_key>city</arg_key>\n<arg_value></parameter>\n</arg_value\n</arg_value>\n</tool_call>"
    output = follow(text).generate("x", grammar=forced.grammar, max_tokens=300)
    assert output.text == text
    message = read(FAMILIES["glm"], [(text,)], opened=forced.opening)
    assert calls_of(message) == [("weather", {"city": "</parameter>\n</arg_value\n"})]


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


def test_a_forced_call_that_is_cut_off_is_content():
    forced = force_calls(FAMILIES["hermes"], [WEATHER])
    output = tiny_lm().generate("x", nt.Sample(), grammar=forced.grammar, max_tokens=5)
    message = read(FAMILIES["hermes"], [(output.text,)], opened=forced.opening)
    assert message == {"role": "assistant", "content": f"<tool_call>\n{output.text}"}


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
    for family in FAMILIES.values():
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


MARKED = Family("tiny", "json", "<user>", control=(("<user>", USER),))


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([USER, 0xC3, 0xA9, *b"{<k", ROME, CALL + "{", "weather", "<think>"]), max_size=8),
    st.sampled_from([(), ('weather": ',), ("<us",), ("é",)]),
    st.sampled_from(["", "<user>"]),
)
@example([0xC3, USER, 0xA9, ROME], (), "")
@example([0xC3, USER, ROME], (), "")
@example([ROME, 0xC3, USER, ROME, 0xC3], ("é",), "<user>")
def test_a_whole_answer_is_read_as_its_stream_is(parts, stop, opened):
    tokens = [token for part in parts for token in (part.encode() if isinstance(part, str) else [part])]
    turn = ChatTurn([], None, tiny_tokenizer(), TOOLS, MARKED, Thinking(), opened)
    stream = follow(tokens).stream("x", max_tokens=len(tokens) + 1, stop=stop)
    streamed = read(MARKED, [(piece.text, piece.tokens) for piece in stream], Thinking(), opened=opened)
    [choice] = stream.output().choices
    whole = turn.read(choice.text, choice.tokens)
    for message in (whole, streamed):
        for call in message.get("tool_calls", []):
            del call["id"]
    assert whole == streamed


STREAMED = {
    "hermes": (f"Look.\n<tool_call>\n{CALL}", "}\n</tool_call>"),
    "mistral": (f"[TOOL_CALLS] [{CALL}", "}]"),
    "mistral new": ("[TOOL_CALLS]weather[ARGS]", ""),
    "llama3": (CALL.replace("arguments", "parameters"), "}"),
}


@pytest.mark.parametrize("name", STREAMED)
def test_the_arguments_of_a_call_are_told_as_they_come(name):
    before, after = STREAMED[name]
    arguments = '{"city": "R\\u00f6m \\"", "days": [-1.5e3, {"a": null}, {}]}'
    reader = AnswerReader(FAMILIES[name], None, TOOLS, make_id=counter())
    assert not any(isinstance(event, CallBegun) for event in reader.feed(before))
    assert reader.feed(arguments[0]) == [CallBegun(0, "id0", "weather"), CallArguments(0, "{")]
    for letter in arguments[1:]:
        assert reader.feed(letter) == [CallArguments(0, letter)]
    assert [*reader.feed(after), *reader.finish()] == []
    assert reader.message()["tool_calls"][0]["function"]["arguments"] == arguments


def fail(constant):
    raise ValueError(constant)


def test_calls_of_mistral_follow_each_other_where_their_marks_are_control_tokens():
    control = (("[TOOL_CALLS]", 300), ("[ARGS]", 301))
    family = Family("mistral", "named", "[TOOL_CALLS]", id_length=9, control=control)
    written = [("weather", {"city": "[TOOL_CALLS]"}), ("light", {}), ("weather", {"city": "Rome", "days": 3})]
    pieces = [("Well.", ())]
    for name, arguments in written:
        pieces += [("", (300,)), (name, ()), ("", (301,)), *((letter, (7,)) for letter in json.dumps(arguments))]
    message = read(family, pieces)
    assert (message["content"], calls_of(message)) == ("Well.", written)


@pytest.mark.parametrize("name", STREAMED)
def test_a_forced_call_is_told_as_it_comes(name):
    forced = force_calls(FAMILIES[name], SHORT, "set")
    stream = tiny_lm(context=4096).stream("x\n", nt.Sample(), grammar=forced.grammar, max_tokens=900, seed=1)
    reader = AnswerReader(FAMILIES[name], None, SHORT, forced.opening, counter())
    told = [[type(event) for event in reader.feed(piece.text, piece.tokens)] for piece in stream]
    assert sum(CallBegun in events for events in told) == 1
    assert sum(CallArguments in events for events in told) >= len('{"to":1}')
    assert reader.finish() == []
    [(_, arguments)] = calls_of(reader.message())
    jsonschema.validate(arguments, SHORT[0]["function"]["parameters"])


def test_the_arguments_of_a_long_call_are_told_in_pieces_of_limited_size():
    reader = AnswerReader(FAMILIES["hermes"], None, TOOLS)
    events = reader.feed(f'<tool_call>{CALL}{{"city": "{"x" * 1_000_000}"}}}}</tool_call>')
    assert max(len(event.text) for event in events[1:]) <= STEP
    assert len(reader.message()["tool_calls"][0]["function"]["arguments"]) == 1_000_012


@given(st.dictionaries(WORDS, VALUES, max_size=3), st.data())
def test_json_is_checked_as_it_comes_as_json_checks_it_at_the_end(value, data):
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    start, stop = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
    parts = [text[start:stop], *'{}[]":,\\-+.eu0 1at\n\x00', "01", "1.", "1e5", "\\u12", "tru", "NaN"]
    part = data.draw(st.sampled_from(parts))
    text = text[:start] + part + text[data.draw(st.sampled_from([start, stop])) :]
    scanner, place = JsonScanner(64), 0
    for end in [*range(1, len(text), data.draw(st.integers(1, 5))), len(text)]:
        while place < end and not scanner.is_broken and not scanner.is_whole:
            place = scanner.read(text[:end], place)
    try:
        is_json = isinstance(json.loads(text, parse_constant=fail), dict)
    except ValueError:
        is_json = False
    assert (scanner.is_whole and not text[place:].strip(" \n\r\t")) == is_json


@pytest.mark.parametrize(
    "unit", ['<tool_call>{"name":"', CALL + "{", '{"a":[', "[TOOL_CALLS]light[ARGS]{", f"[{ROME},", "\\", "{}"]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_twice_the_text_is_twice_the_work(name, unit):
    start = FAMILIES[name].opening + unit

    def work(number):
        answer = start + unit * number
        return count_calls(lambda: AnswerReader(FAMILIES[name], None, TOOLS, make_id=counter()).feed(answer))

    assert work(4_000) < 2.2 * work(2_000) + 2_000
