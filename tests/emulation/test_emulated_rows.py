"""The kernels of rows and of long rows: every line of the table of instances."""

import dataclasses
import itertools

import numpy as np
import pytest
from support.emulation.emulated_norms import (
    DTYPES,
    H200,
    LONELY,
    SMALL,
    T4,
    Device,
    Options,
    all_plans,
    backward,
    candidate_of,
    check,
    draw,
    forward,
    plan,
)
from support.emulation.kernel_cases import (
    ROWS,
    compiled_rows,
    group,
    instance_of,
    layer,
    name_of,
    rms,
    same_bits,
)

# float64 has the general instances alone.
INSTANCES = [
    (np.dtype(dtype), which, instance)
    for dtype in (np.float32, np.float16, np.float64)
    for which in ("forward", "backward")
    for instance in sorted(compiled_rows(dtype, which))
]
# The short ones first, and those that leave lanes without an access.
LENGTHS = [24, 17, 72, 96, 176, 256, 330, 520, 768, 1000, 1536, 2051, 2304, 3080, 4104]
LENGTHS += [4109, 8192, 12280]


def name_of_instance(value):
    if isinstance(value, tuple):
        general, wide, vectors, block = value
        name = ("general_" if general else "") + ("wide" if wide else "single")
        return f"{name}{vectors}{'block' if block else 'lanes'}"
    return str(value)


def reached(emulated, dtype, which, instance, options, device=SMALL):
    """Returns a shape of a few rows and the options that reach an instance."""
    options = dataclasses.replace(options, beta=not instance[0], narrow=instance[0])
    for length in LENGTHS:
        shape = (11 if length < 1000 else 5, length)
        chosen = candidate_of(
            emulated,
            layer(),
            shape,
            dtype,
            device,
            options,
            which,
            lambda made: instance_of(made) == instance,
        )
        if chosen is not None:
            return shape, chosen
    raise AssertionError(f"no case reaches {which} {instance} of {dtype}")


each_instance = pytest.mark.parametrize(
    ("dtype", "which", "instance"), INSTANCES, ids=name_of_instance
)


@each_instance
def test_in_place_and_in_any_order_of_threads(emulated, dtype, which, instance, rng):
    """A tensor may take the place of another; the bits stay as they are."""
    options = Options(residual=True, statistics=True)
    shape, options = reached(emulated, dtype, which, instance, options)
    data = draw(layer(), shape, dtype, options, rng)
    orders = [dataclasses.replace(options, order=order) for order in (0, 1, 11)]
    _, outputs = forward(emulated, layer(), data, SMALL, options)
    if which == "forward":
        run, expected = forward, outputs
        ways = [{}, {"y": "x", "sum": "residual"}, {"y": "residual", "sum": "x"}]
        given = (data,)
    else:
        _, expected = backward(emulated, layer(), data, outputs, SMALL, options)
        run = backward
        ways = [{"dx": "x"}, {"dx": "dy"}, {"dx": "dsum"}]
        given = (data, outputs)
    for each, places in zip(orders, ways, strict=True):
        _, got = run(emulated, layer(), *given, SMALL, each, places)
        same_bits(got, expected)


@each_instance
def test_rows_know_nothing_of_each_other(emulated, dtype, which, instance):
    """Of constant rows, each with another value, between NaN and infinity."""
    options = Options()
    shape, options = reached(emulated, dtype, which, instance, options)
    rng = np.random.default_rng(0)
    data = draw(layer(), shape, dtype, options, rng)
    rows = shape[0]
    constants = np.arange(1, rows + 1) * 37.3
    constants[3] = np.finfo(dtype).max  # of which no sum of two is finite
    data["x"][:] = constants[:, None].astype(dtype)
    data["x"][0, 0] = np.nan
    data["x"][2, -1] = np.inf
    _, got = forward(emulated, layer(), data, SMALL, options)
    _, gradients = backward(emulated, layer(), data, got, SMALL, options)
    good = np.ones(rows, bool)
    good[[0, 2]] = False
    beta = np.zeros(shape[1], dtype) if data["beta"] is None else data["beta"]
    np.testing.assert_array_equal(
        got["y"][good], np.broadcast_to(beta.astype(dtype), shape)[good]
    )
    np.testing.assert_array_equal(got["mean"][good], data["x"][good, 0])
    assert not np.isfinite(got["mean"][~good]).any()
    assert np.isnan(got["y"][~good]).any(1).all()
    np.testing.assert_array_equal(np.isfinite(gradients["dx"]).all(1), good)


