"""`fusednorm.patch_keras`, and files with the names of other layers."""

import copy
import pathlib
import pickle
import threading

import fusednorm
import keras
import numpy as np
import pytest
from fusednorm.layers.base import Normalization
from support import forks

layers = keras.layers
NAMES = ("GroupNormalization", "LayerNormalization", "RMSNormalization")
# See tests/conversion/test_convert.py.
AGREE = 2.0**-16
every_name = pytest.mark.parametrize("name", NAMES)


def make(kind, **kwargs):
    groups = {"groups": 4} if kind == "GroupNormalization" else {}
    return getattr(layers, kind)(**groups, **kwargs)


def model_of_norms():
    return keras.Sequential([keras.Input((5, 8)), *map(make, NAMES)])


def relative(y, expected):
    y, expected = map(np.asarray, (y, expected))
    return np.abs(y - expected).max() / np.abs(expected).max()


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 5, 8), np.float32)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    yield
    assert [type(make(name)) for name in NAMES] == [getattr(layers, n) for n in NAMES]
    assert all("__new__" not in vars(getattr(layers, name)) for name in NAMES)


@every_name
def test_keras_layers_are_ours_within_it(name):
    with fusednorm.patch_keras():
        layer = make(name, epsilon=0.25, name="mine")
        assert isinstance(layer, getattr(fusednorm, name))
    assert (layer.epsilon, layer.name) == (0.25, "mine")


def test_names_that_were_imported_before_are_patched():
    from keras.layers import GroupNormalization

    with fusednorm.patch_keras():
        assert isinstance(GroupNormalization(), fusednorm.GroupNormalization)


def test_is_a_switch():
    patch = fusednorm.patch_keras()
    assert isinstance(make(NAMES[0]), Normalization)
    patch.undo()
    assert not isinstance(make(NAMES[0]), Normalization)
    patch.undo()


def test_patches_may_overlap():
    first, second = fusednorm.patch_keras(), fusednorm.patch_keras()
    first.undo()
    first.undo()
    assert isinstance(make(NAMES[0]), Normalization)
    second.undo()
    assert not isinstance(make(NAMES[0]), Normalization)


def test_is_undone_when_an_error_leaves_the_block():
    with pytest.raises(KeyError), fusednorm.patch_keras():
        raise KeyError
    assert not isinstance(make(NAMES[0]), Normalization)


def test_holds_for_all_threads_and_ends_with_the_last_of_them():
    kinds, start = [], threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(20):
            with fusednorm.patch_keras():
                kinds.append(isinstance(make(NAMES[1]), Normalization))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds == [True] * 160


def test_subclasses_and_layers_that_exist_are_not_touched(x):
    class Own(layers.LayerNormalization):
        pass

    before = make("LayerNormalization")
    with fusednorm.patch_keras():
        assert type(Own()) is Own
        before(x)
    assert type(before) is layers.LayerNormalization


def test_keras_sees_the_arguments_that_ours_refuse():
    with fusednorm.patch_keras():
        assert type(layers.GroupNormalization(axis=[1, 2])) is layers.GroupNormalization
        with pytest.raises(ValueError, match="invalid value for argument `groups`"):
            layers.GroupNormalization(groups=0)
        with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
            layers.LayerNormalization(no_such="argument")


def test_keras_files_load_with_our_layers(x, tmp_path):
    model = model_of_norms()
    model.compile("adam", keras.losses.MeanSquaredError())
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "old.keras")
    model.save(tmp_path / "old.h5")
    for name in ("old.keras", "old.h5"):
        with fusednorm.patch_keras():
            loaded = keras.models.load_model(tmp_path / name)
        assert all(isinstance(layer, Normalization) for layer in loaded.layers)
        assert relative(loaded(x), model(x)) <= AGREE
        assert int(loaded.optimizer.iterations) == 1


@every_name
def test_masks_go_as_far_as_they_do_in_keras(name):
    embedded = layers.Embedding(4, 8, mask_zero=True)(np.array([[1, 2, 0]]))
    theirs = make(name)(embedded)
    with fusednorm.patch_keras():
        layer = make(name)
    for ours in (layer, type(layer).from_config(layer.get_config())):
        y = ours(embedded)
        assert hasattr(y, "_keras_mask") is hasattr(theirs, "_keras_mask")


