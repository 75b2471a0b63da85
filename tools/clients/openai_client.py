"""Uses every endpoint of pumice serve that OpenAI's Python client has: URL MODEL TOOL-MODEL."""

import asyncio
import base64
import json
import struct
import sys
import time
import urllib.request
from typing import Literal

import openai
from pydantic import BaseModel, Field

url, model, coder = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]
greedy = {"model": model, "messages": question, "temperature": 0, "max_tokens": 16}

assert [m.id for m in client.models.list()] == [model, coder]
assert client.models.retrieve(model).owned_by == "pumice"

whole = client.chat.completions.create(**greedy, logprobs=True, top_logprobs=3)
choice = whole.choices[0]
assert choice.message.content == "The capital of France is Paris." and choice.finish_reason == "stop", choice
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert "".join(t.token for t in choice.logprobs.content).startswith(choice.message.content)
assert all(len(t.top_logprobs) == 3 and t.top_logprobs[0].logprob == t.logprob for t in choice.logprobs.content)

text, usage, roles = "", None, 0
for chunk in client.chat.completions.create(**greedy, stream=True, stream_options={"include_usage": True}):
    for c in chunk.choices:
        text += c.delta.content or ""
        roles += c.delta.role == "assistant"
    assert usage is None, "something follows the usage"
    usage = chunk.usage
assert text == choice.message.content and roles == 1, text
assert usage.completion_tokens == whole.usage.completion_tokens
assert usage.prompt_tokens_details.cached_tokens > 0, "the prompt is not in the cache"
for chunk in client.chat.completions.create(**greedy, stream=True):
    assert len(chunk.choices) == 1 and chunk.usage is None, "usage that nobody asked for"

several = client.chat.completions.create(model=model, messages=question, n=3, seed=1, temperature=1.5, max_tokens=8)
assert sorted(c.index for c in several.choices) == [0, 1, 2] and len({c.message.content for c in several.choices}) > 1

stopped = client.chat.completions.create(**greedy, stop=[" France", "never"])
assert stopped.choices[0].message.content == "The capital of" and stopped.choices[0].finish_reason == "stop", stopped
biased = client.chat.completions.create(**greedy, logit_bias={"504": -100})  # "The"
assert not biased.choices[0].message.content.startswith("The"), biased

scored = client.completions.create(model=model, prompt=[[504, 3575, 282, 4649, 314], [504, 3575]], max_tokens=1, temperature=0, echo=True, logprobs=1)
first = scored.choices[0].logprobs
assert scored.choices[0].text == "The capital of France is Paris" and first.token_logprobs[0] is None and len(first.token_logprobs) == 6, scored
assert all(x < 0 for x in first.token_logprobs[1:]) and first.text_offset[1] == 3

vectors = client.embeddings.create(model=model, input=["one", "two"])
raw = client.embeddings.create(model=model, input=["one", "two"], encoding_format="base64")
floats = struct.unpack(f"<{len(vectors.data[0].embedding)}f", base64.b64decode(raw.data[0].embedding))
assert all(abs(a - b) < 1e-6 for a, b in zip(floats, vectors.data[0].embedding))

for bad, kind in (({"messages": [{"role": "user", "content": "x " * 9000}]}, "exceed_context_size_error"),
                  ({"messages": []}, "invalid_request_error"), ({"messages": question, "temperature": -1}, "invalid_request_error")):
    try:
        client.chat.completions.create(model=model, **bad)
        raise AssertionError(f"{kind}: no error")
    except openai.BadRequestError as e:
        assert e.status_code == 400 and e.body["type"] == kind, e.body

