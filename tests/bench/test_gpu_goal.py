"""The goal of the CUDA kernels, and the distance of the committed results from it."""

from pathlib import Path

import pytest
from fusednorm.bench import goal, plots, records, shapes, table

ROOT = Path(__file__).resolve().parents[2]
# Lines are broken anywhere.
PAGE = " ".join((ROOT / "docs/gpu_results.md").read_text().split())


@pytest.fixture(scope="module")
def h200():
    return records.read(ROOT / "benchmarks/results/h200/kernels.json")


def distance(
    shape="vit-b", direction="forward", *, limit=97.0, ours=100.0, peer_time=None
):
    peer = None if peer_time is None else "eager"
    return goal.Distance(shape, "bfloat16", direction, limit, ours, peer, peer_time)


def test_families_are_told_by_the_axes():
    families = [goal.family(each.name) for each in shapes.SHAPES]
    assert {name: families.count(name) for name in goal.SHARES} == {
        "rows": 10,
        "channels_first": 4,
        "channels_last": 18,
    }
    assert goal.family("nnunet-32-cf") == "channels_first"
    assert goal.family("mnist-tutorial-ln1") == "channels_last"


def test_unknown_shapes_have_no_goal():
    with pytest.raises(ValueError, match="got 'no-such-shape'"):
        goal.family("no-such-shape")


@pytest.mark.parametrize(
    ("shape", "direction", "wanted"),
    [
        ("vit-b", "forward", 2.5 + 97 / 0.97),
        ("vit-b", "backward", 2.5 + 97 / 0.90),
        ("nnunet-32-cf", "forward", 2.5 + 97 / 0.85),
        ("nnunet-32-cf", "backward", 2.5 + 97 / 0.85),
        ("cyclegan-64", "forward", 2.5 + 97 / 0.80),
        ("mnist-tutorial-ln1", "backward", 2.5 + 97 / 0.75),
    ],
)
def test_goal_is_a_launch_and_a_share_of_a_copy(shape, direction, wanted):
    assert distance(shape, direction).goal == pytest.approx(wanted)


def test_goal_is_never_slower_than_the_best_peer():
    assert distance(peer_time=99.0).goal == 99
    assert distance(peer_time=200.0).goal == pytest.approx(102.5)


def test_a_case_meets_the_goal_or_not():
    assert distance(ours=102.4).met
    assert not distance(ours=102.6).met
    assert not distance(ours=100.0, peer_time=99.0).met


def test_a_peer_beats_us_only_if_it_is_faster():
    assert distance(ours=100.0, peer_time=99.0).beaten
    assert not distance(ours=100.0, peer_time=100.0).beaten
    assert not distance(ours=100.0).beaten


def test_verdict_counts_what_is_met_and_what_is_beaten():
    found = [distance(), distance(peer_time=99.0), distance(ours=200.0)]
    assert goal.verdict(found) == "1 of 3 cases meet the goal; a peer is faster in 1."


def test_the_h200_met_no_goal_and_was_beaten_in_half_of_the_cases(h200):
    found = goal.distances(h200)
    assert len(found) == 128
    assert sum(each.met for each in found) == 0
    assert sum(each.beaten for each in found) == 66
    verdict = "0 of 128 cases meet the goal; a peer is faster in 66."
    assert goal.table(h200).splitlines()[-1] == verdict
    assert verdict in table.render(h200)


def test_what_a_row_of_the_table_says(h200):
    lines = [line.split() for line in goal.table(h200).splitlines()]
    row = ["llama-7b", "bfloat16", "forward", "63.7", "94.7", "67.5", "liger", "67.5"]
    assert [*row, "no"] in lines


def test_the_page_says_what_the_data_says(h200):
    found = goal.distances(h200)
    assert goal.verdict(found).removesuffix(".") in PAGE
    for family, dtype, direction, mean, count in goal.mean_shares(found):
        wanted = goal.SHARES[family][direction]
        cells = (family, dtype, direction, f"{mean:.0%}", f"{wanted:.0%}", str(count))
        assert f"| {' | '.join(cells)} |" in PAGE


def test_the_page_says_in_which_families_peers_are_faster(h200):
    found = goal.distances(h200)
    for family in goal.SHARES:
        beaten = [each.beaten for each in found if each.family == family]
        assert f"| {family} | {len(beaten)} | {sum(beaten)} |" in PAGE


def test_the_page_says_how_often_each_peer_is_faster(h200):
    for peer in ("torch", "torch-compile", "liger"):
        pairs = [
            (case["results"][records.KERNEL], case["results"][peer])
            for case in h200["cases"]
            if peer in case["results"]
        ]
        faster = sum(theirs["median_us"] < ours["median_us"] for ours, theirs in pairs)
        assert f"| {peer} | {len(pairs)} | {faster} |" in PAGE


def test_reports_without_a_copy_kernel_are_still_read(h200):
    text = "\n".join(table.heading(h200))
    assert "copy: 4215.2 GB/s" in text
    assert "memcpy in a graph 2764, memcpy by calls 4215" in text
    assert "copy kernel: missing: this run had none" in text


def test_what_a_line_of_the_report_says(h200):
    headings, *lines = table.rows(h200)
    found = (dict(zip(headings, line, strict=True)) for line in lines)
    line = next(each for each in found if each["shape"] == "llama-7b")
    # The plan of that commit has the name that it had then.
    assert line["scheme"] == "block_rows"
    assert line["kernel us"] == "94.7"
    assert {"torch x", "torch-compile x", "liger x"} <= set(headings)


def test_the_goal_is_drawn(h200, tmp_path):
    names = {path.stem for path in plots.draw_all(h200, tmp_path)}
    assert names == {"share_by_family", "share_of_copy", "best_peer", "peers"}


def test_of_layers_and_of_a_cpu_there_is_no_goal(h200):
    case = h200["cases"][0]
    assert len(goal.distances(h200 | {"cases": [case]})) == 1
    without_plan = {key: value for key, value in case.items() if key != "plan"}
    assert goal.distances(h200 | {"cases": [without_plan]}) == []
    sweep = case | {"shape": "size-1MiB"}
    assert goal.distances(h200 | {"cases": [sweep]}) == []
    both = case | {"pass": "forward+backward"}
    assert goal.distances(h200 | {"cases": [both]}) == []


def test_the_best_peer_of_the_goal_is_one_that_calls_kernels(h200):
    case = next(each for each in h200["cases"] if each["shape"] == "llama-7b")
    keras = {"median_us": 1e-3, "against": "fusednorm-graph"}
    case = case | {"results": case["results"] | {"keras-graph": keras}}
    (found,) = goal.distances(h200 | {"cases": [case]})
    assert found.peer == "liger"
