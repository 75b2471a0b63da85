#!/usr/bin/env python3
"""Renders templates/*.jinja and the expressions below with jinja2, as transformers does, into renders.jsonl.

    python3 make_renders.py        # jinja2 3.1.6, Python 3.11

A row has name (a file in templates/) or source, the variables, and the text or raised (the template's own refusal) or
failed (an error of jinja2). qwen3.jinja and smollm2.jinja are the templates of those models (Apache-2.0); the others were
written for these tests in the style of published ones.
"""
import datetime
import json
import os

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 6, 15, 4, 5)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("inner"), [], [], body).set_lineno(line)

    def inner(self, caller):
        return caller()


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: NOW.strftime(f)


def m(*pairs):
    return [{"role": r, "content": c} for r, c in pairs]


CONVERSATIONS = [
    m(("user", "Hi")),
    m(("system", " Be brief. "), ("user", "What's 2+2?"), ("assistant", " 4\n"), ("user", "  你好 <b> & \"q\"\n\n")),
    m(("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nHello"), ("user", "<tool_response>x</tool_response>")),
    m(("user", "say <|im_end|>\n<|im_start|>system"), ("assistant", "no </s> <|eot_id|>"), ("user", "")),
    m(("user", "a"), ("assistant", "b")),
    m(("assistant", "b"), ("user", "a")),
    m(("user", "x"), ("user", "y")),
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "it's <é>",
                                          "parameters": {"type": "object", "properties": {"b": {"n": 1.5}, "a": [True, None, []]}}}}]
CALL = m(("user", "q")) + [
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": "ü"}}}]},
    {"role": "tool", "content": "42"}]

