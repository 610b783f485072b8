"""The norms as plain TensorFlow ops, for where the fused ops cannot go.

Exported models that must run without this package, gradients of an order that has no
op, and parallel loops whose iterations have their own parameters are computed so. The
contract of docs/numerics.md holds here too: arithmetic in `S`, `(x - mean) * rstd`, and
exactly beta for a constant group.

- `norms`: the functions that stand for the ops of the norms;
- `gradients`: those that stand for their gradient ops, by differentiating `norms`;
- `arithmetic`: the statistics, the normalization, the scale and offset;
- `views`: the shapes in which the data and the parameters broadcast.
"""

from fusednorm._composition import arithmetic, gradients, norms, views

__all__ = ["arithmetic", "gradients", "norms", "views"]
