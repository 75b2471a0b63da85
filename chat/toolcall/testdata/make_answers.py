#!/usr/bin/env python3
"""Writes answers.jsonl: answers as models write them, and what each byte of them is.

    python3 make_answers.py        # Python 3.11, standard library only

The first line has the tools. A row has the syntax, a name, the mark with which the prompt began the reasoning, and the answer in parts:
[kind, text], where kind is content, reasoning, mark (also white space next to one), or call with the function's name and
its arguments. The answer is the texts in a row. Calls are written as the templates and the model cards show them, and as
models vary them: json.dumps, repr and str of Python write the values, so nothing here comes from the parser under test.
Those of recorded.jsonl (record.py) were sampled from a model; RECORDED_CALLS says by hand which of them begin with a call.
"""
import json
import os


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


STRING = {"type": "string"}
TOOLS = [
    tool("get_weather", city=STRING, days={"type": "integer"}, units={"type": "string", "enum": ["C", "F"]}),
    tool("search", query=STRING, filters={"type": "object"}, tags={"type": "array"}, exact={"type": "boolean"},
         limit={"anyOf": [{"type": "number"}, {"type": "null"}]}),
    tool("now"),
    tool("write_file", path=STRING, text=STRING, mode={"type": ["string", "null"]}),
]
CALLS = [
    ("get_weather", {"city": "Paris"}),
    ("get_weather", {"city": "São Paulo", "days": 3, "units": "C"}),
    ("now", {}),
    ("write_file", {"path": "a.py", "text": 'print("hi")\n# it\'s \\ done\n'}),
    ("search", {"query": "北京 天气 😀", "filters": {"lang": ["zh", "en"], "range": {"from": 1, "to": 2.5}}, "exact": True}),
    ("write_file", {"path": "x.md", "text": "</tool_call> [TOOL_CALLS] <think></think> ``` ]}) \" ' <function=now>"}),
    ("search", {"query": "", "tags": [], "limit": None}),
    ("search", {"query": "a", "limit": -1500.0, "tags": ["x", "it's", "\"y\""], "exact": False}),
    ("write_file", {"path": "p", "text": "line 1\n\nline 3\tend", "mode": None}),
    ("get_weather", {"city": "\"quoted\" 'single' \\", "days": 0}),
    ("write_file", {"path": "C:\\new\\table", "text": "word " * 60}),
    ("search", {"query": "3", "filters": {"a": {"b": {"c": [[1], [2, [3]]]}}, "é": "\u00e9", "n": None, "t": True}}),
]
rows = []


def add(syntax, name, *parts, thinking=""):
    rows.append({"syntax": syntax, "name": name, "thinking": thinking, "parts": [list(p) for p in parts if p[1]]})


def content(text):
    return ("content", text)


def mark(text):
    return ("mark", text)


# Writers return the text of a call and how much of it is needed: what is cut before that is no call.
def as_json(name, arguments, style, key):
    body = {"name": name, key: arguments}
    if style == 1:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if style == 2:
        return json.dumps(body, indent=2)
    if style == 3:
        return json.dumps({key: arguments, "name": name}, ensure_ascii=False)
    if style == 4:
        return json.dumps({"type": "function", "name": name, key: arguments})
    if style == 5:
        return json.dumps({"name": name, key: json.dumps(arguments)})
    return json.dumps(body, ensure_ascii=False)


def hermes(name, arguments, style=0):
    raw = as_json(name, arguments, style, "arguments")
    raw = "<tool_call>" + raw if style == 1 else "<tool_call>\n" + raw
    return raw + ("</tool_call>" if style == 1 else "\n</tool_call>"), len(raw)


def xml(name, arguments, style=0):
    raw = f"<function={name}>\n"
    for k, v in arguments.items():
        text = v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) if style % 2 else str(v)
        raw += f"<parameter={k}>\n{text}\n</parameter>\n"
    raw += "</function>"
    if style == 2:  # the model forgets the outer tags
        return raw, len(raw)
    raw = "<tool_call>\n" + raw
    return raw + "\n</tool_call>", len(raw)


def llama3(name, arguments, style=0):
    raw = as_json(name, arguments, style, "parameters")
    if style == 1:
        raw = "<|python_tag|>" + raw
    return raw, len(raw)


