"""Breaks the kernels in one place at a time: the tests have to notice each.

Usage: python tests/emulation/mutate.py [--jobs N] [--only WORD] [--table FILE]

Each is tried without the sanitizers, which takes a fifth of the time, and with them if
nothing has noticed. Prints the mutants and what has caught each; the exit status is 1
if one was not.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import compiling


@dataclass(frozen=True)
class Mutant:
    """A text in a file and what to put in its place."""

    file: str
    old: str
    new: str
    which: int = 0  # of the places where the text is

    def __str__(self):
        return f"{self.file}: {' '.join(self.old.split())!r} #{self.which}"


def barriers(file, count, text="device::SyncBlock();"):
    """Returns mutants that each leave out one of `count` barriers."""
    return [Mutant(file, text, "", which) for which in range(count)]


TESTS = [
    Path(__file__).with_name(name)
    for name in (
        "test_kernels.py",
        "test_emulated_mean.py",
        "test_emulated_second_order.py",
        "test_emulated_positions.py",
    )
]

TEAM, TILE = "team.cuh", "tile.cuh"
FORWARD, BACKWARD = "rows_forward.cuh", "rows_backward.cuh"
SPLIT, SPLIT_BACK = "split_rows_forward.cuh", "split_rows_backward.cuh"
TILE_FORWARD, TILE_BACK = "tile_forward.cuh", "tile_backward.cuh"
SPLIT_TILE, TILE_AFFINE = "split_tile_forward.cuh", "tile_affine.cuh"
MASK, MOMENTS = "mask.cuh", "moments.cuh"
RUNS, AFFINE, PARAMS = "runs.cuh", "affine.cuh", "param_sums.cuh"
SECOND, SECOND_ROWS = "second_order_sums.cuh", "second_order_rows.cuh"
FORMULA = "../csrc/core/second_order.h"
SECOND_RUNS, SECOND_TILE = "second_order_runs.cuh", "second_order_tile.cuh"
CLUSTER_END = "if (cluster > 1) device::SyncCluster();"

MUTANTS = [
    # Barriers.
    *barriers(TEAM, 1),
    Mutant(TEAM, "device::SyncCluster();\n    const bool", "const bool"),
    *barriers(TEAM, 1, "if (cluster_ > 1) device::SyncCluster();"),
    *barriers(TILE, 3),
    Mutant(TILE, "device::SyncCluster();", "device::SyncBlock();"),
    *barriers(TILE_FORWARD, 1, CLUSTER_END),
    *barriers(TILE_BACK, 1, CLUSTER_END),
    *barriers(BACKWARD, 1),
    *barriers(PARAMS, 2),
    *barriers(RUNS, 1, "team.Finish();"),
    *barriers(SECOND, 2),
    *barriers(SECOND_TILE, 2),
    # Sums that lie over x and are written before others have read its first element.
    Mutant(SPLIT, "if (args.sum != nullptr) device::SyncBlock();", ""),
    Mutant(TEAM, "parity_ ^= 1;", ""),
    Mutant(TILE, "parity_ ^= 1;", ""),
    # Long chains of additions.
    Mutant(TILE, "kRowsOfSum = 16;", "kRowsOfSum = 1024;"),
    Mutant(
        FORWARD,
        "sum += PairwiseSum(values);",
        "for (int e = 0; e < kWidth; ++e) sum += values[e];",
        1,
    ),
    # Bounds and tails.
    Mutant("held_row.cuh", "return At(j) < length;", "return At(j) <= length;"),
    Mutant("held_row.cuh", "length + size * kWidth - 1", "length"),
    Mutant(FORWARD, "first < args.rows.count;", "first < args.rows.count - 1;"),
    Mutant(FORWARD, "row < args.rows.count;", "row <= args.rows.count;"),
    Mutant(BACKWARD, "slot < args.slots && row <", "row <"),
    Mutant(BACKWARD, "sets.Remainder(row) >= team.team()", "sets.divisor() > 0"),
    Mutant(BACKWARD, "sets.Remainder(*row) >= args.slots", "sets.divisor() > 0"),
    Mutant(BACKWARD, "if (i >= length) continue;", ""),
    Mutant(SPLIT, "left < args.slice ? left : args.slice", "args.slice"),
    Mutant(SPLIT, "at.slice == 0 && ", "at.slice == 1 && "),
    Mutant(TILE, "left < tiles.slab_rows ? left", "left < 0 ? left"),
    Mutant(TILE, "end - first_lane < tiles.lanes", "end < 0"),
    Mutant(TILE, "thread_row < thread_rows && lane < lanes", "lane < lanes"),
    Mutant(RUNS, "if (i >= end) break;", "", 0),
    Mutant(RUNS, "q - inside < args.piece ? q - inside : args.piece", "args.piece"),
    Mutant(PARAMS, "warp != 0 || param >= params.params", "warp != 0"),
    Mutant(
        PARAMS, "for (int i = 1; i < warps; ++i)", "for (int i = 2; i < warps; ++i)"
    ),
    Mutant(SECOND_ROWS, "slot < args.slots && row < args.rows.count", "slot < 1 << 30"),
    Mutant(SECOND_ROWS, "left < args.slice ? left : args.slice", "args.slice"),
    Mutant(SECOND_ROWS, " || team.slot >= args.slots", ""),
    Mutant(SECOND_ROWS, "if (!access.Has(j)) return;", ""),
    Mutant(SECOND_ROWS, "team.slice == 0 && ", "team.slice == 1 && "),
    Mutant(SECOND_RUNS, "i < end; i += step", "i <= end; i += step"),
    Mutant(SECOND_RUNS, "row < args.rows.count; row +=", "row < 1; row +="),
    Mutant(SECOND_TILE, "tile.slab == 0 && tile.part == 0", "tile.slab == 1"),
    Mutant(SECOND_TILE, "tile.active && row < tile.row_end", "tile.active"),
    # Strides and places.
    Mutant("held_row.cuh", "(j * size + index) * kWidth", "(index * 2 + j) * kWidth"),
    Mutant(TEAM, "lanes / 2; mask > 0", "lanes / 2; mask > 1"),
    Mutant(TEAM, "device::ClusterRank() * device::Threads() +", ""),
    Mutant(TILE, "row * lanes_ + lane %", "row + lane %"),
    Mutant(TILE, "outer * tiles.groups + first_group", "outer + first_group"),
    Mutant(TILE_BACK, "tile.slab * tiles.slots + tile.slot", "tile.slot"),
    Mutant(TILE_BACK, "set * tiles.samples + sample", "set * tiles.samples"),
    Mutant(RUNS, "(n * args.pieces.divisor() + piece)", "n"),
    Mutant(FORWARD, "FirstParam(args.rows, row)", "0"),
    Mutant(AFFINE, "rows.by_sample ? before : ", ""),
    Mutant(BACKWARD, "rows.sets.divisor() + turn * teams", "rows.sets.divisor()"),
    Mutant(TILE_AFFINE, "args.tiles.sample.Divide(tile.slot)", "0"),
    Mutant(TILE_AFFINE, "first_ + args.tiles.q.Divide(lane)", "0"),
    Mutant(TILE_AFFINE, "first_ + row", "row"),
    Mutant(AFFINE, "first + q.Divide(i + e)", "first + q.Divide(i)"),
    Mutant(AFFINE, "e > 0 && whole_runs", "e > 0"),
    Mutant(SECOND_ROWS, "args.rows.g.Remainder(row) * args.rows.k", "0", 1),
    Mutant(SECOND_RUNS, "(n * args.pieces.divisor() + piece)", "n"),
    Mutant(SECOND_TILE, "tile.slot * tiles.slabs.divisor() + tile.slab", "tile.slot"),
    # Terms.
    Mutant(FORWARD, "mean += sum * inverse_count;", ""),
    Mutant(FORWARD, "- shift;", "- C(0);"),
    Mutant(BACKWARD, "xhat[e] * At(with_xhat, e)", "C(0)"),
    Mutant(BACKWARD, "dsum[e] +", ""),
    Mutant(BACKWARD, "columns->beta[j][e] += dz[e];", ""),
    Mutant(BACKWARD, "plain *= gamma;", ""),
    Mutant(SPLIT, "part.squares + part.count * d * d", "part.squares"),
    Mutant(SPLIT_BACK, "with_xhat *= gamma;", ""),
    Mutant(SPLIT_TILE, "if (count[e] > C(0)) squares[e] += count[e] * d * d;", ""),
    Mutant(SPLIT_TILE, "part.squares + part.count * d * d", "part.squares"),
    Mutant(TILE_BACK, "row_dbeta += dz[e];", ""),
    Mutant(AFFINE, "+ Compute(affine.zero_centered)", ""),
    Mutant(AFFINE, "gamma[e] += Compute(affine.zero_centered)", ""),
    Mutant(AFFINE, "with_xhat += device::Load", "with_xhat -= device::Load"),
    Mutant(
        AFFINE, "args.centred ? plain * inverse_count : C(0)", "plain * inverse_count"
    ),
    Mutant(MOMENTS, "part.squares + part.count * away * away", "part.squares"),
    Mutant(FORMULA, "C(2) * slope", "slope"),
    Mutant(FORMULA, "- u * a -", "-"),
    Mutant(FORMULA, "dy * (ddgamma - group.of_a * gamma)", "dy * ddgamma"),
    Mutant(SECOND, "-rstd * rstd * shares", "rstd * rstd * shares"),
    Mutant(SECOND_ROWS, "columns[j][e] += terms[e];", "columns[j][e] = terms[e];"),
    Mutant(SECOND_RUNS, "Add(Weighted<C>(of_run, by.gamma, by.ddgamma), &sums)", ""),
    Mutant(SECOND_TILE, "of_row += terms[e];", ""),
    # Masks, and parameters of each position.
    Mutant(MASK, "column + 1 == q ? 0 : column + 1", "column + 1"),
    Mutant(MASK, "mask.positions + position * q", "mask.positions"),
    Mutant(MASK, "count > C(0) ? C(1) / count : C(0)", "C(1) / count"),
    Mutant(MASK, "count * static_cast<C>(mask.channels)", "count"),
    Mutant(MASK, "mask.groups.Divide(group) * pieces", "0"),
    Mutant(MASK, "piece < pieces; ++piece", "piece < 1; ++piece"),
    Mutant(MOMENTS, "if (part.count == C(0)) return;", ""),
    Mutant(SPLIT, "near = centre.Value();", ""),
    Mutant(SPLIT, "if (all_.count + count == C(0)) all_.near = values[e];", ""),
    Mutant(SPLIT_TILE, "near = centre.Value();", ""),
    Mutant(SPLIT_TILE, "if (count[e] == C(0)) near[e] = values[e];", ""),
    Mutant(SPLIT_TILE, "inverse_count = Inverse(LaneSum(count, team));", ""),
    Mutant(BACKWARD, "has ? At(plain, e) : C(0)", "At(plain, e)"),
    Mutant(BACKWARD, "has ? At(offset, e) : C(0)", "At(offset, e)"),
    Mutant(TILE_AFFINE, "!tiles.columns && !tiles.positions", "!tiles.columns"),
    Mutant(TILE_AFFINE, "dgamma[e] = dz[e] * xhat[e];", "dgamma[e] = dz[e];"),
    Mutant(PARAMS, " || partial == to", ""),
]


def apply(mutant, folder):
    """Writes the mutant; returns the file and its text before."""
    path = folder / "cuda" / mutant.file
    before = path.read_text()
    places = [m.start() for m in re.finditer(re.escape(mutant.old), before)]
    if mutant.which >= len(places):
        raise LookupError(f"{mutant}: no such place; the list is out of date")
    at = places[mutant.which]
    path.write_text(before[:at] + mutant.new + before[at + len(mutant.old) :])
    return path, before


def verdict(mutant, root, folder, flags):
    """Returns what has caught the mutant, or None."""
    path, before = apply(mutant, root)
    try:
        library = compiling.library(compiling.KERNELS, root, flags, folder)
    except compiling.CompileError as error:
        sys.exit(f"{mutant}: the list is out of date; it does not compile:\n{error}")
    finally:
        path.write_text(before)
    return failure(library)


def failure(library):
    """Runs the tests on a library; returns the first failure, or None."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p"),
            *("no:cacheprovider", *map(str, TESTS)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FUSEDNORM_EMULATION_LIBRARY": str(library)},
    )
    library.unlink()
    if done.returncode == 0:
        return None
    found = re.search(
        r"(kernel \w+, block.*|AddressSanitizer: \S+|\{'.*bounds)", done.stdout
    )
    test = re.search(r"FAILED \S*::(\S+)", done.stdout)
    reason = found.group(1)[:110] if found else "other values"
    return f"{test.group(1) if test else done.stdout[-200:]}: {reason}"


