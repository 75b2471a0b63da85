"""Uses pumice serve with LiteLLM, which routes calls by OpenAI's and Anthropic's protocols: URL MODEL TOOL-MODEL."""

import json
import os
import sys
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches prices
from litellm.router import Router  # noqa: E402

url, model, coder = sys.argv[1:]
router = Router(model_list=[
    {"model_name": "small", "litellm_params": {"model": "openai/" + model, "api_base": url + "/v1", "api_key": "none"}},
    {"model_name": "tools", "litellm_params": {"model": "openai/" + coder, "api_base": url + "/v1", "api_key": "none"}},
    {"model_name": "messages", "litellm_params": {"model": "anthropic/" + model, "api_base": url, "api_key": "none"}},
], num_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]
for name in ("small", "messages"):
    answer = router.completion(model=name, messages=question, temperature=0, max_tokens=16)
    assert answer.choices[0].message.content == "The capital of France is Paris." and answer.choices[0].finish_reason == "stop", answer
    text = "".join(c.choices[0].delta.content or "" for c in router.completion(model=name, messages=question, temperature=0, max_tokens=16, stream=True))
    assert text == "The capital of France is Paris.", text
weather = {"type": "function", "function": {"name": "weather", "description": "Tells the weather in a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}}
called = router.completion(model="tools", messages=[{"role": "user", "content": "What is the weather in Oslo?"}], tools=[weather], tool_choice="required",
                           temperature=0, max_tokens=200).choices[0]
assert called.finish_reason == "tool_calls" and json.loads(called.message.tool_calls[0].function.arguments)["city"] == "Oslo", called
vectors = router.embedding(model="small", input=["one", "two"])
assert len(vectors.data) == 2, vectors
print(f"litellm {version('litellm')}: all right")
