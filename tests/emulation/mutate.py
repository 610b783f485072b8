"""Breaks the kernels in one place at a time: the tests have to notice each.

Usage: python tests/emulation/mutate.py [--jobs N] [--only WORD] [--table FILE]

Each is tried in the kernels of float32 alone, in all if nothing has noticed, and last
with the sanitizers, without which a run takes a fifth of the time. Prints the mutants
and what has caught each; the exit status is 1 if one was not.
"""

import argparse
import itertools
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


# The tests of float32, and those of no one type.
OF_FLOAT32 = "not float16 and not bfloat16 and not float64"


def barriers(file, count, text="device::SyncBlock();"):
    """Returns mutants that each leave out one of `count` barriers."""
    return [Mutant(file, text, "", which) for which in range(count)]


TESTS = [
    Path(__file__).with_name(name)
    for name in (
        "test_emulated_rows.py",
        "test_kernels.py",
        "test_emulated_mean.py",
        "test_emulated_second_order.py",
        "test_emulated_positions.py",
    )
]

# Paths below cuda/.
TEAM, HELD = "kernels/common/team.cuh", "kernels/common/held_row.cuh"
AFFINE, MOMENTS = "kernels/common/affine.cuh", "kernels/common/moments.cuh"
GRADIENT, COLUMNS = (
    "kernels/common/gradient.cuh",
    "kernels/common/thread_columns.cuh",
)
FORWARD, BACKWARD = "kernels/rows/forward.cuh", "kernels/rows/backward.cuh"
ROW_TEAM, FEATURES = "kernels/rows/team.cuh", "kernels/rows/features.cuh"
ROWS_LAUNCH, LONG_LAUNCH = (
    "kernels/rows/launch.cuh",
    "kernels/columns/launch.cuh",
)
PARAMS, LONG = "kernels/columns/column_sums.cuh", "kernels/columns/long_rows.cuh"
SPLIT, SPLIT_BACK = (
    "kernels/split_rows/forward.cuh",
    "kernels/split_rows/backward.cuh",
)
TILE, TILE_AFFINE = "kernels/tile/tile.cuh", "kernels/tile/affine.cuh"
TILE_FORWARD, TILE_BACK = "kernels/tile/forward.cuh", "kernels/tile/backward.cuh"
SPLIT_TILE = "kernels/tile/split_forward.cuh"
RUNS, RUNS_UNITS = "kernels/runs/backward.cuh", "kernels/runs/units.cuh"
MASK = "kernels/mask/mask.cuh"
SECOND, SECOND_ROWS = (
    "kernels/second_order/sums.cuh",
    "kernels/second_order/rows.cuh",
)
SECOND_RUNS, SECOND_TILES, SECOND_TILE_SUMS = (
    "kernels/second_order/runs.cuh",
    "kernels/second_order/tiles.cuh",
    "kernels/second_order/tile_sums.cuh",
)
FORMULA = "../csrc/core/second_order.h"
PLAN_ROWS, PLAN_COLUMNS = "plan/rows.cc", "plan/columns.cc"
PLANNING, NORM = "plan/planning.h", "api/norm.cu"
CLUSTER_END = "if (cluster > 1) device::SyncCluster();"

# What HasPlainAffine asks, each left out; but not whether each position has parameters,
# which no problem of rows has (plan/view.h).
PLAIN_AFFINE = [
    Mutant(PLAN_ROWS, condition, condition.split("&&")[-1])
    for condition in (
        "problem.q == 1 && problem.g == 1",
        "problem.g == 1 && problem.param_sets",
        "problem.param_sets == 1 &&\n         !problem.per_position",
        "problem.has_gamma && beta",
        "beta && !problem.has_mask",
        "!problem.has_mask &&\n         !problem.zero_centered",
        "!problem.zero_centered && problem.activation",
        "problem.activation == Activation::kNone &&\n         problem.data",
        "problem.data != DataType::kDouble &&\n         problem.param",
    )
] + [Mutant(PLAN_ROWS, "problem.param == ComputeType(problem.data)", "true")]