@pytest.mark.parametrize(
    ("dtype", "which", "instance"),
    [each for each in INSTANCES if each[0] == np.float32],
    ids=name_of_instance,
)
def test_a_mean_far_from_zero(emulated, dtype, which, instance, rng):
    options = Options(statistics=True)
    shape, options = reached(emulated, dtype, which, instance, options)
    check(emulated, layer(), shape, dtype, rng, SMALL, options, shift=3000.0)


@each_instance
def test_one_row(emulated, dtype, which, instance, rng):
    options = Options(residual=True, statistics=True, order=1)
    shape, options = reached(emulated, dtype, which, instance, options)
    check(emulated, layer(), (1, shape[1]), dtype, rng, SMALL, options)


# Rows that more than one round of a grid takes, the last one only partly.
@pytest.mark.parametrize(
    ("norm", "shape", "dtype", "options"),
    [
        (layer(), (8300, 4), np.float32, Options()),
        (layer(), (1100, 64), np.float32, Options(residual=True)),
        (layer(), (1101, 64), np.float32, Options(residual=True, narrow=True)),
        (rms(), (701, 96), DTYPES[2], Options(residual=True, statistics=True)),
        (rms(), (600, 50), np.float16, Options(offset=1)),
    ],
    ids=name_of,
)
def test_more_rows_than_a_grid_has_at_a_time(
    emulated, norm, shape, dtype, options, rng
):
    check(emulated, norm, shape, dtype, rng, LONELY, options)
    # What a round has written, no other one reads.
    data = draw(norm, shape, np.dtype(dtype), options, rng)
    _, expected = forward(emulated, norm, data, LONELY, options)
    _, got = forward(emulated, norm, data, LONELY, options, {"y": "x"})
    same_bits(got, expected)
    _, gradients = backward(emulated, norm, data, expected, LONELY, options)
    _, got = backward(emulated, norm, data, expected, LONELY, options, {"dx": "dy"})
    same_bits(got, gradients)


# `columns`: rows that are no multiple of those at a time, more than warps; pieces with
# fewer accesses than others, more of them than lanes; threads without a column; several
# chunks of rows, the last one shorter.
LONG_ROWS = [
    (layer(), (1, 2304), SMALL),
    (layer(), (11, 2304), SMALL),
    (rms(), (6, 4120), SMALL),
    (layer(), (2, 40008), Device(multiprocessors=5)),
    (rms(), (1, 81000), Device(multiprocessors=4)),
    (layer(), (70, 2304), Device(multiprocessors=9)),
]
LONG_OPTIONS = [
    Options(residual=True, statistics=True),
    Options(alone="gamma", order=1),
    Options(alone="beta", residual=True, order=11),
    Options(beta=False, statistics=True),
]


@pytest.mark.parametrize(
    ("norm", "shape", "device", "options", "dtype"),
    # Each case with each option, and both with each type.
    [
        (*case, options, DTYPES[(i + j) % 3])
        for (i, case), (j, options) in itertools.product(
            enumerate(LONG_ROWS), enumerate(LONG_OPTIONS)
        )
    ],
    ids=name_of,
)
def test_long_rows(emulated, norm, shape, device, options, dtype, rng):
    if not norm.centred and options.alone == "beta":
        options = dataclasses.replace(options, alone="gamma")
    check_columns(emulated, norm, shape, dtype, rng, device, options, general=0)


# What only the general instances of `columns` take: with chunks of the rows of a
# sample, with groups that have no parameters, with single elements.
LONG_GENERAL = [
    (layer(activation="gelu"), (5, 2304), Options(residual=True, statistics=True)),
    (layer(zero_centered=True), (70, 1100), Options(offset=1)),
    (layer(per_sample=True), (3, 40, 1100), Options(statistics=True)),
    (layer(per_sample=True, activation="silu"), (2, 3, 2050), Options(narrow=True)),
    (layer(per_sample=True), (5, 2304), Options(residual=True)),
    (rms(zero_centered=True), (40, 2304), Options(narrow=True, residual=True)),
    (rms(activation="relu"), (2, 2051), Options(params=False)),
    (group(3), (4, 2400), Options(gamma=False, beta=False)),
    (layer(activation="tanh"), (3, 2304), Options(alone="gamma")),
]


