#!/usr/bin/env python3
"""Writes state_dict.pkl, the data.pkl of a state dict, with CPython's own pickler in the protocol of torch.save.

Classes with torch's names stand in for torch; nothing but their names is pickled. Made with CPython 3.11.7.
    python3 checkpoint/testdata/make_state_dict.py
"""
import collections
import pathlib
import pickle
import sys
import types


class Storage:
    def __init__(self, kind, key, numel):
        self.id = ("storage", kind, key, "cpu", numel)


class Tensor:
    def __init__(self, *view):
        self.view = view  # storage, offset, size, stride

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (*self.view, False, collections.OrderedDict())


class Parameter(Tensor):
    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_parameter, (Tensor(*self.view), True, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def stand_in(module, name, value):
    value.__module__, value.__name__, value.__qualname__ = module, name, name
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, value)
    return value


half = stand_in("torch", "HalfStorage", type("HalfStorage", (), {}))
single = stand_in("torch", "FloatStorage", type("FloatStorage", (), {}))
for function in "_rebuild_tensor_v2", "_rebuild_parameter":
    stand_in("torch._utils", function, lambda *args: None)

shared = Storage(single, "0", 24)
state = collections.OrderedDict()
state["embed.weight"] = Parameter(shared, 0, (4, 6), (6, 1))
state["head.weight"] = Tensor(shared, 0, (6, 4), (1, 6))
state["größe"] = Tensor(Storage(half, "1", 300), 299, (), ())
state["norm"] = Tensor(Storage(half, "1", 300), 256, (3,), (1,))
state["far"] = Tensor(Storage(half, "2", 70000), 65536, (2, 2), (2, 1))
state._metadata = collections.OrderedDict({"": {"version": 1}, "norm": {"version": 2 ** 40, "eps": 1e-5, "none": None, "list": [True, -1, -(2 ** 35)], "raw": "x"}})

with open(pathlib.Path(__file__).with_name("state_dict.pkl"), "wb") as f:
    Pickler(f, 2).dump(state)