def table(mutants, verdicts):
    """Returns what MUTANTS.md holds."""

    def code(text):
        return f"`{' '.join(text.split())}`".replace("|", "\\|") if text else "nothing"

    def place(mutant):
        return f" #{mutant.which}" if mutant.which else ""

    rows = [
        f"| {m.file} | {code(m.old)}{place(m)} | {code(m.new)} "
        f"| {(caught or 'NOT CAUGHT').replace('|', '/')} |"
        for m, caught in zip(mutants, verdicts, strict=True)
    ]
    caught = len(verdicts) - verdicts.count(None)
    return "\n".join(
        [
            "# Mutants",
            "",
            "Written by `python tests/emulation/mutate.py --table "
            "tests/emulation/MUTANTS.md`.",
            f"{caught} of {len(mutants)} were caught. The last column is the first "
            "test that failed, and why.",
            "",
            "| file | instead of | has | caught by |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main():
    """Prints the mutants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--only", default="", help="mutants that have this text")
    parser.add_argument("--table", type=Path, help="also write a Markdown table")
    arguments = parser.parse_args()
    mutants = [m for m in MUTANTS if arguments.only in str(m)]
    with tempfile.TemporaryDirectory() as scratch:

        def judge(numbered):
            number, mutant = numbered
            root = Path(scratch) / str(number)
            for part in ("cuda", "csrc", "tests/emulation"):
                shutil.copytree(compiling.ROOT / part, root / part)
            folder = compiling.FOLDER / "mutants"
            caught = verdict(mutant, root, folder, ()) or verdict(
                mutant, root, folder, compiling.SANITIZE
            )
            print(f"{mutant}\n    {caught or 'NOT CAUGHT'}", flush=True)
            return caught

        # What nothing has changed passes, or else every mutant seems to be caught.
        whole = Mutant(TEAM, "", "")
        if judge((-1, whole)) is not None:
            sys.exit("the tests fail without any mutant")
        with ThreadPoolExecutor(arguments.jobs) as pool:
            verdicts = list(pool.map(judge, enumerate(mutants)))
    if arguments.table:
        arguments.table.write_text(table(mutants, verdicts))
    missed = verdicts.count(None)
    print(f"{len(mutants)} mutants, {missed} not caught")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