def literal(name, arguments):
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def pythonic(name, arguments, style=0):
    raw = "[" + literal(name, arguments) + "]"
    if style == 1:
        raw = "<|python_start|>" + raw
        return raw + "<|python_end|>", len(raw)
    return raw, len(raw)


def mistral(name, arguments, style=0):
    if style % 2:
        raw = f"[TOOL_CALLS]{name}" + ("[CALL_ID]abcdefgh1" if style == 3 else "") + "[ARGS]" + json.dumps(arguments, ensure_ascii=style == 5)
    elif style == 4:
        raw = "[TOOL_CALLS] [" + json.dumps({"name": name, "arguments": arguments, "id": "abcdefgh1"}) + "]"
    else:
        raw = "[TOOL_CALLS][" + as_json(name, arguments, style, "arguments") + "]"
    return raw, len(raw)


def chatglm3(name, arguments, style=0):
    raw = f"{name}\n ```python\ntool_call({literal('', arguments)[1:]}"
    return raw + "\n```", len(raw)


def generic(name, arguments, style=0):
    raw = as_json(name, arguments, style, "arguments")
    if style == 1:
        raw = "[" + raw + "]"
    if style in (2, 4):
        raw = "```json\n" + raw
        return raw + "\n```", len(raw)
    return raw, len(raw)


WRITERS = {"hermes": hermes, "qwen3-coder": xml, "llama3": llama3, "pythonic": pythonic, "mistral": mistral,
           "chatglm3": chatglm3, "json": generic}


def call(syntax, i, style=0):
    name, arguments = CALLS[i]
    return ("call", WRITERS[syntax](name, arguments, style)[0], name, json.dumps(arguments))


