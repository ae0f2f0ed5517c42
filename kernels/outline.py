"""A model's outline: its modules' names, sizes and flags, without weights and without its class.

Adapters are checked and packed against module names and shapes alone. An outline, kept as JSON beside
packed weights, gives these without importing transformers' model classes, which takes several seconds.
Left out: running it; an outline has no forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Json = dict[str, Any]
PLAIN = (bool, int, float, str, type(None))


class Outline(nn.Module):
    """A module of unknown class: children, shapes of its own parameters, and plain attributes."""


def describe(module: nn.Module) -> Json:
    """The outline of a module and of all below it, as JSON."""
    if isinstance(module, nn.Linear):
        return {"linear": [module.in_features, module.out_features]}
    if isinstance(module, nn.ModuleList):
        return {"list": [describe(child) for child in module]}
    attributes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name != "training"
    }
    return {
        "attributes": attributes,
        "parameters": {name: list(p.shape) for name, p in module.named_parameters(recurse=False)},
        "configured": hasattr(module, "config"),
        "children": {
            name: None if child is None else describe(child)
            for name, child in module._modules.items()
        },
    }


def build(described: Json, config: Any) -> nn.Module:
    """Modules on the meta device; those that had a config get `config`."""
    if size := described.get("linear"):
        return nn.Linear(*size, bias=False, device="meta")
    if (children := described.get("list")) is not None:
        return nn.ModuleList(build(child, config) for child in children)
    outline = Outline()
    for name, value in described["attributes"].items():
        setattr(outline, name, value)
    for name, shape in described["parameters"].items():
        empty = torch.empty(shape, device="meta")
        outline.register_parameter(name, nn.Parameter(empty, requires_grad=False))
    if described["configured"]:
        outline.config = config
    for name, child in described["children"].items():
        outline.add_module(name, None if child is None else build(child, config))
    return outline
