"""Cut a trained model in two at a feature map, on the logits: images -> activations (body) -> logits (head).

Works on the model's own layers (weights are shared, nothing is copied), so a cut made before training follows the training.
Backbones that are sub-models (nested), preprocessing layers before them, saved-and-loaded models and layers inside a residual
branch are all accepted; a softmax or sigmoid at the end is left out, because Grad-CAM is defined on the score before it
(Selvaraju et al. 2017, section 3).
"""

from collections.abc import Sequence

import keras

from common.errors import UsageError

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
# What follows the last feature map without making a new one; skipped when the default layer is looked for.
_NOT_A_FEATURE_MAP = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Reshape,
    keras.layers.Flatten,
)


class Linear(keras.layers.Layer):
    """A trained Dense layer without its activation: `x @ kernel + bias`, sharing the layer's weights."""

    def __init__(self, dense: keras.layers.Dense, **kwargs):
        super().__init__(dtype=dense.dtype_policy, **kwargs)
        self.dense = dense

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        outputs = keras.ops.matmul(inputs, self.dense.kernel)
        return outputs if self.dense.bias is None else keras.ops.add(outputs, self.dense.bias)


def functional(model: keras.Model) -> keras.Model:
    """The functional graph of a model (a Sequential holds one). `UsageError` for a subclassed model: it has no graph to cut."""
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:
            raise UsageError("the model is an unbuilt Sequential: give it an Input layer before it is explained")
        return model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise UsageError(f"the model {model.name!r} is a subclassed model: explanations need a functional or Sequential one")
    return model


def nodes(model: keras.Model) -> list:
    """The graph's nodes in the order of execution, inputs left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def run_graph(model: keras.Model, inputs: list, call) -> list:
    """Run a functional model's graph with `call(node, args, kwargs)` for each node; returns its outputs as a flat list."""
    values = {id(symbol): value for symbol, value in zip(model.inputs, inputs, strict=True)}
    for node in nodes(model):
        args, kwargs = node.arguments.fill_in(values)
        outputs = call(node, args, kwargs)
        for symbol, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            values[id(symbol)] = value
    return [values[id(symbol)] for symbol in model.outputs]


def _is_graph(operation) -> bool:
    return isinstance(operation, keras.Model) and (isinstance(operation, keras.Sequential) or hasattr(operation, "_nodes_by_depth"))


def _inline(model: keras.Model, inputs: list, training: bool | None, names: dict[str, list], prefix: str) -> list:
    """Call every layer of `model`, and of the models inside it, on `inputs`; note each output under the layer's names."""

    def call(node, args, kwargs):
        operation = node.operation
        inner_training = kwargs.get("training") if kwargs.get("training") is not None else training
        if _is_graph(operation):
            flat = keras.tree.flatten((args, {k: v for k, v in kwargs.items() if k not in ("training", "mask")}))
            inner = functional(operation)
            tensors = [x for x in flat if isinstance(x, keras.KerasTensor)]
            tensors = [x if x.dtype == i.dtype else keras.ops.cast(x, i.dtype) for x, i in zip(tensors, inner.inputs, strict=True)]
            outputs = _inline(inner, tensors, inner_training, names, f"{prefix}{operation.name}/")
            # The sub-model's own name stands for its output, so `layer="mobilenetv2_035"` works as well.
            _note(names, [operation.name], outputs)
            return outputs
        if inner_training is not None and getattr(operation, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": inner_training}
        outputs = operation(*args, **kwargs)
        _note(names, {operation.name, f"{prefix}{operation.name}"}, keras.tree.flatten(outputs))
        return outputs

    return run_graph(model, inputs, call)


def _note(names: dict[str, list], keys, outputs: list) -> None:
    for key in keys:
        names.setdefault(key, []).append(outputs[0])


def flatten(model: keras.Model) -> tuple[keras.Model, dict[str, list]]:
    """A model without sub-models, on the same layers, and its tensors by layer name (`"conv"` or `"backbone/conv"`)."""
    graph = functional(model)
    names: dict[str, list] = {}
    if not any(_is_graph(operation) for operation in graph.operations):
        for node in nodes(graph):
            _note(names, [node.operation.name], node.outputs)
        if len(graph.inputs) == 1 and isinstance(graph.input, (list, tuple, dict)):
            # A list of one input, as keras.applications make it with `input_tensor`: Keras warns when it gets a plain tensor.
            graph = keras.Model(graph.inputs[0], graph.output, name=graph.name)
        return graph, names
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in graph.inputs]
    outputs = _inline(graph, inputs, None, names, "")
    return keras.Model(_alone(inputs), outputs, name=f"{model.name}_flat"), names


