"""`fusednorm.torch_weights`, with PyTorch where it is, and with what looks like it."""

import warnings
from types import SimpleNamespace

import fusednorm
import numpy as np
import pytest

# Two float32 computations of a norm agree to this, relative to the largest number.
AGREE = 64 * 2.0**-24


def state(rng, *names):
    return {name: rng.standard_normal(8, np.float32) for name in names}


def test_state_dict_of_a_norm_is_a_list(rng):
    given = state(rng, "weight", "bias")
    weights = fusednorm.torch_weights(given)
    assert [id(each) for each in weights] == [id(each) for each in given.values()]
    only_scale = state(rng, "weight")
    np.testing.assert_equal(fusednorm.torch_weights(only_scale), [only_scale["weight"]])


def test_norms_of_a_state_dict_go_by_name(rng):
    given = {
        **state(rng, "norm.weight", "norm.bias", "blocks.0.rms.weight"),
        **state(rng, "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
        **state(rng, "linear.bias", "scale"),
        "linear.weight": rng.standard_normal((8, 4)),
        "map.weight": rng.standard_normal((8, 4)),
        "map.bias": rng.standard_normal((8, 4)),
    }
    with pytest.warns(UserWarning, match=r"an InstanceNorm, so that \['bn'\]"):
        found = fusednorm.torch_weights(given)
    assert list(found) == ["norm", "blocks.0.rms", "map"]
    for name, weights in found.items():
        keys = [f"{name}.weight", f"{name}.bias"][: len(weights)]
        np.testing.assert_equal(weights, [given[key] for key in keys])


@pytest.mark.parametrize("affine", [False, True])
def test_running_statistics_of_a_state_dict_are_not_left_out_silently(affine, rng):
    names = ["running_mean", "running_var", *(["weight", "bias"] if affine else [])]
    given = state(rng, "after.weight", "after.bias", *(f"norm.{n}" for n in names))
    left_out = r"\['norm'\] are left out; pass the module"
    with pytest.warns(UserWarning, match=left_out) as warned:
        found = fusednorm.torch_weights(given)
    assert list(found) == ["after"]
    assert [each.filename for each in warned] == [__file__]


def test_state_dicts_without_running_statistics_give_no_warning(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusednorm.torch_weights(state(rng, "norm.weight", "norm.bias"))


# An optimizer has a state_dict too.
OPTIMIZER = SimpleNamespace(state_dict=dict)
NO_STATE = SimpleNamespace(named_modules=list)


@pytest.mark.parametrize(
    "given", [3, [np.ones(8)], "model.pt", None, OPTIMIZER, NO_STATE]
)
def test_what_is_neither_is_refused(given):
    with pytest.raises(TypeError, match="must be a PyTorch module or its state_dict"):
        fusednorm.torch_weights(given)


def test_state_dict_of_something_else_is_refused():
    with pytest.raises(TypeError, match="Received: 'text' in it"):
        fusednorm.torch_weights({"weight": "text"})


def test_nothing_to_find_is_an_error():
    with pytest.raises(ValueError, match=r"no GroupNorm.* with the names \['weight'\]"):
        fusednorm.torch_weights({"weight": np.ones((3, 8))})
    module = SimpleNamespace(named_modules=lambda: [], state_dict=dict)
    with pytest.raises(ValueError, match=r"no GroupNorm.* in module SimpleNamespace"):
        fusednorm.torch_weights(module)


def test_messages_name_eight_of_many(rng):
    names = [f"norm{i}.running_mean" for i in range(9)]
    with pytest.warns(UserWarning, match=r"'norm7'\] are left out"):
        fusednorm.torch_weights(state(rng, *names, "weight"))
    linear = {f"{i}.weight": np.ones((3, 8)) for i in range(9)}
    with pytest.raises(ValueError, match=r"'7.weight'\]$"):
        fusednorm.torch_weights(linear)


# ---------------------------------------------------------------- what looks like it


class Tensor:
    """A tensor as PyTorch's: NumPy cannot have it as it is."""

    def __init__(self, array, dtype="torch.float32", trained=True, on_gpu=True):
        self.array, self.dtype, self.shape = array, dtype, array.shape
        self.trained, self.on_gpu = trained, on_gpu

    def detach(self):
        return Tensor(self.array, self.dtype, False, self.on_gpu)

    def cpu(self):
        return Tensor(self.array, self.dtype, self.trained, False)

    def float(self):
        return Tensor(self.array, "torch.float32", self.trained, self.on_gpu)

    def numpy(self):
        assert (self.dtype, self.trained, self.on_gpu) == (
            "torch.float32",
            False,
            False,
        )
        return self.array


class Module:
    """A module as PyTorch's, with modules in it by name."""

    def __init__(self, state=None, **modules):
        self.state, self.modules = state or {}, modules

    def named_modules(self):
        yield "", self
        yield from self.modules.items()

    def state_dict(self):
        return self.state


def of_torch(name):
    return type(name, (Module,), {"__module__": "torch.nn.modules.normalization"})


def test_modules_know_their_norms(rng):
    of_norm = state(rng, "running_var", "running_mean", "bias", "weight")
    own = type("Own", (of_torch("LayerNorm"),), {})
    low = {"weight": Tensor(np.ones(8, np.float32), "torch.bfloat16")}
    module = Module(
        state(rng, "weight"),
        instance=of_torch("InstanceNorm2d")(of_norm | {"num_batches_tracked": 3}),
        own=own(state(rng, "weight", "bias")),
        low=of_torch("RMSNorm")(low),
        plain=of_torch("GroupNorm")(),
        batch=of_torch("BatchNorm2d")(state(rng, "weight", "bias")),
        linear=of_torch("Linear")(state(rng, "weight", "bias")),
        other=type("LayerNorm", (Module,), {})(state(rng, "weight", "bias")),
    )
    found = fusednorm.torch_weights(module)
    assert list(found) == ["instance", "own", "low", "plain"]
    order = ("weight", "bias", "running_mean", "running_var")
    np.testing.assert_equal(found["instance"], [of_norm[name] for name in order])
    assert [len(found[name]) for name in ("own", "low", "plain")] == [2, 1, 0]
    (scale,) = found["low"]
    assert scale is low["weight"].array


def test_a_module_that_is_a_norm_gives_a_list(rng):
    given = state(rng, "weight", "bias")
    weights = fusednorm.torch_weights(of_torch("GroupNorm")(given))
    np.testing.assert_equal(weights, list(given.values()))


# ---------------------------------------------------------------- with PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch: pip install torch")


def randomized(torch, module):
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 2)
    return module


PAIRS = {
    "GroupNorm": (
        lambda nn: nn.GroupNorm(4, 8, eps=1e-3),
        lambda: fusednorm.GroupNormalization(4, axis=1),
    ),
    "InstanceNorm2d": (
        lambda nn: nn.InstanceNorm2d(8, affine=True, eps=1e-3),
        lambda: fusednorm.InstanceNormalization(axis=1),
    ),
    "InstanceNorm2d, plain": (
        lambda nn: nn.InstanceNorm2d(8, eps=1e-3),
        lambda: fusednorm.InstanceNormalization(axis=1, center=False, scale=False),
    ),
    "LayerNorm": (
        lambda nn: nn.LayerNorm((5, 6), eps=1e-3),
        lambda: fusednorm.LayerNormalization(axis=(2, 3)),
    ),
    "LayerNorm, no bias": (
        lambda nn: nn.LayerNorm((5, 6), eps=1e-3, bias=False),
        lambda: fusednorm.LayerNormalization(axis=(2, 3), center=False),
    ),
    "RMSNorm": (
        lambda nn: nn.RMSNorm(6, eps=1e-6),
        lambda: fusednorm.RMSNormalization(),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_layers_compute_what_pytorchs_do(name, torch, rng):
    make_theirs, make_ours = PAIRS[name]
    theirs, ours = randomized(torch, make_theirs(torch.nn)), make_ours()
    x = rng.standard_normal((2, 8, 5, 6), np.float32)
    ours.build(x.shape)
    ours.set_weights(fusednorm.torch_weights(theirs))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    gap = np.abs(ours(x) - expected).max()
    assert gap <= AGREE * np.abs(expected).max()


def test_module_and_its_state_dict_have_the_same_norms(torch):
    nn = torch.nn
    module = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 8, 3),
            "block": nn.Sequential(nn.GroupNorm(4, 8), nn.PReLU(), nn.Linear(8, 8)),
            "batch": nn.BatchNorm2d(8),
            "last": nn.LayerNorm(8).bfloat16(),
        }
    )
    found = fusednorm.torch_weights(randomized(torch, module))
    assert list(found) == ["block.0", "last"]
    assert [weight.dtype for weight in found["last"]] == [np.float32] * 2
    # PReLU has one weight of rank 1 too, which only the module tells from a norm's.
    with pytest.warns(UserWarning, match="pass the module"):
        from_state = fusednorm.torch_weights(module.state_dict())
    assert list(from_state) == ["block.0", "block.1", "last"]
    for name, weights in found.items():
        np.testing.assert_equal(from_state[name], weights)


def test_running_statistics_come_last(torch):
    norm = torch.nn.InstanceNorm1d(8, affine=True, track_running_stats=True)
    norm(torch.randn(4, 8, 5))
    expected = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    expected = [each.detach().numpy() for each in expected]
    np.testing.assert_equal(fusednorm.torch_weights(norm), expected)