for syntax, write in WRITERS.items():
    between = {"llama3": "; ", "chatglm3": "\n<|assistant|> ", "mistral": ""}.get(syntax, "\n")
    sep = {"chatglm3": "\n"}.get(syntax, "\n\n")
    for i, (name, arguments) in enumerate(CALLS):
        add(syntax, f"call {i}", call(syntax, i, i % 6))
    for i, j in ((0, 2), (4, 5), (1, 1)):
        add(syntax, f"calls {i} and {j}", call(syntax, i), mark(between), call(syntax, j))
    add(syntax, "three calls", call(syntax, 2), mark(between), call(syntax, 3), mark(between), call(syntax, 0))
    add(syntax, "text before", content("I'll look that up:"), mark(sep), call(syntax, 0))
    add(syntax, "text of two lines before", content("First:\n\n  the weather.\n<b>"), mark("\n"), call(syntax, 1))
    add(syntax, "white space around", mark("\n\n  \n"), call(syntax, 2), mark("\n\n"))
    add(syntax, "text after", call(syntax, 0), mark("\n"), content("Done. 好\n"))
    add(syntax, "text between", call(syntax, 2), mark("\n\n"), content("and then"), mark("\n"), call(syntax, 2))
    add(syntax, "reasoning before", mark("<think>\n"), ("reasoning", "They want <b>weather</b>.\n\n{\"name\": \"now\"}"),
        mark("\n</think>\n\n"), call(syntax, 0))
    add(syntax, "reasoning that the prompt began", ("reasoning", "Hm </thin k>\n[now()] <tool_call>"), mark("</think>\n\n"), call(syntax, 1), thinking="<think>")
    add(syntax, "reasoning and text before", mark("<think>"), ("reasoning", "a"), mark("</think>\n"), content("Let me look."), mark("\n"), call(syntax, 2))
    add(syntax, "reasoning without end", mark("<think>\n"), ("reasoning", "a\n" + call(syntax, 0)[1] + "\n</think"))
    start = "\n " if syntax == "chatglm3" else ""  # a line without a name
    add(syntax, "only text", mark(start), content("2 < 3, a[0] = {1: `x`}; it's \"so\".\n\n- [now]\n{}\n```go\nf()\n```"))
    for n in (0, 1, 4):
        name, arguments = CALLS[n]
        raw, need = write(name, arguments, 0)
        for at in (2, need // 4, need // 2, 3 * need // 4, need - 1):
            add(syntax, f"call {n} cut at {at}", content("Now:\n" + raw[:at]))
    raw, _ = write("now", {}, 0)
    add(syntax, "a call and one that is cut", call(syntax, 2), mark("\n"), content(write(*CALLS[0], 0)[0][:-20 if syntax != "json" else -3]))
    unknown, _ = write("rm_rf", {"path": "/"}, 0)
    add(syntax, "unknown function", content(unknown))
    add(syntax, "unknown function, then a call", content(unknown), mark("\n"), call(syntax, 0))
    longer, _ = write("now_utc", {}, 0)
    add(syntax, "a name that begins like a function", content("a\n" + longer))
    bad = [("wrong quotes", raw.replace('"', "'").replace("now", "'now'", syntax not in ("hermes", "llama3", "mistral", "json"))),
           ("a name in capitals", raw.replace("now", "NOW"))]
    if syntax in ("hermes", "llama3", "mistral", "json"):
        key = "parameters" if syntax == "llama3" else "arguments"
        raw = write("get_weather", {"city": "x"}, 0)[0]
        good = '"' + key + '": {"city": "x"}'
        for name, text in (("comma after the last", '"%s": {"city": "x",}'), ("no colon", '"%s" {"city": "x"}'), ("arguments in a list", '"%s": ["x"]'),
                           ("arguments that are text", '"%s": "x"'), ("a number as arguments", '"%s": 3'), ("no quotes", '"%s": {city: "x"}'),
                           ("a line's end in a string", '"%s": {"city": "x\ny"}'), ("no such escape", '"%s": {"city": "\\x41"}'),
                           ("half an escape", '"%s": {"city": "\\u00g1"}'), ("a number with a zero", '"%s": {"days": 01}'), ("Python's constant", '"%s": {"exact": True}'),
                           ("a further key", '"%s": {"city": "x"}, "note": 1'), ("arguments twice", '"%s": {}, "arguments": {}')):
            bad.append((name, raw.replace(good, text % key)))
        bad.append(("no name", raw.replace('"name": "get_weather", ', "")))
        bad.append(("a number as name", raw.replace('"get_weather"', "1")))
    if syntax in ("pythonic", "chatglm3"):
        raw = write("get_weather", {"city": "x"}, 0)[0]
        for name, text in (("no key", "'x'"), ("a variable", "city=x"), ("two equal signs", "city=='x'"), ("a sum", "days=1+2"), ("an open string", "city='x"),
                           ("two commas", "city='x',,days=1"), ("a set", "city={'x'}"), ("a call", "city=now()"), ("a line's end in a string", "city='x\ny'"),
                           ("a code point that is none", "city='\\UFFFFFFFF'")):
            bad.append((name, raw.replace("city='x'", text)))
    if syntax == "qwen3-coder":
        raw = write("get_weather", {"city": "x"}, 0)[0]
        for name, old, new in (("no equals sign", "<function=", "<function "), ("a parameter without a name", "=city", "="), ("a parameter that is not closed", "</parameter>", ""),
                               ("a function that is not closed", "</function>", ""), ("text between", "</parameter>\n", "</parameter>\n<x>"), ("a name over lines", "=city>", "=ci\nty>")):
            bad.append((name, raw.replace(old, new)))
    for name, text in bad:
        add(syntax, name, content(text))
        if name in ("wrong quotes", "no key", "no colon", "no equals sign"):
            add(syntax, name + ", then a call", content(text + "\nAgain:"), mark("\n"), call(syntax, 2))

for thinking in ("", "<think>"):
    add("", f"no calls after {thinking!r}", *[] if thinking else [mark("<think>")], ("reasoning", "Hm.\n\n好."), mark("\n</think>\n\n"), content("<tool_call>{}</tool_call> ok\n"), thinking=thinking)
    add("", f"empty reasoning after {thinking!r}", mark(("" if thinking else "<think>") + "\n\n</think>\n\n"), content("Hi"), thinking=thinking)
add("", "reasoning twice", mark("<think>"), ("reasoning", "a"), mark("</think>"), content("b <think>c</think> d"))
add("", "a mark after text", content("so <think> is a mark"))
add("", "a mark after white space", mark("\n <think>"), ("reasoning", "x"), mark("</think>"))
add("", "nearly a mark", content("<thinking>a</thinking>"))
add("", "the mark again", mark("<think>\n"), ("reasoning", "x"), mark("\n</think>"), thinking="<think>")
add("", "reasoning without end", ("reasoning", "a </think"), thinking="<think>")
add("", "a mark's beginning", content("\n<thi"))
add("mistral", "reasoning of Magistral", mark("[THINK]"), ("reasoning", "a </think> b"), mark("[/THINK]"), content("c"))
add("mistral", "reasoning that the prompt began with Magistral's mark", ("reasoning", "a"), mark("[/THINK]\n"), content("c"), thinking="[THINK]")
add("hermes", "closing tag missing", ("call", '<tool_call>\n{"name": "now", "arguments": {}}\n', "now", "{}"))
add("hermes", "a list between the tags", ("call", '<tool_call>[{"name": "now", "arguments": {}}, ', "now", "{}"), ("call", '{"name": "now", "arguments": {}}]</tool_call>', "now", "{}"))
add("hermes", "an empty list between the tags", content("<tool_call>[]</tool_call>"))
add("hermes", "opened twice", content("<tool_call>\n"), ("call", '<tool_call>{"name": "now", "arguments": {}}</tool_call>', "now", "{}"))
add("hermes", "no arguments", ("call", '<tool_call>{"name": "now"}</tool_call>', "now", "{}"))
add("hermes", "null arguments", ("call", '<tool_call>{"name": "now", "arguments": null}</tool_call>', "now", "{}"))
add("hermes", "brace too many", content('<tool_call>{"name": "now", "arguments": {}}}</tool_call>'))
add("hermes", "a tag that is not opened", ("call", '{"name": "now", "arguments": {}}\n</tool_call>', "now", "{}"))
add("hermes", "no tags", ("call", '{"name": "now", "arguments": {}}', "now", "{}"))
add("hermes", "no tags, after a line", content("Let me see:"), mark("\n\n"), ("call", '```json\n{"name": "now"}\n```', "now", "{}"))
add("hermes", "no tags, within a line", content('I call {"name": "now", "arguments": {}}'))
add("hermes", "as in OpenAI's API", ("call", '<tool_call>{"type": "function", "function": {"name": "now", "arguments": "{}"}}</tool_call>', "now", "{}"))
add("hermes", "surrogates", ("call", '<tool_call>{"name": "search", "arguments": {"query": "\\ud83d\\ude00 \\u4f60 \\/"}}</tool_call>', "search", '{"query": "😀 你 /"}'))
add("hermes", "deep", ("call", '<tool_call>{"name": "search", "arguments": {"filters": ' + "[" * 80 + "]" * 80 + "}}</tool_call>", "search", '{"filters": ' + "[" * 80 + "]" * 80 + "}"))
add("hermes", "too deep", content('<tool_call>{"name": "search", "arguments": {"filters": ' + "[" * 120 + "]" * 120 + "}}</tool_call>"))
add("qwen3-coder", "tags in a value", ("call", "<tool_call>\n<function=write_file>\n<parameter=text>\nUse </parameter> and </function>.\n<parameter=x>\n</parameter>\n</function>\n</tool_call>",
                                      "write_file", json.dumps({"text": "Use </parameter> and </function>.\n<parameter=x>"})))
add("qwen3-coder", "types that do not fit", ("call", "<function=search>\n<parameter=exact>maybe</parameter><parameter=limit>null</parameter><parameter=filters>{'a': (1, 'b',), 'c': None}</parameter>"
                                             "<parameter=tags>[1, 2</parameter><parameter=other>7</parameter></function>", "search",
                                             json.dumps({"exact": "maybe", "limit": None, "filters": {"a": [1, "b"], "c": None}, "tags": "[1, 2", "other": "7"})))
add("qwen3-coder", "numbers as text", ("call", "<function=get_weather><parameter=city>007</parameter><parameter=days>1.5</parameter></function>", "get_weather", json.dumps({"city": "007", "days": "1.5"})))
add("qwen3-coder", "null for a number", ("call", "<function=get_weather><parameter=city>None</parameter><parameter=days>None</parameter></function>", "get_weather", json.dumps({"city": "None", "days": None})))
add("qwen3-coder", "null and text", ("call", "<function=write_file><parameter=mode>null</parameter><parameter=path>null</parameter></function>", "write_file", json.dumps({"mode": None, "path": "null"})))
add("qwen3-coder", "two functions in a call", ("call", "<tool_call>\n<function=now>\n</function>", "now", "{}"), mark("\n"), ("call", "<function=now>\n</function>\n</tool_call>", "now", "{}"))
add("llama3", "built-in tool", ("call", '<|python_tag|>search.call(query="Who is \'x\'?")', "search", json.dumps({"query": "Who is 'x'?"})))
add("llama3", "code", content("<|python_tag|>import os\nprint(os.environ)"))
add("llama3", "python", ("call", "[now(), ", "now", "{}"), ("call", "get_weather(city='x')]", "get_weather", '{"city": "x"}'))
add("llama3", "a list", ("call", '[{"name": "now", "parameters": {}}, ', "now", "{}"), ("call", '{"name": "now", "parameters": {}}]', "now", "{}"))
add("llama3", "JSON that is no call", content('{"name": "John", "age": 3}\n[{"a": 1}]\n[1, 2]\n{"type": "object"}'))
add("llama3", "a call within a line", content('Use {"name": "now", "parameters": {}} then.'))
add("pythonic", "two calls", ("call", "[now(), ", "now", "{}"), ("call", "get_weather(city=\"x\", days=2,)]", "get_weather", '{"city": "x", "days": 2}'))
add("pythonic", "the second is unknown", content("[now(), then()]"))
add("pythonic", "constants of JSON", ("call", "[search(exact=true, limit=null)]", "search", '{"exact": true, "limit": null}'))
add("pythonic", "strings", ("call", "[write_file(path='''a'b\n''', text=\"\\x41\\u4f60\\t\\q\\\nz\")]", "write_file", json.dumps({"path": "a'b\n", "text": "A你\t\\qz"})))
add("pythonic", "text for a number", ("call", "[get_weather(days='3')]", "get_weather", '{"days": 3}'))
add("pythonic", "links", content("[1] a\n[now](http://x)\n[]\n[x()]"))
add("mistral", "a list of two", ("call", '[TOOL_CALLS][{"name": "now", "arguments": {}}, ', "now", "{}"), ("call", '{"name": "now", "arguments": {}}]', "now", "{}"))
add("mistral", "the second is cut", content('[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "no'))
add("mistral", "an empty list", content("[TOOL_CALLS][]"))
add("mistral", "no mark between", ("call", '[TOOL_CALLS]now{}', "now", "{}"))
add("mistral", "an object", ("call", '[TOOL_CALLS] {"name": "now", "arguments": {}}', "now", "{}"))
add("chatglm3", "a name in a text", content("now\nor never. get_weather is a function."))
add("chatglm3", "the block is not closed", ("call", "now\n```python\ntool_call()\n", "now", "{}"))
add("json", "fences around other things", content("```json\n{\"name\": \"x\"}\n```\n```\n[]\n```"))
add("json", "JSON as an answer", content('{\n  "name": "Berlin",\n  "arguments": ["a"]\n}'))
add("json", "a list of two", ("call", '[{"name": "now", "arguments": {}},\n', "now", "{}"), ("call", '{"name": "now", "arguments": {}}]', "now", "{}"))

RECORDED_CALLS = {  # by line
    1: ("get_weather", {"city": "Paris", "days": 3}), 2: ("get_weather", {"city": "Rome", "days": 2}), 5: ("search", {"city": "Paris", "days": 3}),
    9: ("search", {"query": "<input type=text>\nParis"}), 10: ("search", {"query": "cheap flights", "hours": "2"}),
    18: ("get_weather", {"city": "Rome", "days": 2}), 21: ("get_weather", {"city": "Paris", "days": 3}), 22: ("get_weather", {"city": "Rome", "days": 2})}
HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "recorded.jsonl"), encoding="utf-8") as recorded:
    for n, line in enumerate(recorded, 1):
        syntax, text = json.loads(line)
        if n in RECORDED_CALLS:
            name, arguments = RECORDED_CALLS[n]
            before, blank, after = text.partition("\n\n")
            add(syntax, f"recorded {n}", ("call", before, name, json.dumps(arguments)), mark(blank), content(after))
        else:
            add(syntax, f"recorded {n}", content(text))

with open(os.path.join(HERE, "answers.jsonl"), "w", encoding="utf-8") as out:
    for row in [TOOLS] + rows:
        out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
