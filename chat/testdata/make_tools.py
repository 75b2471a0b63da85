#!/usr/bin/env python3
"""Renders conversations with tools as transformers' apply_chat_template does, into tools.jsonl.

    python3 make_tools.py          # transformers 5.24.0, jinja2 3.1.6, Python 3.11

The first line holds conversations by name and tools, as a client of OpenAI's API writes them. A row has template (a file
in templates/), the conversation's name, whether tools were given, the variables, and the text. FORMS says how a caller of transformers writes tool calls for each template: as its author shows them.
"""
import copy
import json
import os

from transformers.utils.chat_template_utils import render_jinja_template

# template: (arguments are text, empty content beside calls is none)
FORMS = {"qwen3": (False, False), "llama3-tools": (False, False), "hermes": (False, False), "coder": (False, False),
         "deepseek": (True, True), "mistral-tools": (False, False), "pythonic": (False, False)}

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Wetter für <city> & \"more\"",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "where"}, "days": {"type": "integer", "enum": [1, 3]}}, "required": ["city"]}}}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, n):
    return {"id": f"abcdefgh{n}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content, n, name=None):  # OpenAI's API has no name
    return {"role": "tool", "tool_call_id": f"abcdefgh{n}", **({"name": name} if name else {}), "content": content}


ASK = {"role": "user", "content": "Weather in Zürich?"}
ONE = [ASK, {"role": "assistant", "content": None, "tool_calls": [call("get_weather", '{"city": "Zürich", "days": 3}', 1)]},
       result('{"sky": "<b>clear</b>"}', 1, "get_weather")]
CONVERSATIONS = {
    "ask": [ASK],
    "one call": ONE,
    "then an answer": ONE + [{"role": "assistant", "content": "It is clear."}, {"role": "user", "content": "And now?"}],
    "no arguments": [ASK, {"role": "assistant", "content": "", "tool_calls": [call("now", "{}", 2)]}, result("12:00", 2, "now")],
    "reasoning": [ASK, {"role": "assistant", "content": "", "reasoning_content": "They ask.\n\nI look.",
                        "tool_calls": [call("get_weather", '{"days":1,"city":"a \\"b\\" </tool_call>\\n\\u00e9"}', 3)]},
                  result("rain", 3, "get_weather")],
    "two calls": [ASK, {"role": "assistant", "content": "", "tool_calls": [
        call("get_weather", '{"city": "x", "o": {"b": [1.5, null, true], "a": {}}}', 4), call("now", "{}", 5)]},
        result("r4", 4), result("r5", 5)],
    "content and call": [ASK, {"role": "assistant", "content": "I look.", "tool_calls": [call("now", "{}", 6)]}, result("12:00", 6, "now")],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": " here?"}]}],
}


def form(template, messages):
    """What a caller of transformers gives."""
    text, none = FORMS[template]
    messages = copy.deepcopy(messages)
    names = {c["id"]: c["function"]["name"] for m in messages for c in m.get("tool_calls", [])}
    for m in messages:
        if m["role"] == "tool":
            m.setdefault("name", names[m["tool_call_id"]])
        for c in m.get("tool_calls", []):
            if not text:
                c["function"]["arguments"] = json.loads(c["function"]["arguments"])
            if none and not m["content"]:
                m["content"] = None
            elif not none and m["content"] is None:
                m["content"] = ""
        if isinstance(m["content"], list) and template != "mistral-tools":  # the others take text alone
            m["content"] = "\n".join(p["text"] for p in m["content"])
    return messages


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "tools.jsonl"), "w", encoding="utf-8") as out:
        out.write(json.dumps(dict(conversations=CONVERSATIONS, tools=[WEATHER, NOW]), ensure_ascii=False) + "\n")
        for template in FORMS:
            with open(os.path.join(here, "templates", template + ".jinja"), encoding="utf-8", newline="") as fh:
                source = fh.read()
            for name, messages in CONVERSATIONS.items():
                if template == "llama3-tools" and name == "two calls" or template == "deepseek" and name == "content and call":
                    continue  # the template has no place for these
                for tools in (None, [WEATHER, NOW]):
                    variables = {"date_string": "26 Jul 2024"}
                    if name in ("ask", "reasoning") and tools:
                        variables["enable_thinking"] = False
                    text = render_jinja_template([form(template, messages)], tools=tools, chat_template=source,
                                                 add_generation_prompt=True, bos_token="<s>", eos_token="</s>", **variables)[0][0]
                    row = dict(template=template, name=name, tools=tools is not None, variables=variables, text=text)
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")


main()
