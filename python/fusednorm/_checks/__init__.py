"""Checks of arguments, which raise the errors that a user of the package meets.

The functional API and the layers share them, so that both say the same. They check
what is known when the function or the layer is called; the ops check, when a graph
runs, what was unknown until then. Each module has one subject:

- `arguments`: numbers and axes by themselves, before any tensor is looked at;
- `axes`: axes and groups against the shape of the input;
- `tensors`: the input and the residual;
- `parameters`: gamma and beta;
- `masks`: the mask;
- `layers`: the input of a layer against what the layer was built for;
- `shapes`: how all of them read, compare and print shapes.
"""

from fusednorm._checks import (
    arguments,
    axes,
    layers,
    masks,
    parameters,
    shapes,
    tensors,
)

__all__ = ["arguments", "axes", "layers", "masks", "parameters", "shapes", "tensors"]
