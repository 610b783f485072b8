"""Layers of registered classes that are replaced as soon as they are built.

Within `fusednorm.patch_keras` a layer of Keras's own is never made: its arguments say
what ours would be. Of other classes only the layer itself tells, when it has its
weights. So it is made and built as ever, with its names, and then becomes ours, as
`fusednorm.convert` would make it.
"""

from __future__ import annotations

import concurrent.futures
import warnings
from typing import Any

from fusednorm._keras import keras
from fusednorm.conversion import compare, internals, registry
from fusednorm.conversion.report import first_line
from fusednorm.conversion.state import random_numbers_kept
from fusednorm.conversion.suspension import suspended

Layer = keras.layers.Layer


def replace_when_built(layer: Layer) -> None:
    """Has a new layer become ours when it is built, if its class is registered."""
    rule = registry.rule(type(layer))
    if rule is not None and not rule.known:
        internals.after_build(layer, lambda: _replace(layer, rule))


def _replace(layer: Layer, rule: registry.Rule) -> None:
    """Makes a layer ours, or leaves it with a warning that says why."""
    # In a thread of its own, where neither the scopes of names, devices and replicas
    # hold, in which the layer is built, nor a graph that may be traced.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        found = executor.submit(_compared_twin, layer, rule)
    try:
        twin, shape = found.result()
    except Exception as error:  # Whatever another class and its rule may raise.
        warnings.warn(
            f"Layer '{layer.name}' of class {registry.full_name(type(layer))} is not "
            f"replaced by a fused one: {first_line(error)}",
            stacklevel=2,
        )
        return
    registry.become(layer, twin, rule, shape)


def _compared_twin(layer: Layer, rule: registry.Rule) -> tuple[Layer, Any]:
    """Returns what takes the place of a layer, and the shape of its input.

    Raises:
        ValueError: if it would compute something else.
    """
    with suspended(), random_numbers_kept():
        twin, shape = registry.built_twin(layer, rule)
        # The layer's own weights may not have values yet.
        copy = internals.copy_with_weights(layer)
        x = compare.layer_input(layer, shape)
        with compare.other_weights(twin):
            for weight, own in registry.paired_weights(twin, copy, rule):
                own.assign(weight)
            theirs, ours = (compare.outputs(each, x) for each in (copy, twin))
    gap = compare.difference(ours, theirs)
    tolerance = rule.tolerance or compare.layer_tolerance(
        layer.compute_dtype, twin.compute_dtype
    )
    if not gap <= tolerance:
        raise ValueError(compare.described(gap, ours, theirs))
    return twin, shape