EXPRESSIONS = [
    # white space
    "a\n  {% if true %}\n  b\n  {% endif %}\n  {{ 1 }}\nc\n",
    "{# c #}\nx {#- d -#} y\n  {%- for i in [1,2] -%}\n {{ i }} \n{%- endfor %}\nend\n\n",
    "  {%+ if true %}x{% endif +%}\ny",
    "{% if true %} {% if true %}\n  x{% endif %}\n{% endif %}z",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n",
    "  {# c #}  \n  {#- c #}\n {{- 1 -}} \n x",
    "{% raw %}\n {{ x }} {% if %}{% endraw %}\n{{ '{{' }}",
    "{%- raw -%}  {{ x }}  {%- endraw -%}  y",
    "x{% set a = 1 %}\n\n{% set b = 2 %}\n{{ a }}{{ b }}",
    "\t{% for i in range(2) %}\n\t{{ i }}\n\t{% endfor %}\n",
    # slices, indexes
    "{{ messages[::-1][0].role }}{{ messages[1:][0]['role'] }}{{ 'abcdef'[1:-1] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[::-1] }}{{ 'héé'[1] }}{{ 'abc'[-1] }}",
    "{{ [1,2,3,4][-3:-1] }}{{ [1,2,3,4][5:] }}{{ [1,2,3,4][3:0:-1] }}{{ [1,2,3,4][-9:2] }}{{ (1,2,3)[1:] }}{{ [1,2,3][-10::-1] }}{{ 'abc'[5] is defined }}",
    # namespaces, scopes
    "{% set ns = namespace(a=1, b=none) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b is none }}",
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}",
    "{% set x %}hello {{ 1 }}{% endset %}{{ x }}{% set a, b = 1, 2 %}{{ a + b }}{% set y | upper %}abc{% endset %}{{ y }}",
    "{% with a=1, b=2 %}{{ a + b }}{% endwith %}{{ a is defined }}{% filter upper %}x{{ 1 }}y{% endfilter %}",
    # loops
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{% if loop.previtem is defined %}{{ loop.previtem.role }}{% endif %}{% if loop.nextitem is defined %}{{ loop.nextitem.role }}{% endif %}{{ loop.cycle('a','b') }};{% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.content|trim }}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}",
    "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ range(5, 0, -2)|list }}",
    "{% for k, v in {'x':1,'a':2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'x':1,'a':2}|items %}{{k}}{{v}}{% endfor %}{% for k in {'q': 1} %}{{ k }}{% endfor %}{{ {'b':1,'a':2}|dictsort }}",
    # strings
    "{{ ' a b '.strip() }}|{{ 'a,b,c'.split(',')[-1] }}|{{ 'aXb'.upper().lower().title() }}|{{ 'abc'.startswith('ab') }}|{{ 'x'.replace('x','yy') }}|{{ '--a'.lstrip('-') }}|{{ 'ab\n'.rstrip('\n') }}",
    "{{ 'a b  c '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a b c '.split(none, 1) }}{{ ''.split(',') }}{{ ''.split() }}{{ 'a\nb\r\nc\n'.splitlines() }}",
    "{{ 'abcabc'.find('c') }}{{ 'abc'.find('z') }}{{ 'abcabc'.rfind('b') }}{{ 'abcabc'.count('bc') }}{{ '-'.join(['a','b']) }}{{ 'x{}y{}'.format(1,'b') }}{{ '{1}{0}{k}{{}}'.format(1,2,k=3) }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }}{{ 'ab' * 2 }}{{ 3 * 'x' }}{{ 'a%sb%d' % ('x', 3) }}{{ '%s-%05.1f' | format('a', 3.14159) }}{{ 'con' 'cat' }}",
    "{{ \"a\\n\\tb\\\"\\'\\\\ \\u00e9\\x41\\101\\q\" }}",
    "{{ 'hello world-foo it\\'s'|title }}{{ 'HELLO'|capitalize }}{{ 'x'.isdigit() }}{{ '12'.isdigit() }}{{ 'Ab'.isupper() }}{{ 'abc'.startswith(('x','a')) }}{{ 'a-b'.partition('-') }}",
    "{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'xxaxx'|trim('x') }}|{{ 'abab'|replace('a','c',1) }}|{{ '<a href=\"x\">&\\''|e }}|{{ 'a b c'|wordcount }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.txt'.removesuffix('.txt') }}{{ 'abc'|first }}{{ 'abc'|last }}{{ 'abc'|list }}{{ 'abc'|reverse }}",
    # numbers
    "{{ 1_000 }}{{ 0x10 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 123456789.0 }} {{ 7//2 }} {{ 7/2 }} {{ 2**10 }} {{ -7 % 3 }} {{ -7 // 2 }} {{ 7.5 // 2 }} {{ 2**-1 }} {{ 1 - -1 }} {{ -2|abs }}",
    "{{ '3'|int + 1 }}{{ 'x'|int }}{{ 'x'|int(7) }}{{ '2.5'|float }}{{ 2.567|round(2) }}{{ 2.5|round }}{{ 2.4|round(0,'ceil') }}{{ 3.7|int }}{{ [1,2,3]|sum }}{{ [3,1,2]|max }}{{ [3,1,2]|min }}",
    "{{ 1 == 1.0 }}{{ 1 < 2 < 3 }}{{ true + 1 }}{{ 1 == true }}{{ 'a' < 'b' }}{{ [1,2] < [1,3] }}{{ not 1 }}{{ 1 != 2 }}{{ 3 >= 3 }}",
    "{{ 2 + 3 * 4 - 1 }}{{ (2 + 3) * 4 }}{{ 10 - 2 - 3 }}{{ 'a' ~ (1 + 2) }}{{ -1|abs }}{{ 2 ** 3 ** 2 }}",
    # logic
    "{{ 'a' if false }}{{ 'x' if 1 > 2 else 'y' }}{{ not true or 1 in [1,2] and 'b' not in 'abc' }}{{ 0 or 'd' }}{{ 1 and 'e' }}{{ 'k' in {'k': 1} }}{{ none or [] }}",
    "{{ foo }}{{ messages[0].nope }}{% if foo is defined %}a{% else %}b{% endif %}{% if messages[0].tool_calls %}x{% endif %}{{ foo | default('dd') }}{{ '' | d('e', true) }}{{ none|default('n') }}{{ 'x' in foo }}",
    "{{ foo.bar }}", "{{ foo + 1 }}", "{{ 'a' + 1 }}", "{{ foo() }}", "{{ 1 // 0 }}", "{{ messages.append(1) }}",
    "{{ 'a' ~ 1 + 2 }}", "{{ -'3'|int }}",
    "{{ raise_exception('no: ' ~ messages|length) }}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}",
    "{{ 1 | nofilter }}", "{{ 1 is notest }}", "{% nope %}", "{{ ", "{% if x %}", "{% endif %}", "{{ 'a }}", "{{ (1 }}", "{# x", "{{ 1 2 }}",
    # lists and mappings
    "{{ messages | selectattr('role','equalto','user') | map(attribute='content') | join('|') }}{{ messages|length }}{{ (messages|last).role }}{{ messages | rejectattr('role','in',['user']) | list | length }}",
    "{{ messages[0].get('role') }}{{ messages[0].get('zz', 'def') }}{{ messages[0]['zz'] is defined }}{{ messages[-1].content }}{{ messages[0].keys()|list }}{{ 'role' in messages[0] }}",
    "{{ [1,'a',none,true,\"it's\",'\\n\\\\é'] }}{{ {'a':1.0,'b':[(1,),()]} }}{{ none }}{{ [3,1,2]|sort }}{{ ['b','A','c']|sort }}{{ [1,2,1]|unique|list }}{{ [1,2,3]|reverse|list }}{{ [1,2]+[3] }}{{ [0]*2 }}",
    "{{ [1,2,3,4]|select('even')|list }}{{ [0,1]|reject|list }}{{ ['a','b']|map('upper')|list }}{{ [{'a':{'b':1}}]|map(attribute='a.b')|list }}{{ ['x','y']|join(', ') }}{{ [1,2]|first }}{{ dict(a=1)|length }}",
    "{{ {'b':1,'a':[1.5,none,true,'é<\\n\"']} | tojson }}|{{ {'a':{'c':[1,2]},'z':[],'y':{}} | tojson(indent=4) }}|{{ [1,2]|tojson(separators=(',',':')) }}|{{ {'b':1,'a':2}|tojson(sort_keys=true) }}|{{ 'é😀'|tojson(ensure_ascii=true) }}",
    "{{ messages == messages[:] }}{{ {'a':1,'b':2} == {'b':2,'a':1} }}{{ [1] == (1,) }}{{ {1:'x'}[1] }}{{ {'a': 1}.a }}{{ {'items': 5}['items'] }}{{ (1,2)|length }}",
    # tests
    "{{ 1 is number }}{{ 'a' is string }}{{ [] is iterable }}{{ {} is mapping }}{{ messages is sequence }}{{ 2 is even }}{{ 3 is divisibleby 3 }}{{ none is none }}{{ true is boolean }}{{ 1 is not string }}{{ 1 is sameas 1 }}{{ 'a' is in 'abc' }}{{ 1.0 is float }}{{ 1 is integer }}{{ true is true }}{{ 1 is true }}{{ 2 is odd }}{{ 'A' is upper }}{{ 1 is eq 1 }}{{ foo is undefined }}{{ true is integer }}{{ 3 is ge(2) and 1 is lt 2 }}",
    # macros
    "{% macro f(x, y='d') %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f(2, y=3) }}{{ f('a')|upper }}{% set z = f %}{{ z(5) }}{% macro g(n) %}{{ n }}{% if n > 0 %}{{ g(n - 1) }}{% endif %}{% endmacro %}{{ g(3) }}{{ f() }}",
    "{{ strftime_now('%d %b %Y %H:%M %A %-d %y%m %j %%') }}",
]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    rows = []

    def row(template, **kw):
        variables = {k: v for k, v in kw.items() if k not in ("name", "source")}
        kw = {k: v for k, v in kw.items() if k in ("name", "source")}
        kw["vars"] = variables
        try:
            kw["text"] = env.from_string(template).render(**variables)
        except Raised as e:
            kw["raised"] = str(e)
        except Exception as e:
            kw["failed"] = f"{type(e).__name__}: {e}"
        rows.append(kw)

    folder = os.path.join(here, "templates")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as fh:
            source = fh.read()
        common = dict(name=name, bos_token="<s>", eos_token="</s>")
        for conv in CONVERSATIONS:
            for add in (True, False):
                row(source, messages=conv, add_generation_prompt=add, **common)
        row(source, messages=CONVERSATIONS[1], add_generation_prompt=True, enable_thinking=False, **common)
        row(source, messages=CONVERSATIONS[1], add_generation_prompt=True, tools=TOOLS, **common)
        row(source, messages=CALL, add_generation_prompt=True, tools=TOOLS, **common)
    for source in EXPRESSIONS:
        row(source, source=source, messages=CONVERSATIONS[1])
    with open(os.path.join(here, "renders.jsonl"), "w", encoding="utf-8") as fh:
        for r in rows:
            fh.write(json.dumps(r, ensure_ascii=False) + "\n")


main()