stream = client.chat.completions.create(model=model, messages=question, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
for i, _ in enumerate(stream):
    if i == 5:
        stream.close()
        break


for _ in range(100):  # the server notices, and works on nothing
    with urllib.request.urlopen(url + "/metrics") as metrics:
        busy = [line for line in metrics.read().decode().splitlines() if line.startswith("llamacpp:requests_processing")]
    if all(line.endswith(" 0") for line in busy):
        break
    time.sleep(0.1)
assert busy and all(line.endswith(" 0") for line in busy), busy


class City(BaseModel):
    """A city."""

    name: Literal["Paris", "Oslo"]
    millions: int = Field(ge=0, le=40)
    rivers: list[Literal["Seine", "Akerselva"]] = Field(max_length=2)


class Weather(BaseModel):
    """Tells the weather in a city."""

    city: str = Field(max_length=20)
    unit: Literal["celsius", "fahrenheit"]


describe = [{"role": "user", "content": "Describe Paris as JSON."}]
parsed = client.chat.completions.parse(model=model, messages=describe, response_format=City, temperature=0, max_tokens=300)
assert isinstance(parsed.choices[0].message.parsed, City), parsed
free = client.chat.completions.create(model=model, messages=describe, response_format={"type": "json_object"}, temperature=0, max_tokens=40)
assert free.choices[0].message.content.startswith("{")
try:
    client.chat.completions.create(model=model, messages=describe, response_format={"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "array", "contains": {"type": "integer"}}}})
    raise AssertionError("a schema that can't be honoured is")
except openai.BadRequestError as e:
    assert "contains" in e.body["message"] and e.body["param"] == "response_format", e.body

ask = [{"role": "user", "content": "What is the weather in Oslo in celsius?"}]
tools = [openai.pydantic_function_tool(Weather, name="weather"),
         {"type": "function", "function": {"name": "clock", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}}}}]
named = {"type": "function", "function": {"name": "weather"}}
called = client.chat.completions.parse(model=coder, messages=ask, tools=tools[:1], tool_choice=named, temperature=0, max_tokens=200)
call = called.choices[0].message.tool_calls[0]
assert called.choices[0].finish_reason == "tool_calls" and called.choices[0].message.content is None, called
assert call.function.name == "weather" and isinstance(call.function.parsed_arguments, Weather), call
auto = client.chat.completions.create(model=coder, messages=ask, tools=tools, temperature=0, max_tokens=200).choices[0]
assert auto.finish_reason == "tool_calls" and json.loads(auto.message.tool_calls[0].function.arguments)["city"] == "Oslo", auto
none = client.chat.completions.create(model=coder, messages=ask, tools=tools, tool_choice="none", temperature=0, max_tokens=30).choices[0]
assert none.message.tool_calls is None and none.message.content, none
required = client.chat.completions.create(model=coder, messages=ask, tools=tools, tool_choice="required", parallel_tool_calls=False, temperature=0,
                                          max_tokens=200).choices[0]
assert len(required.message.tool_calls) == 1, required
with client.chat.completions.stream(model=coder, messages=ask, tools=tools[:1], tool_choice=named, temperature=0, max_tokens=200) as events:
    kinds = {event.type for event in events}
    final = events.get_final_completion().choices[0]
assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds, kinds
assert final.message.tool_calls[0].function.arguments == call.function.arguments and final.finish_reason == "tool_calls", final
history = ask + [called.choices[0].message.model_dump(exclude_none=True, include={"role", "tool_calls"}), {"role": "tool", "tool_call_id": call.id, "content": "-3"}]
after = client.chat.completions.create(model=coder, messages=history, tools=tools, tool_choice="none", temperature=0, max_tokens=60).choices[0]
assert "-3" in after.message.content, after

response = client.responses.create(model=model, input="What is the capital of France?", temperature=0, max_output_tokens=16)
assert response.output_text == choice.message.content and response.status == "completed", response
assert response.usage.input_tokens == whole.usage.prompt_tokens, response.usage
item = client.responses.parse(model=model, input="Describe Paris as JSON.", text_format=City, temperature=0, max_output_tokens=300)
assert isinstance(item.output_parsed, City), item
flat = [openai.pydantic_function_tool(Weather, name="weather")["function"] | {"type": "function"}, {"type": "web_search"}]
with client.responses.stream(model=coder, input=ask, tools=flat, tool_choice={"type": "function", "name": "weather"}, temperature=0) as events:
    order = [event.type for event in events]
    final = events.get_final_response()
assert order[0] == "response.created" and order[-1] == "response.completed" and "response.function_call_arguments.done" in order, order
item = final.output[0]
assert item.type == "function_call" and json.loads(item.arguments)["city"], final
items = ask + [item.model_dump(include={"type", "call_id", "name", "arguments"}),
               {"type": "function_call_output", "call_id": item.call_id, "output": [{"type": "input_text", "text": "-3"}]}]
after = client.responses.create(model=coder, instructions="Be short.", input=items, tools=flat, tool_choice="none", temperature=0,
                                max_output_tokens=60)
assert "-3" in after.output_text, after
text = ""
for event in client.responses.create(model=model, input=question, temperature=0, max_output_tokens=16, stream=True):
    if event.type == "response.output_text.delta":
        text += event.delta
assert text == choice.message.content, text
try:
    client.responses.create(model=model, input="x", previous_response_id="resp_1")
    raise AssertionError("a response that nobody keeps is found")
except openai.BadRequestError as e:
    assert e.body["param"] == "previous_response_id", e.body

infilled = client.completions.create(model=coder, prompt="def add(a, b):\n    return ", suffix="\n\nprint(add(1, 2))\n", max_tokens=16, temperature=0)
assert infilled.choices[0].text.strip().startswith("a + b"), infilled
try:
    client.completions.create(model=model, prompt="a", suffix="b")
    raise AssertionError("a model without such tokens fills in the middle")
except openai.BadRequestError as e:
    assert e.body["param"] == "suffix", e.body


async def together(n):
    many = openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    answers = await asyncio.gather(*[many.chat.completions.create(**greedy) for _ in range(n)])
    assert {a.choices[0].message.content for a in answers} == {choice.message.content}


asyncio.run(together(8))
print(f"openai {openai.__version__}: all right")
