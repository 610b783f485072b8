"""`fusednorm.patch_keras`, and files with the names of other layers."""

import threading

import fusednorm
import keras
import numpy as np
import pytest
from fusednorm.layers.base import Normalization

layers = keras.layers
NAMES = ("GroupNormalization", "LayerNormalization", "RMSNormalization")
# See tests/test_convert.py.
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


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_files_saved_with_them_need_no_fusednorm(file, x, tmp_path):
    with fusednorm.patch_keras():
        model = model_of_norms()
    model.save(tmp_path / file)
    loaded = keras.models.load_model(tmp_path / file)
    assert [type(layer) for layer in loaded.layers] == [
        getattr(layers, name) for name in NAMES
    ]
    assert relative(loaded(x), model(x)) <= AGREE


def test_what_keras_does_not_have_is_not_lost_in_a_file(x, tmp_path):
    with fusednorm.patch_keras():
        model = keras.Sequential([layers.LayerNormalization(activation="silu")])
    expected = model(x)
    model.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match="activation"):
        keras.models.load_model(tmp_path / "model.keras")
    with fusednorm.patch_keras():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), expected)


def test_they_clone_outside(x):
    with fusednorm.patch_keras():
        model = model_of_norms()
    clone = keras.models.clone_model(model)
    assert all(isinstance(layer, Normalization) for layer in clone.layers)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


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