def test_models_of_others_are_built_with_our_layers(rng):
    def make():
        return keras.applications.ConvNeXtTiny(
            weights=None, include_top=False, input_shape=(32, 32, 3)
        )

    theirs = make()
    with fusednorm.patch_keras():
        ours = make()
    kinds = [type(layer).__name__ for layer in ours.layers]
    assert kinds == [type(layer).__name__ for layer in theirs.layers]
    norms = [layer for layer in ours.layers if isinstance(layer, Normalization)]
    assert len(norms) == kinds.count("LayerNormalization") > 0
    ours.set_weights(theirs.get_weights())
    x = 255 * rng.random((2, 32, 32, 3), np.float32)
    # Twenty-odd layers make more of the roundings than three.
    assert relative(ours(x), theirs(x)) <= 16 * AGREE


def saved(model, path):
    """Returns what a file of the model loads as."""
    model.save(path)
    return keras.models.load_model(path)


WAYS = {
    "keras": lambda model, folder: saved(model, folder / "model.keras"),
    "h5": lambda model, folder: saved(model, folder / "model.h5"),
    "json": lambda model, _: keras.models.model_from_json(model.to_json()),
    "config": lambda model, _: type(model).from_config(model.get_config()),
    "clone": lambda model, _: keras.models.clone_model(model),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
}


def functional(**options):
    inputs = y = keras.Input((5, 8))
    for name in NAMES:
        y = make(name, **options)(y)
    return keras.Model(inputs, y)


def nested():
    inputs = keras.Input((5, 8))
    inner = functional()
    return keras.Model(inputs, layers.ReLU()(inner(make(NAMES[0])(inner(inputs)))))


def masked():
    inputs = keras.Input((5,))
    y = layers.Embedding(4, 8, mask_zero=True)(inputs)
    for name in NAMES:
        y = make(name)(y)
    return keras.Model(inputs, y)


def with_what_keras_does_not_have():
    return functional(activation="silu")


MODELS = (model_of_norms, functional, nested, masked, with_what_keras_does_not_have)


def kinds_of_norms(model):
    """Returns the classes of the norms of a model, and of those within it."""
    below = [
        kind
        for each in model.layers
        if hasattr(each, "layers")
        for kind in kinds_of_norms(each)
    ]
    return below + [
        type(each) for each in model.layers if "Norm" in type(each).__name__
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model_of", MODELS, ids=lambda each: each.__name__)
def test_models_are_ours_on_every_way_outside(model_of, way, rng, tmp_path):
    with fusednorm.patch_keras():
        model = model_of()
    shape = (3, *model.input_shape[1:])
    x = rng.integers(0, 4, shape).astype(np.float32)
    expected = model(x)
    again = WAYS[way](model, tmp_path)
    again.set_weights(model.get_weights())
    assert set(kinds_of_norms(again)) == {getattr(fusednorm, name) for name in NAMES}
    assert kinds_of_norms(again) == kinds_of_norms(model)
    np.testing.assert_array_equal(again(x), expected)


@pytest.mark.parametrize("way", ["keras", "h5"])
def test_models_loaded_within_it_are_ours_outside(way, x, tmp_path):
    functional().save(tmp_path / "theirs.keras")
    with fusednorm.patch_keras():
        model = keras.models.load_model(tmp_path / "theirs.keras")
    again = WAYS[way](model, tmp_path)
    assert kinds_of_norms(again) == [getattr(fusednorm, name) for name in NAMES]
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
@every_name
def test_layers_are_copied_as_ours(name, copied, x):
    with fusednorm.patch_keras():
        layer = make(name, epsilon=0.25)
    expected = layer(x)
    again = copied(layer)
    assert type(again) is type(layer) is getattr(fusednorm, name)
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(x), expected)


