"""Uses every endpoint of pumice serve that OpenAI's Python client has, with SmolLM2: URL MODEL."""

import asyncio
import base64
import struct
import sys

import openai

url, model = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]
greedy = {"model": model, "messages": question, "temperature": 0, "max_tokens": 16}

assert [m.id for m in client.models.list()] == [model]
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


async def together(n):
    many = openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    answers = await asyncio.gather(*[many.chat.completions.create(**greedy) for _ in range(n)])
    assert {a.choices[0].message.content for a in answers} == {choice.message.content}


asyncio.run(together(8))
print(f"openai {openai.__version__}: all right")
