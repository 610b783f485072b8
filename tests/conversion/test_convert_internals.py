"""Says which private attribute a Keras has lost that the conversion needs."""

import inspect
import re

import pytest
from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import internals

layers = keras.layers

# What has the attributes -> those that Keras 3 has, and those that tf_keras has.
NEEDED = {
    "layer": (
        {
            *{"_inbound_nodes", "_outbound_nodes", "_flatten_layers"},
            *{"_call_has_mask_arg", "_dtype_policy"},
        },
        {"_inbound_nodes", "_outbound_nodes", "_flatten_layers", "_dtype_policy"},
    ),
    "model": (
        {
            *{"_layers", "_tracker", "_nodes", "_nodes_by_depth"},
            *{"_operations", "_operations_by_depth"},
        },
        set(),
    ),
    "tracker": ({"track", "untrack"}, set()),
    "node": (
        {"arguments", "operation", "outputs", "parent_nodes"},
        {"call_args", "call_kwargs", "keras_inputs", "layer", "parent_nodes"},
    ),
    "arguments": ({"args", "kwargs", "keras_tensors"}, set()),
    "tensor": ({"_keras_history"}, {"_keras_history"}),
    "history": ({"operation", "node_index", "tensor_index"}, {"layer"}),
    "masked": ({"_keras_mask"}, {"_keras_mask"}),
    "variable": ({"_autocast"}, set()),
}
MEANS = {
    "layer": "a layer",
    "model": "a functional model",
    "tracker": "what a layer tracks its parts with",
    "node": "a call of a layer in a graph",
    "arguments": "the arguments of such a call",
    "tensor": "a symbolic tensor",
    "history": "the origin of such a tensor",
    "masked": "a symbolic tensor with a mask",
    "variable": "a weight",
}


def objects():
    """Returns one of each."""
    inputs = keras.Input((6,), dtype="int32")
    masked = layers.Embedding(5, 8, mask_zero=True)(inputs)
    layer = layers.LayerNormalization()
    tensor = layer(masked)
    model = keras.Model(inputs, tensor)
    found = {"layer": layer, "model": model, "tensor": tensor, "masked": masked}
    found["variable"] = layer.weights[0]
    found["tracker"] = getattr(model, "_tracker", None)
    found["node"] = next(iter(getattr(layer, "_inbound_nodes", [None])))
    found["arguments"] = getattr(found["node"], "arguments", None)
    found["history"] = getattr(tensor, "_keras_history", None)
    return found


@pytest.mark.parametrize("what", NEEDED)
def test_keras_has_what_the_conversion_needs(what):
    found = objects()[what]
    for name in sorted(NEEDED[what][LEGACY]):
        assert hasattr(found, name), (
            f"{keras.__name__} {keras.__version__} has no `{name}` of {MEANS[what]} "
            "any more, which fusednorm/conversion/internals.py uses: find what has "
            "come in its place, and add this version to the docstring there"
        )


def test_keras_has_the_generator_of_random_numbers_without_a_seed():
    if not LEGACY:
        keras.random.normal(())
    assert bool(internals.global_variables()) is not LEGACY, (
        f"Keras {keras.__version__} keeps its default seed generator elsewhere than "
        "fusednorm/conversion/internals.py looks for it"
    )


def test_a_graph_of_a_layer_is_found_by_these_attributes():
    """They mean what they meant."""
    found = objects()
    layer, model = found["layer"], found["model"]
    assert internals.consumers(model.layers[1]) == [layer]
    assert internals.producers(layer) == [model.layers[1]]
    assert internals.given(layer, "inputs")[0] is found["masked"]
    assert internals.gets_mask(layer)
    assert internals.input_dtypes(layer) == {"float32"}
    assert internals.output_layers(model) == [layer]
    assert internals.everything(model)[1:] == internals.sublayers(model) == model.layers


def test_no_private_attribute_is_left_out_here():
    source = inspect.getsource(internals)
    # Those of Keras's objects; not the methods and fields of this module.
    own = {"_set", "_give", "_kept", "_map", "_renew", "_replace", "_track"}
    own |= {"_tracked", "_undo"}
    used = set(re.findall(r"\w\.(_[a-z]\w*)", source)) - own
    used |= set(re.findall(r'getattr\(\w+, "(_[a-z]\w*)"', source))
    used |= set(internals._GRAPH)
    # A wrapper of tf_keras's, which weights have under mixed precision only; and names
    # of modules.
    used -= {"_variable", "_keras"}
    known = {name for each in NEEDED.values() for names in each for name in names}
    assert used <= known
