"""`fusednorm tune` with a fake device and times that a function gives.

What the table says is what the planner does; anything else it could say is ignored, and
said to be.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading

import fusednorm
import keras
import pytest
from fusednorm import _native, cli, info
from fusednorm.tune import command, problems, run, table
from support.canonical import SHAPES, candidates
from support.commands import WITHOUT_TENSORFLOW

DEVICE = _native.known_devices()["h200"] | {"name": "NVIDIA fake"}
NORM = ["--op", "group_norm", "--shape", "2,16,16,1280", "--groups", "32"]
PLANS = {"op": "group_norm", "shape": [2, 16, 16, 1280], "dtype": "bfloat16"}
PLANS |= {"axes": [-1], "groups": 32, "has_gamma": True, "has_beta": True}
PLANS["device"] = DEVICE
RULE_US, FAST_US = 20.0, 10.0


class FakeMachine:
    """Times plans by a function of the number of the plan and of how many there are."""

    device = DEVICE

    def __init__(self, microseconds, errors=lambda number, count: 0.0, stop=None):
        self.microseconds, self.errors, self.stop = microseconds, errors, stop
        self.cases = []

    def measure(self, case):
        if len(self.cases) == self.stop:
            raise KeyboardInterrupt
        self.cases.append(case)
        count = len(case.plans)
        return [
            run.Measured(
                [1e-6 * self.microseconds(number, count)] * 5,
                self.errors(number, count),
            )
            for number in range(count)
        ]


def last_is_fast(number, count):
    return FAST_US if number == count - 1 else RULE_US + number


def first_is_fast(number, count):
    return RULE_US + number


@pytest.fixture(autouse=True)
def no_table():
    """Every test starts and ends without tuned plans."""
    yield
    _native.reload_tuned_table()


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file that FUSEDNORM_TUNED names; there is none yet."""
    path = tmp_path / "cache" / "tuned.tsv"
    monkeypatch.setenv("FUSEDNORM_TUNED", str(path))
    _native.reload_tuned_table()
    yield path
    monkeypatch.setenv("FUSEDNORM_TUNED", "")


@pytest.fixture
def tune(monkeypatch):
    """Runs the command on a fake machine. Returns the exit code and the machine."""

    def tuned(*arguments, microseconds=last_is_fast, **options):
        machine = FakeMachine(microseconds, **options)
        monkeypatch.setattr(command, "Gpu", lambda rounds: machine)
        return cli.main(["tune", *map(str, arguments)]), machine

    return tuned


def chosen(direction="forward", **changes):
    return _native.plan(**(PLANS | {"direction": direction} | changes))


def of_rule(direction="forward", **changes):
    return _native.candidates(**(PLANS | {"direction": direction} | changes))[0]


def fastest(direction="forward", **changes):
    return _native.candidates(**(PLANS | {"direction": direction} | changes))[-1]


# ------------------------------------------------------------ what the planner does


def test_the_table_that_is_written_is_what_the_planner_does(tune, file):
    assert chosen() == of_rule()
    code, machine = tune(*NORM)
    assert code == 0
    assert [case.direction for case in machine.cases] == ["forward", "backward"]
    for direction in ("forward", "backward"):
        assert fastest(direction) != of_rule(direction)
        assert chosen(direction) == fastest(direction)
        tuned = _native.tuned(**PLANS, direction=direction)
        assert tuned["plan"] == fastest(direction)["description"]
        assert tuned["seconds"] == pytest.approx(FAST_US * 1e-6)
        assert tuned["rule_seconds"] == pytest.approx(RULE_US * 1e-6)
        assert not tuned["stale"]
    file.unlink()
    _native.reload_tuned_table()
    assert chosen() == of_rule()
    assert _native.tuned(**PLANS, direction="forward") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [4, 16, 16, 1280]},
        {"shape": [2, 16, 17, 1280]},
        {"groups": 16},
        {"dtype": "float16"},
        {"activation": "silu"},
        {"residual": True},
        {"has_beta": False},
        {"zero_centered": True},
        {"param_dtype": "bfloat16"},
        {"per_sample": True},
        {"aligned": False},
        {"device": DEVICE | {"name": "NVIDIA other"}},
        {"device": DEVICE | {"multiprocessors": 66}},
        {"device": DEVICE | {"max_cluster": 2}},
        {"direction": "backward"},
    ],
)
def test_another_problem_or_device_is_as_it_was(changes, tune, file):
    tune(*NORM, "--direction", "forward")
    assert chosen() == fastest() != of_rule()
    assert chosen(**changes) == of_rule(**changes)


