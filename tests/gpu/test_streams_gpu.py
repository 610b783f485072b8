"""Streams, threads, devices and CUDA graphs; the same bits every time."""

import threading

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from support.gpu import on_torch
from support.gpu.cases import CASES, group_norm, layer_norm
from support.gpu.checks import assert_same_bits, check
from support.gpu.runs import problem_data, run, tensors

pytestmark = pytest.mark.gpu

# Long enough that a missing order shows: some milliseconds.
DELAY_CYCLES = 20_000_000
NORM, SHAPE = group_norm(32, activation="silu"), (2, 64, 64, 320)


def data_on(device):
    generator = torch.Generator(device=device).manual_seed(3)
    return problem_data(NORM, SHAPE, torch.bfloat16, generator, residual=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_twenty_runs_give_the_same_bits(case, dtype, generator):
    norm, shape = CASES[case]
    data = problem_data(norm, shape, dtype, generator, residual=True)
    expected = run(norm, data)
    for _ in range(20):
        assert_same_bits(run(norm, data), expected)


def test_runs_in_the_order_of_its_stream(generator):
    data = data_on("cuda")
    x = data.x.clone()
    expected = run(NORM, data)
    data.x.zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Only work on this very stream waits for the copy that follows the delay.
        torch.cuda._sleep(DELAY_CYCLES)
        data.x.copy_(x)
        got = run(NORM, data)
    stream.synchronize()
    assert_same_bits(got, expected)


def test_a_given_stream_is_used_whatever_is_current(generator):
    data = data_on("cuda")
    expected = run(NORM, data)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    out = on_torch.new_forward(NORM, data.x, data.residual)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(DELAY_CYCLES)
    on_torch.forward(
        NORM, data.x, data.gamma, data.beta, data.residual, out=out, stream=stream
    )
    done = torch.cuda.Event()
    done.record(stream)
    assert not done.query(), "the kernels did not wait for what was on the stream"
    torch.cuda.synchronize()
    assert torch.equal(out.y, expected.y)


def test_two_streams_at_once(generator):
    datas = [data_on("cuda"), data_on("cuda")]
    datas[1].x += 1
    expected = [run(NORM, data) for data in datas]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    got = [[], []]
    for _ in range(20):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                got[i].append(run(NORM, datas[i]))
    torch.cuda.synchronize()
    for i in range(2):
        for each in got[i]:
            assert_same_bits(each, expected[i])


def test_threads_at_once(generator):
    names = ["rows of 40001", "channels last, one group", "channels first", "columns"]
    problems = []
    for name in names:
        norm, shape = CASES[name]
        data = problem_data(norm, shape, torch.float32, generator, residual=True)
        problems.append((norm, data, run(norm, data)))
    torch.cuda.synchronize()
    failures = []
    start = threading.Barrier(2 * len(problems))

    def work(norm, data, expected):
        try:
            stream = torch.cuda.Stream()
            start.wait()
            with torch.cuda.stream(stream):
                results = [run(norm, data) for _ in range(20)]
            stream.synchronize()
            for result in results:
                assert_same_bits(result, expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=each) for each in problems * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


# A graph takes the whole sequence: workspaces are allocated on the stream.
@pytest.mark.parametrize("case", CASES)
def test_cuda_graphs(case, generator):
    norm, shape = CASES[case]
    data = problem_data(norm, shape, torch.float32, generator, residual=True)
    expected = run(norm, data)
    x = data.x.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = run(norm, data)
    for tensor in tensors(got).values():
        tensor.fill_(torch.nan)
    data.x.zero_()
    graph.replay()
    data.x.copy_(x)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(got, expected)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_results_in_the_place_of_inputs(case, residual, generator):
    norm, shape = CASES[case]
    data = problem_data(norm, shape, torch.float32, generator, residual=residual)
    expected = run(norm, data)
    total = expected.sum if residual else data.x.clone()

    out = on_torch.new_forward(norm, data.x, data.residual)
    out.y = data.x
    out.sum = data.residual
    on_torch.forward(norm, data.x, data.gamma, data.beta, data.residual, out=out)
    assert torch.equal(out.y, expected.y)
    assert not residual or torch.equal(out.sum, expected.sum)

    for place in ["dy", "x", "dsum"][: 3 if residual else 2]:
        inputs = {"dy": data.dy.clone(), "x": total.clone(), "dsum": data.dsum}
        if residual:
            inputs["dsum"] = data.dsum.clone()
        gradients = on_torch.new_backward(total, data.gamma, data.beta)
        gradients.dx = inputs[place]
        on_torch.backward(
            norm,
            inputs["dy"],
            inputs["x"],
            expected.mean,
            expected.rstd,
            data.gamma,
            data.beta,
            dsum=inputs["dsum"],
            out=gradients,
        )
        for name in ("dx", "dgamma", "dbeta"):
            ours, theirs = getattr(gradients, name), getattr(expected, name)
            assert ours is None or torch.equal(ours, theirs), (place, name)


def test_gradients_that_nobody_wants_are_not_computed(generator):
    norm, shape = layer_norm(), (300, 512)
    data = problem_data(norm, shape, torch.float32, generator)
    expected = run(norm, data)
    got = on_torch.backward(
        norm,
        data.dy,
        data.x,
        expected.mean,
        expected.rstd,
        data.gamma,
        data.beta,
        params=False,
    )
    assert got.dgamma is None
    assert got.dbeta is None
    assert torch.equal(got.dx, expected.dx)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_the_device_of_the_tensors_is_used():
    data = data_on("cuda:1")
    assert torch.cuda.current_device() == 0
    with torch.cuda.device(1):
        got = run(NORM, data)
        check(NORM, data, got)
