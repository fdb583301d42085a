"""A Keras network in PyTorch, layer for layer, with its weights: for Table 4.2 (one network across frameworks) and as a peer to time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


class TorchNetwork:
    """The layers of a Keras classifier that ends in softmax, in PyTorch, float32; its scores before the softmax.

    `training`: batch normalisation by the batch's own statistics, its gamma and beta parameters too; else by the stored ones, all fixed.

    Attributes:
        model: holds the parameters. names: path of a Keras variable -> its parameter's name and the axes that turn it back.
    """

    def __init__(self, network: keras.Model, layer: str, training: bool = False) -> None:
        import torch

        self.torch, self.layer, self.training = torch, layer, training
        self.model = torch.nn.Module()
        self.names: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.nodes = {node for nodes in network._nodes_by_depth.values() for node in nodes}
        self.plan = [self._translate(one) for one in network.layers]
        self.output = network.layers[-1].name

    def explain(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities `(n, classes)` and Grad-CAM maps `(n, h, w)` of the predicted classes at `layer`; images `(n, size, size, 3)`."""
        torch = self.torch
        x = torch.from_numpy(np.asarray(images, "float32")).permute(0, 3, 1, 2)
        activations, logits = self.forward(self.model, x)
        (slopes,) = torch.autograd.grad(logits.max(dim=1).values.sum(), activations)
        maps = torch.relu((slopes.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1))
        peaks = maps.amax(dim=(1, 2), keepdim=True)
        maps = torch.where(peaks > 0, maps / peaks, torch.zeros_like(maps))
        return torch.softmax(logits, dim=1).detach().numpy(), maps.detach().numpy()

    def forward(self, module: Any, x: Any) -> tuple[Any, Any]:
        """Activations of `layer` and the scores before the softmax, of images `(n, 3, size, size)`."""
        values = {}
        for name, sources, call in self.plan:
            values[name] = call(module, *([values[source] for source in sources] or [x]))
        return values[self.layer], values[self.output]

    def _translate(self, layer: keras.Layer) -> tuple[str, list[str], Callable]:
        # A layer that other models share has other nodes too.
        nodes = [node for node in layer._inbound_nodes if node in self.nodes]
        sources = [tensor._keras_history.operation.name for node in nodes[:1] for tensor in node.input_tensors]
        return layer.name, sources, getattr(self, f"_{type(layer).__name__.lower()}")(layer)

    def _parameter(self, layer: keras.Layer, variable: keras.Variable, to_torch: tuple[int, ...] = (), back: tuple[int, ...] = ()) -> str:
        name = f"{layer.name}_{variable.name}"
        value = self.torch.from_numpy(ops.convert_to_numpy(variable).copy())
        value = value.permute(to_torch).contiguous() if to_torch else value
        self.model.register_parameter(name, self.torch.nn.Parameter(value))
        self.names[variable.path] = (name, back)
        return name

    def _functional(self, layer: keras.Model) -> Callable:
        inner, name = TorchNetwork(layer, layer.layers[-1].name, self.training), layer.name.replace(".", "_")
        self.model.add_module(name, inner.model)
        return lambda module, x: inner.forward(getattr(module, name), x)[1]

    def _inputlayer(self, layer: keras.Layer) -> Callable:
        return lambda module, x: x

    def _pixelscaling(self, layer: keras.Layer) -> Callable:
        if layer.mode == "caffe":  # BGR, ImageNet's mean taken off
            return lambda module, x: x.flip(1) - self.torch.tensor([103.939, 116.779, 123.68], dtype=x.dtype)[:, None, None]
        if layer.mode == "torch":  # ImageNet's mean and deviation, of pixels in 0..1
            mean, deviation = (self.torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
            return lambda module, x: (x / 255 - mean) / deviation
        return lambda module, x: x / 127.5 - 1

    def _conv2d(self, layer: keras.Layer, groups: bool = False) -> Callable:
        functional, stride, side = self.torch.nn.functional, layer.strides[0], layer.kernel_size[0]
        # Keras keeps a depthwise kernel as (h, w, channels, 1), a plain one as (h, w, in, out).
        axes = ((2, 3, 0, 1), (2, 3, 0, 1)) if groups else ((3, 2, 0, 1), (2, 3, 1, 0))
        name = self._parameter(layer, layer.kernel, *axes)
        bias = self._parameter(layer, layer.bias) if layer.use_bias else None
        padded, relu = layer.padding == "same", layer.activation is keras.activations.relu

        def call(module: Any, x: Any) -> Any:
            if padded:
                total = [max((-(-size // stride) - 1) * stride + side - size, 0) for size in x.shape[2:]]
                x = functional.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
            shift = getattr(module, bias) if bias else None
            y = functional.conv2d(x, getattr(module, name), shift, stride=stride, groups=x.shape[1] if groups else 1)
            return y.relu() if relu else y

        return call

    def _depthwiseconv2d(self, layer: keras.Layer) -> Callable:
        return self._conv2d(layer, groups=True)

    def _batchnormalization(self, layer: keras.Layer) -> Callable:
        stored = (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
        values = [self.torch.from_numpy(ops.convert_to_numpy(each).copy()) for each in stored]
        if self.training:
            gamma, beta = self._parameter(layer, layer.gamma), self._parameter(layer, layer.beta)
            norm, momentum = self.torch.nn.functional.batch_norm, 1 - layer.momentum
            return lambda module, x: norm(x, *values[:2], getattr(module, gamma), getattr(module, beta), True, momentum, layer.epsilon)
        return lambda module, x: self.torch.nn.functional.batch_norm(x, *values, training=False, eps=layer.epsilon)

    def _relu(self, layer: keras.Layer) -> Callable:
        return lambda module, x: x.clamp(0, layer.max_value)

    def _zeropadding2d(self, layer: keras.Layer) -> Callable:
        (top, bottom), (left, right) = layer.padding
        return lambda module, x: self.torch.nn.functional.pad(x, (left, right, top, bottom))

    def _maxpooling2d(self, layer: keras.Layer) -> Callable:
        return lambda module, x: self.torch.nn.functional.max_pool2d(x, layer.pool_size, layer.strides)

    def _averagepooling2d(self, layer: keras.Layer) -> Callable:
        return lambda module, x: self.torch.nn.functional.avg_pool2d(x, layer.pool_size, layer.strides)

    def _activation(self, layer: keras.Layer) -> Callable:
        if layer.activation not in (keras.activations.relu, keras.activations.linear):
            raise ValueError(f"{layer.name}: {layer.activation} is not translated")
        return lambda module, x: x.relu() if layer.activation is keras.activations.relu else x

    def _concatenate(self, layer: keras.Layer) -> Callable:
        return lambda module, *maps: self.torch.cat(maps, dim=1)  # Keras's last axis, the channels

    def _flatten(self, layer: keras.Layer) -> Callable:
        return lambda module, x: x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (h, w, channels)

    def _add(self, layer: keras.Layer) -> Callable:
        return lambda module, a, b: a + b

    def _globalaveragepooling2d(self, layer: keras.Layer) -> Callable:
        return lambda module, x: x.mean(dim=(2, 3))

    def _dropout(self, layer: keras.Layer) -> Callable:
        return lambda module, x: x

    def _dense(self, layer: keras.Layer) -> Callable:
        kernel, bias = self._parameter(layer, layer.kernel), self._parameter(layer, layer.bias)
        active = layer.activation is keras.activations.relu

        def call(module: Any, x: Any) -> Any:
            y = x @ getattr(module, kernel) + getattr(module, bias)
            return y.relu() if active else y

        return call
