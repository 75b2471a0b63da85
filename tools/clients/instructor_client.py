"""Uses pumice serve with instructor: URL MODEL TOOL-MODEL."""

import sys
from importlib.metadata import version
from typing import Literal

import instructor
import openai
from pydantic import BaseModel, Field

url, model, coder = sys.argv[1:]


class Leg(BaseModel):
    """One part of a journey."""

    by: Literal["train", "ship", "foot"]
    hours: int = Field(ge=0, le=50)


class Place(BaseModel):
    """Where a journey leads."""

    name: str = Field(min_length=2, max_length=20)
    country: Literal["Norway", "France"]


class Journey(BaseModel):
    """A journey."""

    to: Place
    legs: list[Leg] = Field(min_length=1, max_length=2)


client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
ask = [{"role": "user", "content": "Plan a journey to Oslo by train."}]
for mode, name in ((instructor.Mode.TOOLS, coder), (instructor.Mode.JSON_SCHEMA, model), (instructor.Mode.JSON_SCHEMA, coder)):
    journey = instructor.from_openai(client, mode=mode).create(model=name, response_model=Journey, messages=ask, temperature=0, max_tokens=400, max_retries=0)
    assert isinstance(journey, Journey) and journey.legs[0].by in ("train", "ship", "foot"), journey
print(f"instructor {version('instructor')}: all right")