@pytest.mark.parametrize(
    ("norm", "shape", "options", "dtype"),
    # Each case with two types.
    [
        (*case, DTYPES[(i + j) % 4])
        for (i, case), j in itertools.product(enumerate(LONG_GENERAL), (0, 3))
    ],
    ids=name_of,
)
def test_long_rows_in_general(emulated, norm, shape, options, dtype, rng):
    device = Device(multiprocessors=9)
    check_columns(emulated, norm, shape, dtype, rng, device, options, general=1)


def check_columns(emulated, norm, shape, dtype, rng, device, options, general):
    """Holds backward by `columns` to the bounds, in place too."""
    chosen = candidate_of(
        emulated,
        norm,
        shape,
        dtype,
        device,
        options,
        "backward",
        lambda made: made["scheme"] == "columns",
    )
    assert chosen is not None
    (_, made), _ = check(emulated, norm, shape, dtype, rng, device, chosen)
    assert made["scheme"] == "columns"
    assert made["geometry"]["general"] == general
    # dx may take the place of what each thread has read before it writes there.
    data = draw(norm, shape, np.dtype(dtype), chosen, rng)
    _, outputs = forward(emulated, norm, data, device, chosen)
    _, expected = backward(emulated, norm, data, outputs, device, chosen)
    for place in ["dy", "x"] + ["dsum"] * options.residual:
        places = {"dx": place}
        _, got = backward(emulated, norm, data, outputs, device, chosen, places)
        same_bits(got, expected)


def test_the_long_rows_are_hard(emulated):
    """Some have more pieces than a warp has lanes, and one piece is shorter.

    There is one chunk of all rows, and several of which one is shorter.
    """
    pieces, chunks = set(), set()
    for norm, shape, device in LONG_ROWS:
        for made in all_plans(
            emulated, norm, shape, np.float32, device, which="backward"
        ):
            if made["scheme"] != "columns":
                continue
            geometry = made["geometry"]
            accesses = shape[1] // geometry["width"]
            whole = accesses == geometry["pieces"] * geometry["piece"]
            pieces.add((geometry["pieces"] > 32, whole))
            chunks.add((geometry["chunks"] > 1, shape[0] % geometry["chunk_rows"] > 0))
    assert {(True, False), (False, True)} <= pieces
    assert {(False, False), (True, True)} <= chunks


def test_constants_of_rows_find_shared_memory(emulated):
    """A kernel gets so much of it without asking: a chunk has no more rows."""
    for rows, chunks in ((1024, 1), (1025, 2)):
        plans = all_plans(
            emulated, layer(), (rows, 8), np.float32, LONELY, which="backward"
        )
        (of_columns,) = [made for made in plans if made["scheme"] == "columns"]
        assert of_columns["geometry"]["chunks"] == chunks


@pytest.mark.parametrize("alone", ["gamma", "beta"])
@pytest.mark.parametrize(
    ("norm", "shape", "dtype"),
    [
        (layer(), (11, 72), np.float32),
        (layer(), (11, 96), DTYPES[2]),
        (layer(), (3, 1600), np.float16),
        (layer(), (11, 65), np.float32),
        (layer(), (3, 2051), DTYPES[2]),
        (group(5), (6, 10), np.float32),
        (group(-1, 1), (3, 8, 64), np.float32),
        (group(2, 1), (2, 6, 72), np.float16),
        (group(3), (2, 20, 24), np.float32),
    ],
    ids=name_of,
)
def test_one_gradient_alone(emulated, norm, shape, dtype, alone, rng):
    many = plan(emulated, norm, shape, dtype, which="backward")["candidates"]
    for candidate in range(many):
        options = Options(alone=alone, candidate=candidate)
        _, got = check(emulated, norm, shape, dtype, rng, options=options)
        assert (got["dgamma"] is None) == (alone == "beta")
        assert (got["dbeta"] is None) == (alone == "gamma")


