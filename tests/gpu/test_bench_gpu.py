"""`fusednorm bench` on a GPU: everything runs, is verified and is reported."""

import pytest
from support.gpu import requirements

if reason := requirements.missing_torch():
    pytest.skip(reason, allow_module_level=True)

import torch
from fusednorm import cli
from fusednorm.bench import cases, data, launches, records, torch_functions, verify
from fusednorm.bench.competitors import base, pytorch
from fusednorm.bench.shapes import Shape

pytestmark = pytest.mark.gpu
on_a_gpu = pytest.mark.skipif(
    requirements.missing() is not None, reason=str(requirements.missing())
)

SHAPES = {
    "group_norm": Shape("gn", "group_norm", (3, 5, 4, 6), (-1,), 3, "silu"),
    "channels_first": Shape("gn-cf", "group_norm", (3, 6, 5, 4), (1,), 2, "relu"),
    "instance_norm": Shape("in", "group_norm", (3, 5, 4, 6), (-1,), -1, "leaky_relu"),
    "axis 1": Shape("ln1", "layer_norm", (4, 8, 5, 3), (1,)),
    "residual": Shape("rms-residual", "rms_norm", (6, 11), residual=True),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_tensors_of_pytorch_are_verified_where_they_are(name, dtype):
    case = cases.Case(SHAPES[name], SHAPES[name].shape, dtype)
    made = data.Data(case, 2**14, device=DEVICE)
    exact = verify.Exact(made)
    assert exact.complete
    peer = pytorch.by_autograd(
        "torch", pytorch.Tensors(made, DEVICE), torch_functions.eager
    )
    got = peer.outputs(peer.both(0))
    errors = exact.errors(got)
    assert set(errors) >= {"y", "dx", "dgamma"}
    assert max(errors.values()) <= 1
    got.dx[1] += 0.5
    assert exact.errors(got)["dx"] > 1
    # In NumPy it is the same.
    for each in made.sets:
        for field in ("x", "dy", "residual", "dsum"):
            tensor = getattr(each, field)
            if tensor is not None:
                setattr(each, field, data.to_numpy(tensor))
    made.device = None
    in_numpy = verify.Exact(made).outputs
    torch.testing.assert_close(
        exact.outputs.dx.cpu(), torch.from_numpy(in_numpy.dx), rtol=0, atol=1e-11
    )


@on_a_gpu
def test_kernels_are_timed_in_graphs_beside_a_copy(tmp_path):
    arguments = ["--suite", "kernels", "--shapes", "vit-b,llama-7b"]
    arguments += ["--dtype", "bfloat16", "--out", str(tmp_path)]
    assert cli.main(["bench", "--device", "gpu", *arguments]) == 0
    report = records.read(tmp_path / "kernels.json")
    assert not report["failed"]
    assert not report["cut"]
    assert len(report["cases"]) == 4
    for case in report["cases"]:
        assert case["plan"]["launches"]
        assert case["wrong"] == []
        for name in (base.KERNEL, "torch", "copy"):
            assert case["results"][name]["method"] == "graph", name


@on_a_gpu
def test_a_norm_of_rows_is_one_kernel():
    (case,) = cases.cases_of(
        cases.SUITES["launch"], names=["launch-ln-64KiB"], scale=False
    )
    from fusednorm.bench.competitors import cuda

    ours = cuda.kernel(pytorch.Tensors(data.Data(case, 0, device="cuda"), "cuda"))
    ours.forward(0)
    count = launches.count(lambda: ours.forward(0), torch.cuda.synchronize, by="torch")
    assert count == 1