def test_the_same_problem_in_other_words_is_tuned(tune, file):
    """What counts is what the planner sees: [N, P, G, K, Q], and what it looks at."""
    tune(*NORM, "--direction", "forward")
    for changes in (
        {"shape": [2, 256, 1280]},
        {"axes": [3]},
        {"epsilon": 1e-6},
        {"device": DEVICE | {"max_cluster": 8, "bandwidth": 1.0}},
    ):
        assert chosen(**changes) == fastest(**changes) != of_rule(**changes)


def test_every_candidate_has_its_own_description_and_can_be_chosen():
    """On a GPU of each kind, for the canonical shapes."""
    chosen_plans = 0
    for device, dtype, shape, direction in itertools.product(
        ("h200", "t4"), ("bfloat16", "float32"), SHAPES, ("forward", "backward")
    ):
        plans = candidates(shape, dtype, device, direction)
        assert len({plan["description"] for plan in plans}) == len(plans)
    shape = SHAPES[3]
    arguments = problems.canonical(["bfloat16"])[3].arguments
    for plan in candidates(shape, "bfloat16", "h200", "backward"):
        where = {"device": "h200", "direction": "backward"}
        key = _native.tuned_key(**arguments, **where)
        entry = line(key, plan["description"])
        _native.set_tuned_table("x.tsv", f"{table.HEADER}\n{entry}\n")
        assert _native.plan(**arguments, **where) == plan
        chosen_plans += 1
    assert chosen_plans > 3


def line(key, plan):
    return table.line(key, plan, seconds=1e-6, rule_seconds=2e-6, measured="a test")


def test_an_empty_tensor_has_no_tuned_plan(tune, file):
    assert not run.cases([problems.one(op="layer_norm", shape=(0, 64))], DEVICE)
    tune(*NORM)
    assert chosen(shape=[0, 16, 16, 1280])["scheme"] == "empty"


def test_launches_may_ask_while_the_table_is_replaced(tune, file):
    """Whoever asks gets one of the two plans, whole."""
    tune(*NORM, "--direction", "forward")
    text = file.read_text()
    possible = (of_rule(), fastest())
    wrong = []

    def ask():
        for _ in range(300):
            plan = chosen()
            if plan not in possible:
                wrong.append(plan)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for lines in (table.HEADER, text):
            _native.set_tuned_table("x.tsv", lines)
    assert not wrong


# ------------------------------------------------------------ the file


def test_a_plan_that_there_no_longer_is(tune, file, capsys):
    tune(*NORM, "--direction", "forward")
    file.write_text(file.read_text().replace("plan=", "plan=old "))
    _native.reload_tuned_table()
    assert _native.tuned_table() == {"path": str(file), "entries": 1, "error": None}
    assert chosen() == of_rule()
    assert _native.tuned(**PLANS, direction="forward")["stale"]


BROKEN = {
    "": ":1: the file is empty",
    "fusednorm tuned plans, version 2\n": ":1: must be",
    f"{table.HEADER}\nrubbish\n": ":2: a line of tuned plans must have the field",
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_files(text, file, capfd):
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ValueError, match=r"tuned\.tsv:"):
        _native.reload_tuned_table()
    assert f"{file}{BROKEN[text]}" in _native.tuned_table()["error"]
    assert f"fusednorm: {file}{BROKEN[text]}" in capfd.readouterr().err
    assert chosen() == of_rule()