# What the specialised instances of `rows` do not know of rows that they would take
# otherwise.
PARTS = group(1, 1)  # one gamma for each run of elements
GENERAL = [
    (group(2), (9, 128), Options(), "both"),
    (PARTS, (5, 4, 32), Options(params=False), "both"),
    (layer(per_sample=True), (3, 3, 64), Options(), "both"),
    (layer(zero_centered=True), (9, 64), Options(), "both"),
    (layer(activation="relu"), (9, 64), Options(), "both"),
    (layer(), (9, 64), Options(gamma=False), "both"),
    (layer(), (9, 64), Options(beta=False), "forward"),
    (layer(), (9, 64), Options(narrow=True), "both"),
    (layer(), (9, 64), Options(offset=1), "both"),
    (layer(), (9, 65), Options(), "both"),
]
# Long ones, which `columns` may take.
GENERAL += [
    (norm, (*shape[:-1], 2048 // (shape[1] if norm is PARTS else 1)), options, passes)
    for norm, shape, options, passes in GENERAL[:-1]
]


@pytest.mark.parametrize(("norm", "shape", "options", "passes"), GENERAL, ids=name_of)
def test_the_general_instances(emulated, norm, shape, options, passes, rng):
    for which in ("forward", "backward") if passes == "both" else (passes,):
        plans = all_plans(emulated, norm, shape, np.float16, SMALL, options, which)
        for candidate, made in enumerate(plans):
            assert made["scheme"] == "stream" or made["geometry"]["general"] == 1
            chosen = dataclasses.replace(options, candidate=candidate)
            check(emulated, norm, shape, np.float16, rng, options=chosen)


@pytest.mark.parametrize(
    ("norm", "shape", "options", "which"),
    [
        (layer(), (9, 64), Options(residual=True, statistics=True), "forward"),
        (layer(), (9, 64), Options(residual=True, statistics=True), "backward"),
        (layer(), (9, 64), Options(beta=False), "backward"),
        (rms(), (9, 64), Options(), "forward"),
        (group(1), (9, 64), Options(), "forward"),
        (layer(per_position=True), (1, 64), Options(params=False), "backward"),
    ],
    ids=name_of,
)
def test_the_specialised_instances(emulated, norm, shape, options, which):
    for dtype in DTYPES[:3]:
        made = plan(emulated, norm, shape, dtype, SMALL, options, which)
        assert made["geometry"]["general"] == 0, dtype


def test_one_group_of_a_sample_with_a_mask(emulated, rng):
    """It is a row with one gamma an element; no scheme of those knows of masks."""
    options = Options(mask=True)
    for which in ("forward", "backward"):
        for candidate, made in enumerate(
            all_plans(emulated, group(1), (3, 2304), np.float32, SMALL, options, which)
        ):
            assert made["scheme"] == "stream"
            chosen = dataclasses.replace(options, candidate=candidate)
            check(emulated, group(1), (3, 2304), np.float32, rng, options=chosen)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("device", [T4, H200], ids=["t4", "h200"])
def test_plans_of_large_devices_keep_their_limits(emulated, device, dtype):
    """`plan` asserts that the device would launch each candidate."""
    seen = set()
    for shape, (norm, options), which in itertools.product(
        [*ROWS, (1, 8), (40_000, 16), (4096, 4096), (2, 1 << 20), (1 << 20, 12)],
        [
            (layer(), Options(residual=True)),
            (rms(), Options(params=False)),
            (layer(), Options(narrow=True, offset=1)),
        ],
        ("forward", "backward"),
    ):
        plans = all_plans(emulated, norm, shape, dtype, device, options, which)
        seen |= {instance_of(made) for made in plans}
    assert seen >= compiled_rows(dtype, "forward") | compiled_rows(dtype, "backward")


@pytest.mark.parametrize("device", [T4, H200], ids=["t4", "h200"])
@pytest.mark.parametrize(
    ("norm", "shape", "dtype"),
    [
        (layer(), (300, 96), DTYPES[2]),
        (rms(), (70, 768), np.float16),
        (layer(), (9, 4096), np.float32),
        (layer(), (2, 12288), DTYPES[2]),
    ],
    ids=name_of,
)
def test_values_with_the_plans_of_large_devices(
    emulated, norm, shape, dtype, device, rng
):
    check(emulated, norm, shape, dtype, rng, device, Options(statistics=True))
