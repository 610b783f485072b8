"""The ops' interfaces, which SavedModels rely on: op_definitions.txt has them as text.

A change that older SavedModels survive (an attribute with a default, say) is made by
hand there too; any other change is an op of another name.
"""

from pathlib import Path

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

EXPECTED = Path(__file__).with_name("op_definitions.txt").read_text()
NAMES = [
    f"Fusednorm>{norm}{suffix}"
    for norm in ("GroupNorm", "LayerNorm", "RMSNorm")
    for suffix in ("", "Grad", "GradGrad")
]


def arguments(listed):
    """Returns inputs or outputs as REGISTER_OP writes them: `gamma: num_gamma * U`."""
    return ", ".join(
        f"{each.name}: "
        + (f"{each.number_attr} * " if each.number_attr else "")
        + (each.type_attr or tf.as_dtype(each.type).name)
        for each in listed
    )


def default_of(attribute):
    """Returns a default, or that there is none."""
    value = attribute.default_value
    field = value.WhichOneof("value")
    if field is None:
        return ""
    written = getattr(value, field)
    if field == "type":
        written = tf.as_dtype(written).name
    elif field == "s":
        written = written.decode()
    return f" = {written}"


def allowed(attribute):
    """Returns the values that an attribute may have."""
    values = attribute.allowed_values.list
    names = [tf.as_dtype(each).name for each in values.type]
    names += [each.decode() for each in values.s]
    least = f" >= {attribute.minimum}" if attribute.has_minimum else ""
    return (f" in {{{', '.join(names)}}}" if names else "") + least


def text_of(name):
    """Returns the definition of an op."""
    definition = op_def_registry.get(name)
    return "\n".join(
        [
            name,
            f"  inputs: {arguments(definition.input_arg)}",
            f"  outputs: {arguments(definition.output_arg)}",
            *(
                f"  {each.name}: {each.type}{allowed(each)}{default_of(each)}"
                for each in definition.attr
            ),
        ]
    )


def test_every_op_is_in_the_text():
    fusednorm.load_op_library()
    assert "\n\n".join(map(text_of, NAMES)) + "\n" == EXPECTED


@pytest.mark.parametrize("name", NAMES)
def test_ops_are_functions_of_their_inputs(name):
    fusednorm.load_op_library()
    definition = op_def_registry.get(name)
    assert not definition.is_stateful
    assert not definition.is_commutative


def test_inputs_that_came_later_may_be_left_out():
    library = fusednorm.load_op_library()
    x = tf.random.stateless_normal([2, 3, 4], [1, 2])
    given = {"x": x, "gamma": [], "beta": [], "residual": [], "groups": 2}
    mask = tf.constant([[True, False, True]] * 2)
    y, *_ = library.fusednorm_group_norm(**given)
    expected, *_ = library.fusednorm_group_norm(**given, mask=[])
    masked, *_ = library.fusednorm_group_norm(**given, mask=[mask])
    np.testing.assert_array_equal(y, expected)
    assert np.any(y != masked)
