#!/usr/bin/env python3
"""Writes recorded.jsonl: answers of SmolLM2-135M-Instruct (Q4_1), sampled with tools in the prompt, and their syntax.

    tools/model.sh && go build -o /tmp/pumice ./cmd/pumice
    python3 chat/toolcall/testdata/record.py /tmp/pumice

The model was not trained on tools: an example in the prompt shows it the syntax, and it often gets it wrong.
"""
import json
import os
import subprocess
import sys

TOOLS = """get_weather(city: string, days: integer)
search(query: string, tags: array, exact: boolean)
now()
write_file(path: string, text: string)"""
EXAMPLES = {
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>',
    "qwen3-coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
    "llama3": '{"name": "get_weather", "parameters": {"city": "Rome", "days": 2}}',
    "pythonic": "[get_weather(city='Rome', days=2)]",
    "json": '```json\n[{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}]\n```',
}
QUESTIONS = ["What will the weather be in Paris for 3 days?", "Search for 'cheap flights' and then tell me the time.",
             'Write a file a.py that prints "hello".', "What is 2+2?"]

rows = []
for syntax, example in EXAMPLES.items():
    for seed, question in enumerate(2 * QUESTIONS):
        turns = [("system", f"Call functions to answer. The functions are:\n{TOOLS}"), ("user", "Weather in Rome for two days?"),
                 ("assistant", example), ("user", question)]
        prompt = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
        out = subprocess.run([sys.argv[1], "generate", "smollm2", "--json", "-n", "90", "--temp", "0.6", "--seed", str(seed + 1), "-p", prompt],
                             check=True, capture_output=True, text=True).stdout
        rows.append([syntax, json.loads(out)["text"]])
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded.jsonl"), "w", encoding="utf-8") as out:
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
