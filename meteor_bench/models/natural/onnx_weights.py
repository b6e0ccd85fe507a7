"""Parameters out of an ONNX graph that torch or Paddle exported. It is data: nothing is run or unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.errors import ModelError

__all__ = ["Graph", "read_graph"]


class Graph(NamedTuple):
    """What a file holds.

    Attributes:
        weights: name -> parameter. The exporter keeps the module's name of what a node takes as it is, and gives the
            rest a number.
        inputs: node -> names of what it takes, as torch named its modules: "/encoder/layer.0/mlp/fc1/MatMul".
        kinds: node -> its operation. All three keep the order in which nodes run.
    """

    weights: Mapping[str, Tensor]
    inputs: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, str]

    def taken(self, node: str) -> Tensor:
        """The one parameter that a node takes."""
        (found,) = [self.weights[name] for name in self.inputs[node] if name in self.weights]
        return found

    def in_order(self, until: str) -> list[Tensor]:
        """Parameters in the order in which they are used, before the first node of a kind.

        Paddle's exporter names its own numbers, such as the 6 of a hard swish, "p2o.helper...": they are none.
        """
        found: list[Tensor] = []
        for node, names in self.inputs.items():
            if self.kinds[node] == until:
                break
            found += [self.weights[n] for n in names if n in self.weights and not n.startswith("p2o.helper")]
        return found

    def parameters(self, prefix: str) -> dict[str, Tensor]:
        """Parameters of the module ``prefix`` by their names in it.

        A Linear's matrix [in, out], which the exporter turned around and numbered, has its name from the MatMul that
        takes it, and is turned back.
        """
        named = {name: value for name, value in self.weights.items() if name.startswith(f"{prefix}.")}
        for node in self.inputs:
            module, _, kind = node.removeprefix("/").rpartition("/")
            if kind == "MatMul" and module.startswith(f"{prefix}/") and self._numbered(node):
                named[f"{module.replace('/', '.')}.weight"] = self.taken(node).T.contiguous()
        return {name.removeprefix(f"{prefix}."): value for name, value in named.items()}

    def _numbered(self, node: str) -> bool:
        return any(name in self.weights and name.startswith("onnx::") for name in self.inputs[node])


def read_graph(path: Path) -> Graph:
    """The parameters and the wiring of an ONNX file.

    Raises:
        ModelError: the package that reads it is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ModelError(
            "package onnx, which reads the weights, is not installed; it comes with: make natural"
        ) from error
    graph = onnx.load(path, load_external_data=False).graph
    constants = [(node.output[0], node.attribute[0].t) for node in graph.node if node.op_type == "Constant"]
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    # What is constant has no name of its own with Paddle, whose parameters are such nodes.
    nodes = {node.name or f"{place}": node for place, node in enumerate(graph.node) if node.op_type != "Constant"}
    return Graph(
        weights={name: torch.from_numpy(numpy_helper.to_array(t).copy()) for name, t in stored + constants},
        inputs={name: tuple(node.input) for name, node in nodes.items()},
        kinds={name: node.op_type for name, node in nodes.items()},
    )