# What is done to a good line, and what the message says of it.
DAMAGE = {
    "a number that is none": (("\tn=2\t", "\tn=two\t"), "a value that fits"),
    "a number that is too large": (("\tn=2\t", f"\tn={2**64}\t"), "a value that fits"),
    "a truth that is none": (("\tgamma=1", "\tgamma=7"), "a value that fits"),
    "an unknown type": (("\tdtype=bfloat16", "\tdtype=int8"), "a value that fits"),
    "a field that is missing": (("\tg=32", ""), "the field g="),
    "a field too many": (("\tmeasured=", "\tmore=1\tmeasured="), "the field measured"),
    "a line that ends early": (("\trule_nanoseconds=2000\tmeasured=a test", ""), "end"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_broken_lines_are_named_and_nothing_is_tuned(damage):
    key = _native.tuned_key(**PLANS, direction="forward")
    good = line(key, fastest()["description"])
    (before, after), message = DAMAGE[damage]
    assert before in good
    text = f"{table.HEADER}\n# A comment.\n{good.replace(before, after)}\n"
    with pytest.raises(ValueError, match=r"^x\.tsv:3: a line of tuned plans") as raised:
        _native.set_tuned_table("x.tsv", text)
    assert message in str(raised.value)
    assert chosen() == of_rule()
    with pytest.raises(ValueError, match=r"^x\.tsv:3: .* repeat"):
        _native.set_tuned_table("x.tsv", f"{table.HEADER}\n{good}\n{good}\n")
    assert chosen() == of_rule()


def test_every_beginning_of_a_file_is_a_file_or_an_error(tune, file):
    """Cut off anywhere, a file makes no plan but the two that there are."""
    tune(*NORM, "--direction", "forward")
    text = file.read_text()
    for end in range(0, len(text), 7):
        with contextlib.suppress(ValueError):
            _native.set_tuned_table("x.tsv", text[:end])
        found = _native.tuned_table()
        assert (found["error"] or "x.tsv:").startswith("x.tsv:")
        assert chosen() in ((fastest(),) if found["entries"] else (of_rule(),))


def test_where_the_file_is(tmp_path):
    """FUSEDNORM_TUNED, else the cache folder; read without being asked to."""
    code = WITHOUT_TENSORFLOW + (
        "from fusednorm import _native; print(_native.tuned_table()['path'])"
    )

    def path(**environment):
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("FUSEDNORM_TUNED", "XDG_CACHE_HOME", "HOME")
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=kept | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "No tuned plans" not in done.stderr
        return done.stdout.strip()

    assert path(HOME="/h") == "/h/.cache/fusednorm/tuned.tsv"
    assert path(HOME="/h", XDG_CACHE_HOME="/c") == "/c/fusednorm/tuned.tsv"
    assert path(HOME="/h", FUSEDNORM_TUNED="/t.tsv") == "/t.tsv"
    assert path(HOME="/h", FUSEDNORM_TUNED="") == "None"


# ------------------------------------------------------------ the command


def test_table_and_progress(tune, file, capsys):
    tune(*NORM)
    out, err = capsys.readouterr()
    header, *rows, last = out.splitlines()
    assert header.split()[:3] == ["problem", "pass", "plans"]
    assert [" 20.0 " in row and " 10.0 " in row and "2.00x" in row for row in rows] == [
        True,
        True,
    ]
    assert last == f"{file} has 2 tuned plans"
    first = err.splitlines()[0]
    assert first.startswith("[1/2] group_norm 2x16x16x1280 groups=32 bfloat16 forward")
    assert "20.0 us by the rule, 10.0 us the fastest" in first


def test_merges(tune, file):
    """Lines of other problems and devices stay; those measured again are replaced."""
    tune(*NORM)
    before = table.read(file)
    renamed = [each.replace("NVIDIA fake", "NVIDIA A") for each in before.values()]
    other = {each.partition("\tplan=")[0]: each for each in renamed}
    table.write(file, before | other)
    tune("--op", "layer_norm", "--shape", "64,197,768")
    assert len(table.read(file)) == 6
    tune(*NORM, "--direction", "forward", microseconds=first_is_fast)
    after = table.read(file)
    assert len(after) == 5
    assert chosen("forward") == of_rule("forward")
    assert chosen("backward") == fastest("backward")
    assert set(other) < set(after)


def test_a_broken_file_is_not_written_over(tune, file, capsys):
    file.parent.mkdir()
    file.write_text("mine\n")
    with pytest.raises(SystemExit) as raised:
        tune(*NORM)
    assert raised.value.code == 2
    assert f"{file}:1: must be" in capsys.readouterr().err
    assert file.read_text() == "mine\n"


def test_interrupted_it_keeps_what_was_measured(tune, file):
    code, _ = tune(*NORM, stop=1)
    assert code == command.INTERRUPTED
    assert len(table.read(file)) == 1
    assert chosen("forward") == fastest("forward")


def test_dry_run_and_output(tune, file, tmp_path, capsys):
    assert tune(*NORM, "--dry-run")[0] == 0
    assert not file.exists()
    assert "stays as it is" in capsys.readouterr().out
    assert chosen() == of_rule()
    elsewhere = tmp_path / "elsewhere.tsv"
    tune(*NORM, "--output", elsewhere)
    assert len(table.read(elsewhere)) == 2
    assert not file.exists()


@pytest.mark.parametrize(
    ("gain", "least", "tuned"), [(1.01, [], 0), (1.01, ["--least-gain=1"], 1)]
)
def test_small_gains_are_not_worth_it(gain, least, tuned, tune, file):
    def microseconds(number, count):
        return 100 if number == count - 1 else 100 * gain

    tune(*NORM, "--direction", "forward", *least, microseconds=microseconds)
    assert len(table.read(file)) == tuned


def test_noise_is_no_gain():
    """The median is better, but rounds overlap."""
    case = run.cases([problems.one(op="layer_norm", shape=(8, 64))], DEVICE)[0]
    noisy = [run.Measured([10, 10, 10, 10]), run.Measured([5, 5, 11, 12])]
    assert run.Result(case, noisy).gain > 1.2
    assert not run.Result(case, noisy).is_tuned()
    clear = [run.Measured([10, 10, 10, 10]), run.Measured([7, 7, 8, 8])]
    assert run.Result(case, clear).is_tuned()


def test_a_wrong_plan_is_reported_and_never_used(tune, file, capsys):
    def errors(number, count):
        return float("nan") if number == count - 1 else 0.5

    code, _ = tune(*NORM, "--direction", "forward", errors=errors)
    assert code == 1
    assert "wrong, and never used: group_norm 2x16x16x1280" in capsys.readouterr().err
    assert not table.read(file)


def test_without_a_gpu_it_says_so(file):
    with pytest.raises(SystemExit, match="tune needs a CUDA device"):
        cli.main(["tune"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--device h100", "--device is for --list"),
        ("--list --device h1000", "--device must be one of a10,"),
        ("--list --op layer_norm", "--op and --shape must be given together"),
        ("--list --op group_norm --shape 2,64", "group_norm needs groups"),
        ("--list --model m.keras --op layer_norm --shape 2,4", "without --op"),
        ("--list --model nowhere.keras", "nowhere.keras"),
    ],
)
def test_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["tune", *arguments.split()])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_list_needs_no_gpu(capsys):
    cli.main(["tune", "--list", "--device", "h100"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == len(SHAPES) * len(problems.DTYPES) * 2
    cli.main(["tune", "--list", *NORM])
    assert len(capsys.readouterr().out.splitlines()) == 3


# ------------------------------------------------------------ the norms of a model


@pytest.fixture
def model(tmp_path):
    """A saved model with Keras's norms and ours, one of them twice."""
    inputs = keras.Input((16, 16, 8))
    x = keras.layers.GroupNormalization(4)(inputs)
    x = keras.layers.Activation("silu")(x)
    x = keras.layers.Conv2D(8, 1, dtype="mixed_float16")(x)
    x = fusednorm.InstanceNormalization(activation="relu", dtype="mixed_float16")(x)
    x = keras.layers.Reshape((256, 8))(x)
    for _ in range(2):
        x = keras.layers.LayerNormalization(center=False, dtype="float32")(x)
    made = keras.Model(inputs, x)
    path = tmp_path / "model.keras"
    made.save(path)
    return path


def test_norms_of_a_model(model, tune, file, capsys):
    found = {each.name: each.arguments for each in problems.of_model(model, 5)}
    assert list(found) == [
        "group_norm 5x16x16x8 groups=4 float32",
        "group_norm 5x16x16x8 groups=-1 relu float16",
        "layer_norm 5x256x8 float32",
    ]
    norm = found["layer_norm 5x256x8 float32"]
    assert (norm["has_gamma"], norm["has_beta"], norm["axes"]) == (True, False, [2])
    fused = problems.of_model(model, 5, fuse=True)
    assert fused[0].name == "group_norm 5x16x16x8 groups=4 silu float32"
    _, machine = tune("--model", model, "--batch", 5)
    # Each problem once, in both directions.
    assert len(machine.cases) == 6


def test_norms_with_a_residual_or_a_condition(tmp_path):
    image, condition = keras.Input((4, 4, 16)), keras.Input((3,))
    x = fusednorm.AdaptiveGroupNormalization(8)([image, condition])
    _, total = fusednorm.RMSNormalization()(x, residual=image)
    path = tmp_path / "model.keras"
    keras.Model([image, condition], total).save(path)
    adaptive, rms = (each.arguments for each in problems.of_model(path, 2))
    assert (adaptive["per_sample"], rms["per_sample"]) == (True, False)
    assert (adaptive["residual"], rms["residual"]) == (False, True)
    assert (rms["op"], rms["has_gamma"], rms["has_beta"]) == ("rms_norm", True, False)


def test_models_that_do_not_say_their_sizes(tmp_path):
    inputs = keras.Input((None, 8))
    path = tmp_path / "model.keras"
    keras.Model(inputs, keras.layers.LayerNormalization()(inputs)).save(path)
    with pytest.raises(ValueError, match=r"must have inputs of known sizes .*None"):
        problems.of_model(path, 2)
    inputs = keras.Input((4, 8))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(path)
    with pytest.raises(ValueError, match="no norm whose sizes are known"):
        problems.of_model(path, 2)


# ------------------------------------------------------------ explain and info


@pytest.fixture
def here(monkeypatch):
    """`explain` takes the fake device for the one that is here."""
    monkeypatch.setattr(_native.cuda, "devices", lambda: [DEVICE])


def test_explain_says_what_is_tuned(tune, file, here, capsys):
    explain = ["explain", *NORM]
    cli.main(explain)
    assert "uned" not in capsys.readouterr().out
    tune(*NORM, "--direction", "forward")
    capsys.readouterr()
    cli.main(explain)
    out = capsys.readouterr().out
    assert out.count("tuned            10.0 us, by the rule 20.0 us: 2.00x") == 1
    assert f"Tuned by {file} for forward on NVIDIA fake (fusednorm " in out
    cli.main([*explain, "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["forward"]["description"] == fastest()["description"]
    assert entry["forward"]["measured"] is None
    assert entry["backward"]["tuned"] is None
    assert entry["tuned_table"]["path"] == str(file)

    file.write_text(file.read_text().replace("plan=", "plan=no "))
    _native.reload_tuned_table()
    cli.main(explain)
    out = capsys.readouterr().out
    assert "has a plan for forward on NVIDIA fake that no longer exists" in out
    assert "by the rule" not in out

    file.write_text("rubbish\n")
    with pytest.raises(ValueError, match=r"tuned\.tsv:1"):
        _native.reload_tuned_table()
    cli.main(explain)
    assert f'{file}:1: must be "{table.HEADER}"' in capsys.readouterr().out


def test_info_says_which_table_is_in_use(tune, file):
    assert info.tuned_in_use() == {"path": str(file), "entries": 0, "error": None}
    tune(*NORM)
    assert info.tuned_in_use()["entries"] == 2
    report = info.collect()
    assert report["cuda"]["tuned"] == info.tuned_in_use()
    assert f"2 in {file}" in info.render(report)