def _alone(tensors: list):
    """One tensor instead of a list of one, so that the model made from it is called with a plain tensor."""
    return tensors[0] if len(tensors) == 1 else tensors


def _producer(tensor):
    return tensor._keras_history.operation


def _inputs_of(tensor) -> list:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def _ending(output) -> tuple:
    """The model's last tensor, cast and linear activations left out, the operation that made it, and its activation.

    "softmax", "sigmoid" or "none": what Grad-CAM has to look behind.
    """
    operation = _producer(output)
    # Activation("linear", dtype="float32") at the end of a mixed-precision model.
    while isinstance(operation, keras.layers.Activation) and operation.activation is keras.activations.linear:
        output = _inputs_of(output)[0]
        operation = _producer(output)
    if isinstance(operation, (keras.layers.Activation, keras.layers.Dense)):
        names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
        return output, operation, names.get(operation.activation, "none")
    # The layer Softmax, or keras.ops.softmax(x) and keras.ops.sigmoid(x) used as a node.
    return output, operation, {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(type(operation).__name__, "none")


def logits_tensor(output):
    """The symbolic tensor before the softmax or sigmoid that makes `output`; `output` itself when there is none."""
    output, operation, activation = _ending(output)
    if activation == "none":
        return output
    if isinstance(operation, keras.layers.Dense):
        return Linear(operation, name=f"{operation.name}_logits")(_inputs_of(output)[0])
    return _inputs_of(output)[0]


def output_activation(model: keras.Model, output: str | int | None = None) -> str:
    """What `logits_tensor` leaves out at the end of the model: "softmax", "sigmoid", or "none" where the model ends in plain scores."""
    graph, _ = flatten(model)
    return _ending(_pick_output(graph, output))[2]


def _pick_output(graph: keras.Model, output: str | int | None):
    if output is None:
        if len(graph.outputs) > 1:
            raise UsageError(f"the model has {len(graph.outputs)} outputs: name the one to explain, of {graph.output_names}")
        return graph.outputs[0]
    index = graph.output_names.index(output) if isinstance(output, str) else output
    return graph.outputs[index]


def logits_model(model: keras.Model, output: str | int | None = None) -> keras.Model:
    """The same model, sharing its layers, from images to logits (batch, classes)."""
    graph, _ = flatten(model)
    return keras.Model(_alone(graph.inputs), logits_tensor(_pick_output(graph, output)), name=f"{model.name}_logits")


def _is_map(tensor) -> bool:
    shape = tensor.shape
    return len(shape) == 4 and not (shape[1] == 1 and shape[2] == 1)


def _convolutions(graph: keras.Model) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(n.operation.name for n in nodes(graph) if isinstance(n.operation, _CONVOLUTIONS)))
    if not names:
        raise UsageError("the model has no convolution layer: class-activation maps need a feature map (height, width, channels)")
    return names


