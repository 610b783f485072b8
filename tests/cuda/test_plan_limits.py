"""Whatever the problem, every plan that computes it keeps the limits of the device."""

from fusednorm import _native
from hypothesis import example, given, settings, strategies as st
from support import plan_limits

DEVICES = _native.known_devices()
SIZES = st.one_of(
    st.integers(1, 40),
    st.sampled_from([64, 96, 127, 128, 768, 1000, 1024, 4096, 5120, 12288]),
    st.sampled_from([65_537, 1 << 20, 3_000_001]),
)


@st.composite
def problems(draw):
    """Returns arguments of `_native.plan` for tensors of up to 2^38 elements."""
    shape, elements = [], 1
    for _ in range(draw(st.integers(2, 5))):
        size = draw(SIZES)
        if elements * size >= 1 << 38:
            size = 1
        shape.append(size)
        elements *= size
    op = draw(st.sampled_from(["group_norm", "layer_norm", "rms_norm"]))
    first = draw(st.integers(1, len(shape) - 1))
    # A block of the second order has 32 columns, or more: of a terabyte those are too
    # many blocks for a grid.
    orders = ["second_order"] if elements < 1 << 35 else []
    direction = draw(st.sampled_from(["forward", "backward", *orders]))
    arguments = {"axes": [first], "groups": 0, "direction": direction}
    if direction != "second_order":
        arguments["per_position"] = draw(st.booleans())
        # Kernels of masked groups have a block for each, or for a few.
        if op == "group_norm" and shape[0] * shape[first] < 1 << 31:
            arguments["has_mask"] = draw(st.booleans())
    if op == "group_norm":
        channels = shape[first]
        divisors = [g for g in (1, 2, 3, 4, 5, 8, 16, 32, 100) if channels % g == 0]
        arguments["groups"] = draw(st.sampled_from([*divisors, -1]))
    else:
        arguments["axes"] = list(
            range(first, draw(st.integers(first, len(shape) - 1)) + 1)
        )
    return (
        (op, shape, draw(st.sampled_from(["float32", "float16", "float64"]))),
        arguments
        | {
            "has_gamma": draw(st.booleans()),
            # A sample has a block or more: too many for a grid in a terabyte.
            "per_sample": elements < 1 << 35
            and not arguments.get("per_position")
            and draw(st.booleans()),
            "residual": draw(st.booleans()),
            "aligned": draw(st.booleans()),
            "device": draw(st.sampled_from(sorted(DEVICES))),
        },
    )


# Blocks of 384 threads, halved until they fill the device: never to half a warp.
ONE_LONG_ROW = (
    ("layer_norm", [1, 12288], "float32"),
    {"axes": [1], "direction": "backward", "device": "a10"},
)

# So many runs that a count of their threads is beyond 2^31.
MANY_RUNS = ("group_norm", [1, 1048576, 65537], "float32")
OF_MANY_RUNS = {"axes": [1], "groups": 4, "has_gamma": True, "device": "a10"}

# Groups that only together are whole accesses: a tile of them all is a line, and wider
# than a block.
WIDE_LINE = ("group_norm", [2, 8, 60, 38], "float16")
OF_WIDE_LINE = {"axes": [2], "groups": 4, "has_gamma": True, "device": "h100"}


@given(problems())
@example(ONE_LONG_ROW)
@example((MANY_RUNS, OF_MANY_RUNS | {"direction": "backward", "aligned": False}))
@example((MANY_RUNS, OF_MANY_RUNS | {"direction": "second_order", "aligned": False}))
@example((WIDE_LINE, OF_WIDE_LINE | {"direction": "forward"}))
@example((WIDE_LINE, OF_WIDE_LINE | {"direction": "backward"}))
@example((WIDE_LINE, OF_WIDE_LINE | {"direction": "second_order"}))
@settings(max_examples=2000, deadline=None)
def test_limits(problem):
    positional, arguments = problem
    candidates = _native.candidates(*positional, **arguments)
    for plan in candidates:
        plan_limits.check(plan, DEVICES[arguments["device"]])
    assert candidates[0] == _native.plan(*positional, **arguments)
    for i, plan in enumerate(candidates):
        assert plan not in candidates[:i]
