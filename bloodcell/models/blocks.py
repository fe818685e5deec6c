"""A backbone as a list of blocks, from the input to the output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn


@dataclass
class Block:
    """Some successive modules of a backbone; each parameter of a backbone lies in exactly one block.

    Args:
        name: Name of its first module within the backbone.
    """

    name: str
    modules: list[nn.Module] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)


def blocks_of(backbone: nn.Module) -> list[Block]:
    """Cut a backbone into blocks, the lowest first.

    A module with more than half of all parameters is cut into its children, recursively; the pieces are the blocks.
    A module without a kernel (a norm, an activation) belongs to the block below. A parameter outside of every child
    (a class token) belongs to the lowest block.
    """
    half = _size(backbone) / 2
    blocks: list[Block] = []
    for name, module in _pieces("", backbone, half):
        if not blocks or any(parameter.ndim > 1 for parameter in module.parameters()):
            blocks.append(Block(name))
        blocks[-1].modules.append(module)
    taken: set[nn.Parameter] = set()
    for block in blocks:
        inside = (parameter for module in block.modules for parameter in module.parameters())
        block.parameters = [parameter for parameter in dict.fromkeys(inside) if parameter not in taken]
        taken.update(block.parameters)
    blocks[0].parameters += [parameter for parameter in backbone.parameters() if parameter not in taken]
    return blocks


def _pieces(name: str, module: nn.Module, half: float) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a module is cut into, in order, with their dotted names."""
    children = list(module.named_children())
    if not children or _size(module) <= half:
        yield name, module
        return
    for child_name, child in children:
        yield from _pieces(f"{name}.{child_name}".lstrip("."), child, half)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
