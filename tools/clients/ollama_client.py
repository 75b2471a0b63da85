"""Uses ollama with ollama's Python client: URL MODEL CODER, of which the second calls tools. ollama's engine is pumice."""

import json
import math
import sys
import time

import ollama

url, model, coder = sys.argv[1:]
client = ollama.Client(host=url)
question = [{"role": "user", "content": "What is the capital of France?"}]
greedy = {"temperature": 0, "num_predict": 24, "num_ctx": 2048}

assert {m.model for m in client.list().models} == {f"{model}:latest", f"{coder}:latest"}
shown = client.show(model)
assert shown.details.family == "llama" and shown.details.quantization_level == "Q4_1", shown.details

answer = client.chat(model, question, options=greedy)
assert answer.message.content == "The capital of France is Paris." and answer.done_reason == "stop", answer
assert answer.prompt_eval_count > 10 and 5 < answer.eval_count < 24 and answer.eval_duration > 0, answer
pieces = list(client.chat(model, question, options=greedy, stream=True))
assert "".join(p.message.content for p in pieces) == answer.message.content and len(pieces) > 4, pieces
assert pieces[-1].done and not pieces[0].done

conversation = question + [{"role": "assistant", "content": answer.message.content}, {"role": "user", "content": "And of Italy?"}]
assert "Rome" in client.chat(model, conversation, options=greedy).message.content
assert "Arr" not in client.chat(model, [{"role": "system", "content": "Answer in one word."}] + question, options=greedy).message.content

written = client.generate(model, "The capital of France is", raw=True, options=greedy | {"num_predict": 4})
assert "Paris" in written.response and written.done_reason == "length" and written.eval_count == 4, written
stopped = client.generate(model, "The capital of France is", raw=True, options=greedy | {"stop": [" Paris"]})
assert "Paris" not in stopped.response and stopped.done_reason == "stop", stopped
several = {client.chat(model, question, options={"seed": s, "temperature": 1.5, "num_predict": 16}).message.content for s in (1, 2, 3)}
assert len(several) > 1, several

probable = client.chat(model, question, options=greedy, logprobs=True, top_logprobs=3)
assert "".join(t.token for t in probable.logprobs).startswith("The capital"), probable.logprobs
assert all(t.logprob <= 0 and len(t.top_logprobs) == 3 for t in probable.logprobs)

schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "continent": {"enum": ["Europe", "Asia"]}, "capital": {"type": "boolean"}},
          "required": ["city", "continent", "capital"], "additionalProperties": False}
for shaped in (client.chat(model, question, format=schema, options=greedy | {"num_predict": 200}).message.content,
               client.generate(model, "A city as JSON:", format=schema, options=greedy | {"num_predict": 200}).response):
    shaped = json.loads(shaped)
    assert shaped.keys() == {"city", "continent", "capital"} and shaped["continent"] in ("Europe", "Asia") and shaped["capital"] in (True, False), shaped
free = client.chat(model, [{"role": "user", "content": 'Answer with the JSON object {"city": "Paris"} and nothing else.'}], format="json",
                   options=greedy | {"num_predict": 100})
assert free.done_reason == "stop" and isinstance(json.loads(free.message.content), dict), free

vectors = client.embed(model, ["Which rock floats?", "Pumice floats on water.", "The stock market fell."]).embeddings
assert [len(v) for v in vectors] == [576] * 3 and all(abs(math.hypot(*v) - 1) < 1e-3 for v in vectors)

stream = client.chat(model, question, options={"num_predict": 2000, "temperature": 1.5}, stream=True)
for i, _ in enumerate(stream):
    if i == 5:
        break
stream.close()
assert client.chat(model, question, options=greedy).message.content == answer.message.content

(running,) = client.ps().models
assert running.model == f"{model}:latest" and running.size > 50 << 20, running
client.generate(model, keep_alive=0)
for _ in range(100):
    if not client.ps().models:
        break
    time.sleep(0.1)
assert not client.ps().models, "the model is not unloaded"

tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
assert "tools" in client.show(coder).capabilities
weather = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
for stream in False, True:
    answers = client.chat(coder, weather, tools=[tool], options=greedy | {"num_predict": 100}, stream=stream)
    messages = [p.message for p in answers] if stream else [answers.message]
    (call,) = [c for m in messages for c in m.tool_calls or []]
    assert call.function.name == "get_weather" and call.function.arguments == {"city": "Paris"}, call
    assert not any(m.content for m in messages), messages
client.generate(coder, keep_alive=0)

try:
    client.chat("nothing", question)
    raise AssertionError("no error")
except ollama.ResponseError as e:
    assert e.status_code == 404, e
print("ollama's client: all right")