def test_files_load_in_a_process_that_was_never_patched(x, tmp_path):
    with fusednorm.patch_keras():
        model = nested()
    files = [
        str(tmp_path / name) for name in ("model.keras", "model.h5", "model.pickle")
    ]
    model.save(files[0])
    model.save(files[1])
    pathlib.Path(files[2]).write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", model(x))
    code = """
import pathlib, pickle, sys
import fusednorm, keras, numpy as np
folder = pathlib.Path(sys.argv[1])
load = keras.models.load_model
loaded = [load(folder / "model.keras"), load(folder / "model.h5")]
loaded.append(pickle.loads((folder / "model.pickle").read_bytes()))
x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
for model in loaded:
    assert isinstance(model.layers[2], fusednorm.GroupNormalization), model.layers
    np.testing.assert_array_equal(model(x), y)
"""
    forks.output("-c", code, tmp_path)


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_unconverted_they_make_files_that_need_no_fusednorm(file, x, tmp_path):
    with fusednorm.patch_keras():
        model = functional()
    expected = model(x)
    loaded = saved(fusednorm.unconvert(model, verbose=False), tmp_path / file)
    assert kinds_of_norms(loaded) == [getattr(layers, name) for name in NAMES]
    assert relative(loaded(x), expected) <= AGREE


def test_convert_and_unconvert_know_them(x):
    with fusednorm.patch_keras():
        model = model_of_norms()
        expected = model(x)
        fusednorm.unconvert(model, verbose=False)
        assert [type(layer) for layer in model.layers] == [
            getattr(layers, name) for name in NAMES
        ]
    with fusednorm.patch_keras():
        model = model_of_norms()
    fusednorm.convert(model, verbose=False)
    assert model.fusednorm_conversion.replaced == ()
    assert [type(layer) for layer in model.layers] == [
        getattr(fusednorm, name) for name in NAMES
    ]
    assert relative(model(x), expected) <= AGREE


# ---------------------------------------------------------------- Addons' names

# As tf.keras of TensorFlow 2.11 wrote it, of a model that had been built.
COMMON = {
    "trainable": True,
    "dtype": "float32",
    "epsilon": 0.001,
    "center": True,
    "scale": True,
    "beta_initializer": {"class_name": "Zeros", "config": {}},
    "gamma_initializer": {"class_name": "Ones", "config": {}},
    "beta_regularizer": None,
    "gamma_regularizer": None,
    "beta_constraint": None,
    "gamma_constraint": None,
}
ADDONS_MODEL = {
    "name": "sequential",
    "layers": [
        {
            "class_name": "InputLayer",
            "config": {
                "batch_input_shape": [None, 5, 8],
                "dtype": "float32",
                "sparse": False,
                "ragged": False,
                "name": "input_1",
            },
        },
        {
            "class_name": "Addons>GroupNormalization",
            "config": {**COMMON, "name": "group", "groups": 4, "axis": -1},
        },
        {
            "class_name": "Addons>InstanceNormalization",
            "config": {**COMMON, "name": "instance", "groups": 8, "axis": 2},
        },
    ],
}


@pytest.mark.filterwarnings("error:.*`groups` is ignored")
def test_config_of_addons_layers_makes_ours(x):
    model = keras.Sequential.from_config(
        ADDONS_MODEL, custom_objects=fusednorm.custom_objects()
    )
    assert [type(layer) for layer in model.layers] == [
        fusednorm.GroupNormalization,
        fusednorm.InstanceNormalization,
    ]
    assert [layer.groups for layer in model.layers] == [4, -1]
    theirs = keras.Sequential(
        [
            keras.Input((5, 8)),
            layers.GroupNormalization(4),
            layers.GroupNormalization(-1, axis=2),
        ]
    )
    theirs.set_weights(model.get_weights())
    assert relative(model(x), theirs(x)) <= AGREE


def test_file_with_addons_names_loads(x, tmp_path):
    register = keras.saving.register_keras_serializable("Addons")

    @register
    class GroupNormalization(layers.GroupNormalization):
        pass

    model = keras.Sequential([keras.Input((5, 8)), GroupNormalization(4)])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
    del keras.saving.get_custom_objects()["Addons>GroupNormalization"]
    for name in ("model.keras", "model.h5"):
        loaded = keras.models.load_model(
            tmp_path / name, custom_objects=fusednorm.custom_objects()
        )
        assert type(loaded.layers[0]) is fusednorm.GroupNormalization
        assert relative(loaded(x), model(x)) <= AGREE