def find_map(graph: keras.Model, names: dict[str, list], layer: str | None):
    """The symbolic feature map (batch, h, w, channels) called `layer`; for None the last one before pooling.

    "Last" is the last output larger than 1 x 1 that is not pooling, dropout, padding or reshaping: `out_relu` of MobileNetV2,
    `relu` of DenseNet, `conv5_block3_out` of ResNet50, `block5_conv3` of VGG16.
    """
    convolutions = _convolutions(graph)
    if layer is None:
        for node in reversed(nodes(graph)):
            if not isinstance(node.operation, _NOT_A_FEATURE_MAP) and _is_map(node.outputs[0]):
                return node.outputs[0]
        raise UsageError("no feature map of the model is larger than 1 x 1 pixels: give larger images or an earlier layer")
    if layer not in names:
        shown = ", ".join(convolutions if len(convolutions) <= 12 else (*convolutions[:3], "…", *convolutions[-8:]))
        raise UsageError(f"--layer {layer!r}: the model has no such layer; its convolution layers are {shown}")
    tensor = names[layer][-1]
    if not _is_map(tensor):
        raise UsageError(f"--layer {layer!r}: its output {tuple(tensor.shape)} is not a feature map (batch, height, width, channels)")
    return tensor


def map_facts(model: keras.Model, layer: str | None = None) -> tuple[str, int | None, int | None]:
    """Name, height and width of the feature map that `layer` stands for (see `find_map`); a size is None where the images decide it."""
    tensor = find_map(*flatten(model), layer)
    return _producer(tensor).name, *tensor.shape[1:3]


def describe_map(model: keras.Model, layer: str | None = None) -> str:
    """The layer that `layer` stands for, and its size, such as "out_relu, 7 x 7"."""
    name, *sizes = map_facts(model, layer)
    return f"{name}, {' x '.join('any' if size is None else str(size) for size in sizes)}"


def _frontier(graph: keras.Model, source, target) -> list:
    """Tensors that `target` needs besides `source`: the skip connections that pass the cut. Raises when `source` does not count."""
    downstream = {id(source)}
    crossing: dict[int, object] = {}
    used = []
    for node in nodes(graph):
        if any(id(x) in downstream for x in node.input_tensors):
            downstream.update(id(x) for x in node.outputs)
            used.append(node)
    if id(target) not in downstream:
        raise UsageError(f"layer {_producer(source).name!r} does not lead to the model's class scores")
    needed = {id(target)}
    for node in reversed(used):
        if any(id(x) in needed for x in node.outputs):
            needed.update(id(x) for x in node.input_tensors)
            for x in node.input_tensors:
                if id(x) not in downstream:
                    crossing.setdefault(id(x), x)
    return list(crossing.values())


def split_model(model: keras.Model, layer: str | None = None, *, output: str | int | None = None) -> tuple[keras.Model, keras.Model]:
    """Cut `model` at `layer` (default: the last feature map, see `find_map`).

    Returns `body`: images (batch, H, W, 3) -> activations, and `head`: activations -> logits (batch, classes). `activations` is
    the feature map (batch, h, w, channels); when skip connections pass the cut it is a list whose first element is the feature
    map, and the others are what the head needs besides it. Both share the model's layers. A layer inside a sub-model is
    called by its own name, or `"submodel/layer"`. Raises `UsageError` for an unknown layer, naming the convolution layers.
    """
    graph, names = flatten(model)
    scores = logits_tensor(_pick_output(graph, output))
    activations = find_map(graph, names, layer)
    rest = _frontier(keras.Model(_alone(graph.inputs), scores), activations, scores)
    cut = _alone([activations, *rest])
    body = keras.Model(_alone(graph.inputs), cut, name=f"{model.name}_body")
    return body, keras.Model(cut, scores, name=f"{model.name}_head")


def tapped_model(model: keras.Model, layers: Sequence[str | None], *, output: str | int | None = None) -> keras.Model:
    """A model without sub-models from images to [feature map of each layer …, logits], sharing the layers of `model`."""
    graph, names = flatten(model)
    scores = logits_tensor(_pick_output(graph, output))
    maps = [find_map(graph, names, layer) for layer in layers]
    logits = keras.Model(_alone(graph.inputs), scores)
    for tensor in maps:
        _frontier(logits, tensor, scores)
    return keras.Model(_alone(graph.inputs), [*maps, scores], name=f"{model.name}_taps")
