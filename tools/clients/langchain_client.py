"""Runs an agent of LangChain with two tools on pumice serve: URL MODEL TOOL-MODEL."""

import sys
from importlib.metadata import version

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_openai import ChatOpenAI

url, model, coder = sys.argv[1:]
used = []


def weather(city: str) -> str:
    """Tells the weather in a city."""
    used.append(("weather", city))
    return f"In {city} it is -3 degrees."


def population(city: str) -> str:
    """Tells how many people live in a city."""
    used.append(("population", city))
    return f"{city} has 717710 inhabitants."


@wrap_model_call
def once(request, handler):
    """Lets the model answer after one round of tools: small ones call them again and again."""
    return handler(request.override(tools=[]) if request.messages[-1].type == "tool" else request)


chat = ChatOpenAI(base_url=url + "/v1", api_key="none", model=coder, temperature=0, max_tokens=200, max_retries=0)
agent = create_agent(chat, [weather, population], middleware=[once])
for question, tool in (("What is the weather in Oslo?", "weather"), ("How many people live in Oslo?", "population")):
    state = agent.invoke({"messages": [{"role": "user", "content": question}]})
    assert (tool, "Oslo") in used, (used, state)
    assert [m.type for m in state["messages"]] == ["human", "ai", "tool", "ai"] and state["messages"][-1].content, state
chunks = [chunk for chunk, _ in agent.stream({"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}, stream_mode="messages")]
assert ("weather", "Paris") in used, (used, chunks)
both = chat.bind_tools([weather, population], tool_choice="required").invoke("Tell me the weather and the population of Oslo.")
assert both.tool_calls and both.tool_calls[0]["args"]["city"], both
print(f"langchain-openai {version('langchain-openai')}, langchain {version('langchain')}: all right")