MUTANTS = [
    # Barriers.
    *barriers(TEAM, 1),
    Mutant(TEAM, "device::SyncCluster();\n    const bool", "const bool"),
    *barriers(TEAM, 1, "if (cluster_ > 1) device::SyncCluster();"),
    *barriers(TILE, 3),
    Mutant(TILE, "device::SyncCluster();", "device::SyncBlock();"),
    *barriers(TILE_FORWARD, 1, CLUSTER_END),
    *barriers(TILE_BACK, 1, CLUSTER_END),
    *barriers(ROW_TEAM, 1),
    *barriers(COLUMNS, 1),
    *barriers(LONG, 1),
    *barriers(PARAMS, 2),
    *barriers(RUNS, 1, "team.Finish();"),
    *barriers(SECOND, 2),
    *barriers(SECOND_TILES, 2),
    *barriers(SECOND_TILE_SUMS, 2),
    # Sums that lie over x and are written before others have read its first element.
    Mutant(SPLIT, "if (args.sum != nullptr) device::SyncBlock();", ""),
    Mutant(
        FORWARD,
        "if (centred) {\n#pragma unroll\n      for (int r = 0; r < kRows; ++r) {\n"
        "        if constexpr",
        "if (Features::Residual(residual)) {\n"
        "      for (int r = 0; r < kRows; ++r) {\n"
        "        T* const sum = static_cast<T*>(args.sum) + at[r];\n"
        "        for (int j = 0; j < kVectors; ++j) {\n"
        "          if (!has[r][j]) continue;\n"
        "          held[r][j].StoreTo(sum + access.Step(j), args.stream);\n"
        "        }\n      }\n    }\n"
        "    if (centred) {\n      for (int r = 0; r < kRows; ++r) {\n"
        "        if constexpr",
    ),
    Mutant(TEAM, "parity_ ^= 1;", ""),
    Mutant(TILE, "parity_ ^= 1;", ""),
    Mutant(ROW_TEAM, "half_ ^= 1;", ""),
    # Long chains of additions.
    Mutant(TILE, "kRowsOfSum = 4;", "kRowsOfSum = 1024;"),
    # Teams of a row.
    Mutant(ROW_TEAM, "int mask = 1; mask < kMost", "int mask = 2; mask < kMost"),
    Mutant(ROW_TEAM, "mask < kMost; mask *= 2", "mask < kMost / 2; mask *= 2"),
    Mutant(ROW_TEAM, "if (mask >= lanes) break;", ""),
    Mutant(ROW_TEAM, "device::Thread() % device::kWarp - index()", "0"),
    Mutant(ROW_TEAM, "other < device::Threads() / device::kWarp", "other < warps_"),
    Mutant(ROW_TEAM, "& (warps_ - 1)", "% device::kWarp"),
    Mutant(ROW_TEAM, "slot + i * kMostWarps + warp", "slot + i + warp"),
    Mutant(TEAM, "lanes / 2; mask > 0", "lanes / 2; mask > 1"),
    Mutant(TEAM, "device::ClusterRank() * device::Threads() +", ""),
    # Bounds and tails.
    Mutant(HELD, "return At(j) < length;", "return At(j) <= length;"),
    Mutant(FORWARD, "first < args.rows.count;", "first < args.rows.count - 1;"),
    Mutant(FORWARD, "row[r] < args.rows.count;", "row[r] <= args.rows.count;"),
    Mutant(FORWARD, "active[r] && access.Has(j)", "access.Has(j)"),
    Mutant(FORWARD, "active[r] && access.Has(j)", "active[r]"),
    Mutant(FORWARD, "sum[r] += has[r][j] ? of_access : C(0)", "sum[r] += of_access"),
    Mutant(
        FORWARD, "squares[r] += has[r][j] ? of_access : C(0)", "squares[r] += of_access"
    ),
    Mutant(
        FORWARD,
        "deviations[r] += has[r][j] ? of_access : C(0)",
        "deviations[r] += of_access",
    ),
    Mutant(FORWARD, "active[r] && team.index() == 0", "team.index() == 0"),
    Mutant(FORWARD, "kKeepsAffine && access.Has(0)", "kKeepsAffine"),
    Mutant(BACKWARD, "? kBlock || row < args.rows.count", "? true"),
    Mutant(BACKWARD, "slot < geometry.slots && row <", "row <"),
    Mutant(BACKWARD, "sets.Remainder(row) >= team.team()", "sets.divisor() > 0"),
    Mutant(BACKWARD, "active ? length : 0", "length"),
    Mutant(BACKWARD, "team.index() * kWidth < length", "true"),
    Mutant(
        BACKWARD, "more = first < args.rows.count", "more = first + 1 < args.rows.count"
    ),
    Mutant(BACKWARD, "else if (by_sample || slot < geometry.slots)", "else"),
    Mutant(GRADIENT, "sets.Remainder(*row) >= args.slots", "sets.divisor() > 0"),
    Mutant(COLUMNS, "if (i >= length) continue;", ""),
    Mutant(COLUMNS, "if (!access.Has(j)) continue;", ""),
    Mutant(COLUMNS, "warp == turn && lane < access.size", "warp == turn"),
    Mutant(COLUMNS, "warp == turn && lane", "lane"),
    Mutant(SPLIT, "left < args.slice ? left : args.slice", "args.slice"),
    Mutant(SPLIT, "at.slice == 0 && ", "at.slice == 1 && "),
    Mutant(TILE, "left < tiles.slab_rows ? left", "left < 0 ? left"),
    Mutant(TILE, "end - first_lane < tiles.lanes", "end < 0"),
    Mutant(TILE, "thread_row < thread_rows && lane < lanes", "lane < lanes"),
    Mutant(RUNS, "if (i >= end) break;", "", 0),
    Mutant(
        RUNS_UNITS, "q - inside < args.piece ? q - inside : args.piece", "args.piece"
    ),
    Mutant(PARAMS, "warp != 0 || param >= params.params", "warp != 0"),
    Mutant(
        PARAMS, "for (int i = 1; i < warps; ++i)", "for (int i = 2; i < warps; ++i)"
    ),
    Mutant(LONG, "end < args.rows.length ? end : args.rows.length", "end"),
    Mutant(LONG, "end < args.rows.length ? end : args.rows.length", "args.rows.length"),
    Mutant(
        LONG,
        "i < geometry.pieces; i += device::kWarp",
        "i < 32 && i < geometry.pieces; i += 32",
    ),
    Mutant(LONG, "row < args.rows.count; row += warps", "row < warps; row += warps"),
    Mutant(LONG, "if (i >= args.rows.length) return;", ""),
    Mutant(LONG, "if (first + r >= args.rows.count) continue;", ""),
    Mutant(LONG, "if (row >= args.rows.count) continue;", ""),
    Mutant(
        SECOND_ROWS,
        "team.slot < geometry.slots && row < geometry.count",
        "team.slot < 1 << 30",
    ),
    Mutant(
        SECOND_ROWS, "left < geometry.piece ? left : geometry.piece", "geometry.piece"
    ),
    Mutant(SECOND_ROWS, " || team.slot >= geometry.slots", ""),
    Mutant(SECOND_ROWS, "if (!access.Has(j)) return;", ""),
    Mutant(SECOND_ROWS, "team.slice == 0 && ", "team.slice == 1 && "),
    Mutant(SECOND_RUNS, "i < stop; i +=", "i <= stop; i +="),
    Mutant(SECOND_RUNS, "row < geometry.count; row +=", "row < 1; row +="),
    Mutant(
        SECOND_RUNS,
        "q - inside < geometry.piece ? q - inside : geometry.piece",
        "geometry.piece",
    ),
    Mutant(SECOND_TILES, "tile.slice == 0 && ", "tile.slice == 1 && "),
    Mutant(SECOND_TILES, "tile.active && row < tile.row_end", "tile.active"),
    Mutant(SECOND_TILE_SUMS, "end - first_lane < geometry.lanes", "end < 0"),
    Mutant(
        SECOND_TILE_SUMS, "thread_row < thread_rows && lane < lanes", "lane < lanes"
    ),
    Mutant(SECOND_TILE_SUMS, "row_begin + geometry.slab_rows < geometry.rows", "true"),
    # Gradients that nobody wants.
    Mutant(COLUMNS, "if (params.gamma != nullptr)", "if (true)"),
    Mutant(COLUMNS, "if (params.gamma != nullptr)", "if (true)", 1),
    Mutant(COLUMNS, "if (params.beta == nullptr) continue;", ""),
    Mutant(COLUMNS, "if (params.beta == nullptr) continue;", "", 1),
    Mutant(LONG, "if (args.params.dgamma != nullptr)", "if (true)"),
    Mutant(LONG, "if (args.params.dbeta != nullptr)", "if (true)"),
    Mutant(PARAMS, "partial == nullptr || ", ""),
    Mutant(BACKWARD, " || args.rows.mode != ParamMode::kAlong", ""),
    # Strides and places.
    Mutant(HELD, "(j * size + index) * kWidth", "(index * 2 + j) * kWidth"),
    Mutant(FORWARD, "at[r - 1] + next_row", "at[r - 1]"),
    Mutant(FORWARD, "int64_t{team.teams()} * length", "length"),
    Mutant(FORWARD, "first + r * team.teams() +", "first + r +"),
    Mutant(FORWARD, "device::Blocks() * rows_of_block", "rows_of_block"),
    Mutant(FORWARD, "at[r] - access.At(0)", "at[r]"),
    Mutant(BACKWARD, "next_row = geometry.slots * length", "next_row = length"),
    Mutant(BACKWARD, "first += geometry.slots;", "first += team.teams();"),
    Mutant(BACKWARD, "if (by_sample || kVectors > 2) at", "if (kVectors > 2) at"),
    Mutant(BACKWARD, "at += next_row;", ""),
    Mutant(BACKWARD, " && (!Features::kGeneral || args.rows.g.divisor() == 1)", ""),
    Mutant(COLUMNS, "int mask = access.size;", "int mask = 2 * access.size;"),
    Mutant(COLUMNS, "device::ShuffleXor(beta[j][e], mask)", "C(0)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(i))", "C(0)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(i))", "shared.Get(i)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(length + i))", "C(0)"),
    Mutant(COLUMNS, "set * row + first", "first"),
    Mutant(COLUMNS, "device::Block() * length + i", "i"),
    Mutant(TILE, "row * lanes_ + lane %", "row + lane %"),
    Mutant(TILE, "outer * tiles.groups + first_group", "outer + first_group"),
    Mutant(TILE_BACK, "tile.slab * tiles.slots + tile.slot", "tile.slot"),
    Mutant(TILE_BACK, "set * tiles.samples + sample", "set * tiles.samples"),
    Mutant(RUNS, "(n * args.pieces.divisor() + piece)", "n"),
    Mutant(FORWARD, "Features::FirstParam(args, row[r])", "0"),
    Mutant(BACKWARD, "Features::FirstParam(args, row)", "0"),
    Mutant(AFFINE, "rows.by_sample ? before : ", ""),
    Mutant(GRADIENT, "rows.sets.divisor() + turn * teams", "rows.sets.divisor()"),
    Mutant(TILE_AFFINE, "args.tiles.sample.Divide(tile.slot)", "0"),
    Mutant(TILE_AFFINE, "first_ + args.tiles.q.Divide(lane)", "0"),
    Mutant(TILE_AFFINE, "first_ + row", "row"),
    Mutant(AFFINE, "first + q.Divide(i + e)", "first + q.Divide(i)"),
    Mutant(AFFINE, "e > 0 && whole_runs", "e > 0"),
    Mutant(PARAMS, "device::Block() - half,", "device::Block(),"),
    Mutant(PARAMS, "device::Blocks() - half)", "device::Blocks())"),
    Mutant(PARAMS, "device::Block(), half)", "device::Block(), device::Blocks())"),
    Mutant(PARAMS, "at + set * row", "at + row", 0),
    Mutant(LONG, "piece * geometry.piece + device::Thread()", "device::Thread()"),
    Mutant(LONG, "device::Blocks() - 1 - device::Block()", "0"),
    Mutant(LONG, "row * geometry.pieces + i", "i"),
    Mutant(LONG, "(first + r) * args.rows.length + i", "first * args.rows.length + i"),
    Mutant(SECOND, "group * geometry.slices.divisor() + slice", "group"),
    Mutant(SECOND_ROWS, "geometry.groups.Remainder(row) * geometry.k", "0"),
    Mutant(SECOND_RUNS, "(n * pieces + piece)", "n"),
    Mutant(
        SECOND_TILES,
        "tile.slot * slabs + geometry.parts.Divide(tile.slice)",
        "tile.slot",
    ),
    Mutant(SECOND_TILE_SUMS, "row * lanes_ + lane %", "row + lane %"),
    Mutant(
        SECOND_TILE_SUMS,
        "outer * geometry.groups.divisor() + first_group",
        "outer + first_group",
    ),
    # What stays in registers, and for which accesses.
    Mutant(FORWARD, "!Features::kGeneral && kVectors == 1;", "!Features::kGeneral;"),
    Mutant(BACKWARD, "!Features::kGeneral && kVectors == 1;", "!Features::kGeneral;"),
    Mutant(BACKWARD, "if (kHolds && Features::Residual(args.dsum))", "if (false)"),
    Mutant(BACKWARD, "if (!kHolds)", "if (false)"),
    # Terms.
    Mutant(FORWARD, "shift[r] = team.First(values[0]);", "shift[r] = C(0);"),
    Mutant(FORWARD, "mean[r] = shift[r] + sum[r]", "mean[r] = sum[r]"),
    Mutant(FORWARD, "mean[r] += deviations[r] * inverse_count;", ""),
    Mutant(FORWARD, "if (Features::Activated(args)) Activate", "if (false) Activate"),
    Mutant(BACKWARD, "constant ? dz[e] : dz[e] * gamma[e]", "dz[e] * gamma[e]"),
    Mutant(BACKWARD, "sums[1] += term * xhat[e];", ""),
    Mutant(BACKWARD, "sums[0] *= of_row;", ""),
    Mutant(BACKWARD, "sums[1] *= of_row;", ""),
    Mutant(BACKWARD, "by.offset - rstd * by.plain", "by.offset"),
    Mutant(BACKWARD, "by.offset - rstd * by.plain", "-rstd * by.plain"),
    Mutant(BACKWARD, "- xhat[e] * by.with_xhat", ""),
    Mutant(BACKWARD, "dz[e] += other[e];", ";"),
    Mutant(GRADIENT, "xhat[e] * At(with_xhat, e)", "C(0)"),
    Mutant(GRADIENT, "dsum[e] +", ""),
    Mutant(COLUMNS, "gamma[j][e] += dz * xhat;", ""),
    Mutant(COLUMNS, "beta[j][e] += dz;", ";"),
    Mutant(LONG, "with_xhat += term * xhat[e];", ""),
    Mutant(LONG, "by.offset - rstd * by.plain", "by.offset"),
    Mutant(LONG, "by.offset - rstd * by.plain", "-rstd * by.plain"),
    Mutant(LONG, "dgamma[e] += dz[e] * xhat[e];", "dgamma[e] = dz[e] * xhat[e];"),
    Mutant(LONG, "dbeta[e] += dz[e];", "dbeta[e] = dz[e];"),
    Mutant(LONG, "- xhat[e] * by_xhat", ""),
    Mutant(LONG, "dz[e] += other[e];", ";"),
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
    Mutant(AFFINE, "offset * inverse_count}", "offset}"),
    Mutant(MOMENTS, "part.squares + part.count * away * away", "part.squares"),
    Mutant(FORMULA, "C(2) * slope", "slope"),
    Mutant(FORMULA, "- u * a -", "-"),
    Mutant(FORMULA, "dy * (ddgamma - group.of_a * gamma)", "dy * ddgamma"),
    Mutant(SECOND, "-rstd * rstd * shares", "rstd * rstd * shares"),
    Mutant(SECOND_ROWS, "columns[j][e] += terms[e];", "columns[j][e] = terms[e];"),
    Mutant(SECOND_RUNS, "Add(Weighted<C>(of_run, by.gamma, by.ddgamma), &sums)", ""),
    Mutant(SECOND_TILES, "of_row += terms[e];", ""),
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
    Mutant(GRADIENT, "has ? At(plain, e) : C(0)", "At(plain, e)"),
    Mutant(GRADIENT, "has ? At(offset, e) : C(0)", "At(offset, e)"),
    Mutant(TILE_AFFINE, "!tiles.columns && !tiles.positions", "!tiles.columns"),
    Mutant(TILE_AFFINE, "dgamma[e] = dz[e] * xhat[e];", "dgamma[e] = dz[e];"),
    Mutant(PARAMS, " || partial == to", ""),
    # Which instance a problem gets.
    *PLAIN_AFFINE,
    Mutant(PLAN_ROWS, "if (work.problem.has_mask) return choices;", ""),
    Mutant(PLAN_ROWS, "(!instance.general && !specialised)", "false"),
    Mutant(PLAN_ROWS, "instance.wide != (rows.width > 1)", "false"),
    Mutant(FEATURES, "return args.rows.by_sample;", "return false;"),
    Mutant(FEATURES, "args.rows.mode == ParamMode::kConstant", "false"),
    Mutant(ROWS_LAUNCH, "return args.residual != nullptr", "return false"),
    Mutant(ROWS_LAUNCH, "return args.dsum != nullptr", "return false"),
    Mutant(ROWS_LAUNCH, "if (args.centred)", "if (true)"),
    Mutant(ROWS_LAUNCH, "kInstance.block == geometry.block", "true"),
    Mutant(LONG_LAUNCH, "args.dsum != nullptr", "false"),
    Mutant(LONG_LAUNCH, "return args.centred ?", "return true ?"),
    # The numbers of a plan.
    Mutant(PLAN_ROWS, "needed > instance.threads ? 0 : ", ""),
    Mutant(PLAN_ROWS, "lanes > kWarp || torn", "torn"),
    Mutant(
        PLAN_ROWS, "CeilDiv(accesses, instance.vectors)", "accesses / instance.vectors"
    ),
    Mutant(PLAN_ROWS, "PowerOfTwo(threads / kWarp)", "threads / kWarp"),
    Mutant(PLAN_ROWS, "threads / choice.team;", "2 * threads / choice.team;"),
    Mutant(
        PLAN_ROWS,
        "(1 << geometry.team_shift) < geometry.team",
        "(2 << geometry.team_shift) < geometry.team",
    ),
    Mutant(PLAN_ROWS, "RowTeamBytes(work.compute_bytes) : 0", "0 : 0"),
    Mutant(PLAN_ROWS, "CeilDiv(rows.rows, rows_of_block)", "rows.rows / rows_of_block"),
    Mutant(
        PLAN_ROWS,
        "geometry.slots = blocks * geometry.teams;",
        "geometry.slots = blocks;",
    ),
    Mutant(PLAN_ROWS, " && problem.g == 1;", ";"),
    Mutant(PLAN_ROWS, "sets = joined ? blocks :", "sets = joined ? blocks - 1 :"),
    Mutant(PLAN_ROWS, "joined ? length_bytes", "joined ? length_bytes / 2"),
    Mutant(
        PLAN_ROWS,
        "problem.g * std::max<int64_t>(1, std::min(problem.n, teams / problem.g))",
        "std::min(problem.n * problem.g, teams)",
    ),
    Mutant(PLAN_ROWS, "std::min(rows_of_set, teams)", "teams"),
    Mutant(PLAN_ROWS, "problem.q == 1 ? sets : problem.n", "1"),
    Mutant(PLAN_COLUMNS, "geometry.width == 1 || ", ""),
    Mutant(PLAN_COLUMNS, " || shared > kSharedBytes", ""),
    Mutant(PLAN_COLUMNS, "2 * rows * geometry.pieces", "rows * geometry.pieces"),
    Mutant(
        PLAN_COLUMNS, '"LongRowSums", rows * geometry.pieces', '"LongRowSums", rows'
    ),
    Mutant(
        PLAN_COLUMNS, "kColumnsThreads, 1, shared)", "kColumnsThreads, 1, shared / 2)"
    ),
    Mutant(
        PLANNING, "\n      problem.param == ComputeType(problem.data)", "\n      true"
    ),
    Mutant(PLANNING, "kColumnSumsThreads * work.compute_bytes", "work.compute_bytes"),
    Mutant(NORM, "args->slots = geometry.slots;", ""),
    Mutant(NORM, "args->slices = Divider(geometry.pieces);", ""),
    Mutant(NORM, "args.params.q = geometry.q;", ";"),
    Mutant(NORM, "needs_beta ? buffers.beta : nullptr", "nullptr"),
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


def verdict(mutant, root, folder, flags, data=None):
    """Returns what has caught the mutant, in kernels of a data type, or None."""
    path, before = apply(mutant, root)
    try:
        library = compiling.library(compiling.KERNELS, root, flags, folder, data)
    except compiling.CompileError as error:
        sys.exit(f"{mutant}: the list is out of date; it does not compile:\n{error}")
    finally:
        path.write_text(before)
    return failure(library, () if data is None else ("-k", OF_FLOAT32))


def failure(library, arguments=()):
    """Runs the tests on a library; returns the first failure, or None."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p"),
            *("no:cacheprovider", *arguments, *map(str, TESTS)),
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
            for data, flags in itertools.product(
                ("float", None), ((), compiling.SANITIZE)
            ):
                if data is not None and not mutant.file.startswith("kernels/"):
                    continue  # compiled once for all types
                caught = verdict(mutant, root, folder, flags, data)
                if caught:
                    break
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
