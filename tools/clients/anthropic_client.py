"""Uses pumice serve with Anthropic's Python client: URL MODEL TOOL-MODEL."""

import sys

import anthropic

url, model, coder = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]
exact = {"temperature": 0}  # which this version of the client has no argument for
greedy = {"model": model, "messages": question, "extra_body": exact, "max_tokens": 16}

whole = client.messages.create(**greedy)
assert whole.content[0].text == "The capital of France is Paris." and whole.stop_reason == "end_turn", whole
assert client.messages.count_tokens(model=model, messages=question).input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
with client.messages.stream(**greedy) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == whole.content[0].text and final.stop_reason == "end_turn" and final.usage.output_tokens == whole.usage.output_tokens, final
short = client.messages.create(**greedy | {"max_tokens": 3})
assert short.stop_reason == "max_tokens", short
stopped = client.messages.create(**greedy, stop_sequences=[" France"])
assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == " France" and stopped.content[0].text == "The capital of", stopped
told = client.messages.create(**greedy | {"system": [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "Be short."}]})
assert told.usage.input_tokens + told.usage.cache_read_input_tokens == client.messages.count_tokens(model=model, messages=question, system="Be short.").input_tokens

weather = {"name": "weather", "description": "Tells the weather in a city.", "strict": True, "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"], "additionalProperties": False}}
ask = [{"role": "user", "content": "What is the weather in Oslo in celsius?"}]
tools = {"model": coder, "tools": [weather], "extra_body": exact, "max_tokens": 200}
for choice in ({"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "weather"}):
    called = client.messages.create(**tools, messages=ask, tool_choice=choice)
    call = called.content[-1]
    assert called.stop_reason == "tool_use" and call.type == "tool_use" and call.input["city"] == "Oslo", called
none = client.messages.create(**tools | {"max_tokens": 20}, messages=ask, tool_choice={"type": "none"})
assert none.content[0].type == "text", none
with client.messages.stream(**tools, messages=ask, tool_choice={"type": "any"}) as stream:
    kinds = {event.type for event in stream}
    final = stream.get_final_message()
assert {"message_start", "content_block_start", "input_json", "content_block_stop", "message_delta", "message_stop"} <= kinds, kinds
assert final.content[-1].input == call.input and final.stop_reason == "tool_use", final
history = ask + [{"role": "assistant", "content": [{"type": "thinking", "thinking": "I need the weather.", "signature": ""}, call.model_dump()]},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "-3"}]}]
after = client.messages.create(**tools, messages=history, tool_choice={"type": "none"})
assert "-3" in after.content[0].text, after

for bad in ({"messages": []}, {"messages": question, "tool_choice": {"type": "any"}, "tools": [
        {"name": "f", "input_schema": {"type": "object", "properties": {"x": {"contains": {}}}}}]}):
    try:
        client.messages.create(model=coder, max_tokens=5, **bad)
        raise AssertionError("no error")
    except anthropic.BadRequestError as e:
        assert e.body["type"] == "error" and e.body["error"]["type"] == "invalid_request_error", e.body
print(f"anthropic {anthropic.__version__}: all right")
