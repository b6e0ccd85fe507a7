"""Parameters out of an ONNX graph that torch exported. The graph is data: it is not run, and nothing is unpickled."""

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
    """

    weights: Mapping[str, Tensor]
    inputs: Mapping[str, tuple[str, ...]]

    def taken(self, node: str) -> Tensor:
        """The one parameter that a node takes."""
        (found,) = [self.weights[name] for name in self.inputs[node] if name in self.weights]
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
    return Graph(
        weights={t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer},
        inputs={node.name: tuple(node.input) for node in graph.node},
    )
