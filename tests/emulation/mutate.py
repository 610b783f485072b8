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

sys.path.append(str(Path(__file__).parents[1]))

from support.emulation import compiling


@dataclass(frozen=True)
class Mutant:
    """A text in a file and what to put in its place."""

    file: str
    old: str
    new: str
    which: int = 0  # of the places where the text is
    by: str = ""  # the file of the tests that should notice, which are run first

    def __str__(self):
        return f"{self.file}: {' '.join(self.old.split())!r} #{self.which}"


# The tests of float32, and those of no one type.
OF_FLOAT32 = "not float16 and not bfloat16 and not float64"


def barriers(file, count, text="device::SyncBlock();", by=""):
    """Returns mutants that each leave out one of `count` barriers."""
    return [Mutant(file, text, "", which, by) for which in range(count)]


TESTS = [
    Path(__file__).with_name(name)
    for name in (
        "test_emulated_rows.py",
        "test_kernels.py",
        "test_tile.py",
        "test_stream.py",
        "test_emulated_mean.py",
        "test_emulated_second_order.py",
        "test_emulated_positions.py",
    )
]

# Paths below cuda/.
TEAM, HELD = "kernels/common/team.cuh", "kernels/common/held_row.cuh"
AFFINE, MOMENTS = "kernels/common/affine.cuh", "kernels/common/moments.cuh"
COLUMNS = "kernels/common/thread_columns.cuh"
FORWARD, BACKWARD = "kernels/rows/forward.cuh", "kernels/rows/backward.cuh"
ROW_TEAM, FEATURES = "kernels/rows/team.cuh", "kernels/rows/features.cuh"
ROWS_LAUNCH, LONG_LAUNCH = (
    "kernels/rows/launch.cuh",
    "kernels/columns/launch.cuh",
)
PARAMS, LONG = "kernels/columns/column_sums.cuh", "kernels/columns/long_rows.cuh"
LINES_PLACE, LINES_APPLY = "kernels/lines/place.cuh", "kernels/lines/apply.cuh"
LINES_MOMENTS, LINES_SUMS = "kernels/lines/moments.cuh", "kernels/lines/sums.cuh"
LINES_SHARED = "kernels/lines/shared_layout.h"
LINES_PARAMS = "kernels/lines/param_gradients.cuh"
TILE_FORWARD, TILE_BACK = "kernels/tile/forward.cuh", "kernels/tile/backward.cuh"
TILE_PLACE = "kernels/tile/place.cuh"
QUEUE, ORDER = "kernels/stream/queue.cuh", "kernels/stream/order.h"
STREAM_LAUNCH, RUN_SLAB = "kernels/stream/launch.cuh", "kernels/stream/run_slab.cuh"
LINES_FORWARD, LINES_BACK = (
    "kernels/stream/lines_forward.cuh",
    "kernels/stream/lines_backward.cuh",
)
RUNS_FORWARD, RUNS_BACK = (
    "kernels/stream/runs_forward.cuh",
    "kernels/stream/runs_backward.cuh",
)
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
FIRST_ORDER = "../csrc/core/first_order.h"
SECOND_ORDER = "../csrc/core/second_order.h"
PLAN_ROWS, PLAN_COLUMNS = "plan/rows.cc", "plan/columns.cc"
PLAN_LINES, PLAN_TILE, PLAN_STREAM = "plan/lines.cc", "plan/tile.cc", "plan/stream.cc"
PLANNING, NORM = "plan/planning.h", "api/norm.cu"
# Files that are compiled again for each data type, in which one type is enough.
PER_TYPE = ("kernels/", "../csrc/core/")
CLUSTER_END = "if (geometry.cluster_bits > 0) device::SyncCluster();"
# Files of tests.
TILES, KERNELS, POSITIONS = (
    "test_tile.py",
    "test_kernels.py",
    "test_emulated_positions.py",
)

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
    *barriers(LINES_MOMENTS, 2, by=TILES),
    *barriers(LINES_SUMS, 1, by=TILES),
    *barriers(TILE_FORWARD, 2, by=TILES),
    Mutant(TILE_FORWARD, "device::SyncCluster();", "device::SyncBlock();", 0, TILES),
    *barriers(TILE_FORWARD, 1, CLUSTER_END, TILES),
    *barriers(TILE_BACK, 4, by=TILES),
    Mutant(TILE_BACK, "device::SyncCluster();", "device::SyncBlock();", 0, TILES),
    *barriers(TILE_BACK, 1, CLUSTER_END, TILES),
    *barriers(QUEUE, 4, by=KERNELS),
    *barriers(LINES_FORWARD, 1, by=KERNELS),
    *barriers(LINES_BACK, 2, by=KERNELS),
    *barriers(RUNS_BACK, 1, by=KERNELS),
    *barriers(ROW_TEAM, 1),
    *barriers(COLUMNS, 1),
    *barriers(LONG, 1),
    *barriers(PARAMS, 2),
    *barriers(SECOND, 2),
    *barriers(SECOND_TILES, 2),
    *barriers(SECOND_TILE_SUMS, 2),
    # Sums that lie over x and are written before others have read its first element.
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
    Mutant(ROW_TEAM, "half_ ^= 1;", ""),
    # Teams of a row.
    Mutant(ROW_TEAM, "int mask = 1; mask < kMost", "int mask = 2; mask < kMost"),
    Mutant(ROW_TEAM, "mask < kMost; mask *= 2", "mask < kMost / 2; mask *= 2"),
    Mutant(ROW_TEAM, "if (mask >= lanes) break;", ""),
    Mutant(ROW_TEAM, "device::Thread() % device::kWarp - index()", "0"),
    Mutant(ROW_TEAM, "other < device::Threads() / device::kWarp", "other < warps_"),
    Mutant(ROW_TEAM, "& (warps_ - 1)", "% device::kWarp"),
    Mutant(ROW_TEAM, "slot + i * kMostWarps + warp", "slot + i + warp"),
    Mutant(TEAM, "lanes / 2; mask > 0", "lanes / 2; mask > 1"),
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
    Mutant(COLUMNS, "if (i >= length) continue;", ""),
    Mutant(COLUMNS, "if (!access.Has(j)) continue;", ""),
    Mutant(COLUMNS, "warp == turn && lane < access.size", "warp == turn"),
    Mutant(COLUMNS, "warp == turn && lane", "lane"),
    Mutant(PARAMS, "warp != 0 || param >= params.params", "warp != 0"),
    Mutant(
        PARAMS, "for (int i = 1; i < warps; ++i)", "for (int i = 2; i < warps; ++i)"
    ),
    Mutant(LONG, "end < args.rows.length ? end : args.rows.length", "end"),
    Mutant(LONG, "end < args.rows.length ? end : args.rows.length", "args.rows.length"),
    Mutant(LONG, "i < pieces; i += team", "i < team && i < pieces; i += team"),
    Mutant(LONG, "if (row < end) {", "if (row < begin + 8) {"),
    Mutant(LONG, "after < last ? after : last", "after"),
    Mutant(LONG, "if (i >= args.rows.length) return;", ""),
    Mutant(LONG, "if (first + r >= end) continue;", ""),
    Mutant(LONG, "if (row >= end) continue;", ""),
    Mutant(LONG, "if (row >= end || member != 0) continue;", ""),
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
    Mutant(LONG, "if (args.params.gamma != nullptr)", "if (true)"),
    Mutant(LONG, "if (args.params.beta != nullptr)", "if (true)"),
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
    Mutant(BACKWARD, "at += next_row;", ""),
    Mutant(BACKWARD, " && (!Features::kGeneral || args.rows.g.divisor() == 1)", ""),
    Mutant(COLUMNS, "int mask = access.size;", "int mask = 2 * access.size;"),
    Mutant(COLUMNS, "device::ShuffleXor(beta[j][e], mask)", "C(0)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(i))", "C(0)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(i))", "shared.Get(i)"),
    Mutant(COLUMNS, "(turn == 0 ? C(0) : shared.Get(length + i))", "C(0)"),
    Mutant(COLUMNS, "set * row + first", "first"),
    Mutant(COLUMNS, "device::Block() * length + i", "i"),
    Mutant(FORWARD, "Features::FirstParam(args, row[r])", "0"),
    Mutant(BACKWARD, "Features::FirstParam(args, row)", "0"),
    Mutant(AFFINE, "rows.by_sample ? before : ", ""),
    Mutant(AFFINE, "first + q.Divide(i + e)", "first + q.Divide(i)"),
    Mutant(AFFINE, "e > 0 && whole_runs", "e > 0"),
    Mutant(PARAMS, "device::Block() - half,", "device::Block(),"),
    Mutant(PARAMS, "device::Blocks() - half)", "device::Blocks())"),
    Mutant(PARAMS, "device::Block(), half)", "device::Block(), device::Blocks())"),
    Mutant(PARAMS, "at + set * row", "at + row", 0),
    Mutant(LONG, "piece * geometry.piece + device::Thread()", "device::Thread()"),
    Mutant(LONG, "device::Blocks() - 1 - device::Block()", "0"),
    Mutant(LONG, "row * pieces + i", "i"),
    Mutant(LONG, "of_sample * geometry.chunk_rows", "0"),
    Mutant(LONG, "of_sample * geometry.samples + sample", "of_sample"),
    Mutant(LONG, "of_sample * geometry.samples + sample", "sample"),
    Mutant(LONG, "FirstParam(args.rows, row)", "0"),
    Mutant(LONG, "constants.mean(row - begin)", "constants.mean(0)"),
    Mutant(LONG, "constants.shares(row - begin)", "constants.shares(0)"),
    Mutant(LONG, "BeforeActivation(args.activation, gamma, beta, xhat, dz);", ""),
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
    Mutant(BACKWARD, "sums[1] += terms.with_xhat;", ""),
    Mutant(BACKWARD, "sums[0] = plain;", ""),
    Mutant(BACKWARD, "sums[1] = with_xhat;", ""),
    Mutant(BACKWARD, "dz[e] += other[e];", ";"),
    Mutant(COLUMNS, "gamma[j][e] += terms.with_xhat;", ""),
    Mutant(COLUMNS, "beta[j][e] += terms.plain;", ";"),
    Mutant(LONG, "with_xhat += terms.with_xhat;", ""),
    Mutant(LONG, "dgamma[e] += terms.with_xhat;", "dgamma[e] = terms.with_xhat;"),
    Mutant(LONG, "dbeta[e] += terms.plain;", "dbeta[e] = terms.plain;"),
    Mutant(LONG, "dz[e] += other[e];", ";"),
    Mutant(AFFINE, "+ Compute(affine.zero_centered)", ""),
    Mutant(AFFINE, "gamma[e] += Compute(affine.zero_centered)", ""),
    Mutant(AFFINE, "if (drstd != nullptr)", "if (false)"),
    Mutant(FIRST_ORDER, "+ drstd * rstd;", "- drstd * rstd;"),
    Mutant(
        FIRST_ORDER,
        "centred ? sums.plain * inverse_count : V{}",
        "sums.plain * inverse_count",
    ),
    Mutant(FIRST_ORDER, "dmean * inverse_count}", "dmean}"),
    Mutant(FIRST_ORDER, "{gamma * sums.plain, gamma", "{sums.plain, gamma"),
    Mutant(FIRST_ORDER, "shares.offset - rstd * shares.plain", "shares.offset"),
    Mutant(FIRST_ORDER, "shares.offset - rstd * shares.plain", "-rstd * shares.plain"),
    Mutant(FIRST_ORDER, "gamma - xhat * shares.with_xhat", "gamma"),
    Mutant(MOMENTS, "part.squares + part.count * away * away", "part.squares"),
    Mutant(SECOND_ORDER, "C(2) * slope", "slope"),
    Mutant(SECOND_ORDER, "- u * a -", "-"),
    Mutant(SECOND_ORDER, "dy * (ddgamma - group.of_a * gamma)", "dy * ddgamma"),
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
    Mutant(PARAMS, " || partial == to", ""),
    # Tickets, flags and joins of `stream`. In a block's first item it takes no ticket
    # ahead for the sake of the other blocks alone, which no result shows.
    Mutant(QUEUE, "return served_ > 1;", "return true;", 0, KERNELS),
    Mutant(QUEUE, "kSlotNumbers * (served_ & 1)", "0", 0, KERNELS),
    Mutant(QUEUE, "before + 1 ==", "before ==", 0, KERNELS),
    Mutant(QUEUE, "before + 1 ==", "1u <=", 0, KERNELS),
    Mutant(
        QUEUE,
        "device::AddAcquireRelease(Arrived(set))",
        "device::TakeTicket(reinterpret_cast<uint64_t*>(Arrived(set)))",
        0,
        KERNELS,
    ),
    Mutant(
        QUEUE,
        "pass.JoinSlabs(item.set);\n      queue.Announce(item.set);",
        "queue.Announce(item.set);\n      pass.JoinSlabs(item.set);",
        0,
        KERNELS,
    ),
    Mutant(
        QUEUE,
        "return device::LoadAcquire(Complete(item.set)) != 0;",
        "return true;",
        0,
        KERNELS,
    ),
    Mutant(QUEUE, "static_cast<uint32_t>(order_.sets)", "uint32_t{1}", 0, KERNELS),
    Mutant(
        QUEUE,
        "if (order_.params > 0) device::AddRelease(counters_ + kSetsComplete);",
        "",
        0,
        KERNELS,
    ),
    Mutant(QUEUE, "if (!queue.CompletesSet(item.set)) continue;", "", 0, KERNELS),
    Mutant(ORDER, "if (kind == ItemKind::kSums) i += lag;", "", 0, KERNELS),
    Mutant(ORDER, "i = (ticket - lag) >> 1;", "i = ticket - lag;", 0, KERNELS),
    Mutant(
        STREAM_LAUNCH,
        "device::FillBytes(args.partial, 0, geometry.order().counter_bytes, stream)",
        "device::FillBytes(args.partial, 0, 0, stream)",
        0,
        KERNELS,
    ),
    Mutant(PLAN_STREAM, "RoundUp(CounterBytes(sets), 256)", "256", 0, KERNELS),
    Mutant(PLAN_STREAM, "kQueueBytes + shared_bytes", "shared_bytes", 0, KERNELS),
    Mutant(
        LINES_FORWARD,
        "slab = member; slab < slabs;",
        "slab = member; slab < slabs - 1;",
        0,
        KERNELS,
    ),
    Mutant(LINES_BACK, "turn * parts) + at", "turn) + at", 0, KERNELS),
    Mutant(LINES_BACK, "copy < g.copies; ++copy", "copy < 1; ++copy", 0, KERNELS),
    Mutant(RUNS_BACK, "run, place.piece), plain", "run, 0), plain", 0, KERNELS),
    Mutant(RUN_SLAB, "left < g.piece ? left : g.piece", "g.piece", 0, KERNELS),
    Mutant(RUN_SLAB, "if (end_run > g.runs) end_run = g.runs;", "", 0, KERNELS),
    # Sets in registers, alone or in a cluster.
    Mutant(TILE_PLACE, "if (end > rows) end = rows;", "", 0, TILES),
    Mutant(TILE_PLACE, "rank * geometry.slab_rows", "0", 0, TILES),
    Mutant(MOMENTS, "from.GetFrom(rank, at + 1)", "from.Get(at + 1)", 0, TILES),
    Mutant(TILE_BACK, "own_.GetFrom(rank, 2 * group)", "own_.Get(2 * group)", 0, TILES),
    Mutant(TILE_BACK, "1 << cluster_bits_, rank_)", "1 << cluster_bits_, 0)", 0, TILES),
    Mutant(TILE_BACK, "copy < g_.copies; ++copy", "copy < 1; ++copy", 0, TILES),
    Mutant(TILE_BACK, "lane, shares.added)", "lane, C(0))", 0, TILES),
    Mutant(
        TILE_BACK,
        "g_.columns ? C(1) : constants.GetOne(kLaneGamma, lane)",
        "C(1)",
        0,
        TILES,
    ),
    Mutant(
        PLAN_TILE, "return vectors <= most;", "return vectors <= 2 * most;", 0, TILES
    ),
    Mutant(
        PLAN_TILE,
        "after(shared.own, kMomentsNumbers * g.tile_groups)",
        "after(shared.own, 0)",
        0,
        TILES,
    ),
    # How threads lie over lines, and what they have joined.
    Mutant(
        LINES_PLACE,
        "left < g.tile_lanes ? left : g.tile_lanes",
        "g.tile_lanes",
        0,
        TILES,
    ),
    Mutant(
        LINES_PLACE,
        "groups_left < g.tile_groups ? groups_left : g.tile_groups",
        "g.tile_groups",
        0,
        TILES,
    ),
    Mutant(
        LINES_PLACE,
        "left < g.part_lanes ? left : g.part_lanes",
        "g.part_lanes",
        0,
        KERNELS,
    ),
    Mutant(
        LINES_PLACE, "accesses(end - begin - row)", "accesses(end - begin)", 0, TILES
    ),
    Mutant(
        LINES_PLACE,
        "g.group_lanes.Divide(LaneOfCopy(g, lane))",
        "g.group_lanes.Divide(lane)",
        0,
        TILES,
    ),
    Mutant(LINES_PLACE, "set.first_param + (g.q", "(g.q", 0, TILES),
    Mutant(LINES_PLACE, "unit) * g.samples + sample", "unit) * g.samples", 0, KERNELS),
    Mutant(LINES_MOMENTS, "C(0.5) * joined->count * (away * away)", "C(0)", 0, TILES),
    Mutant(LINES_MOMENTS, "joined->mean += C(0.5) * away;", "", 0, TILES),
    Mutant(LINES_MOMENTS, "copy * of_copy + group * lanes", "group * lanes", 0, TILES),
    Mutant(
        LINES_MOMENTS,
        "if (count_[e] == C(0)) near_[e] = next;",
        "",
        0,
        POSITIONS,
    ),
    Mutant(LINES_SHARED, "e * pitch + row", "e + row", 0, TILES),
    Mutant(LINES_SHARED, "row * columns + column", "row + column", 0, TILES),
    Mutant(LINES_APPLY, "{by_xhat[e], added[e]}", "{C(0), added[e]}", 0, TILES),
    Mutant(
        LINES_PARAMS,
        "FirstOrderTerms(dz[e], xhat[e]).with_xhat",
        "dz[e]",
        0,
        POSITIONS,
    ),
    Mutant(
        LINES_PARAMS,
        "has ? xhat[e] * At(by_xhat, e) : C(0)",
        "xhat[e] * At(by_xhat, e)",
        0,
        POSITIONS,
    ),
    Mutant(LINES_PARAMS, "(has ? At(added, e) : C(0))", "At(added, e)", 0, POSITIONS),
    Mutant(
        PLAN_LINES,
        "*copies = full / std::gcd(lines.line, full);",
        "*copies = 2;",
        0,
        TILES,
    ),
    Mutant(
        PLAN_LINES,
        "const bool whole = lines.rows * lines.line % full == 0;",
        "const bool whole = true;",
        0,
        TILES,
    ),
    Mutant(NORM, "lanes && problem.reduces_q ? problem.q : 1", "1", 0, KERNELS),
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
    Mutant(LONG_LAUNCH, "plan.sets == 0 ? Status()", "true ? Status()"),
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
    Mutant(PLAN_COLUMNS, " || !HasPlainAffine(work)", ""),
    Mutant(PLAN_COLUMNS, "problem.has_mask || ", ""),
    Mutant(PLAN_COLUMNS, "if (problem.q > 1) return 0;", ""),
    Mutant(PLAN_COLUMNS, "problem.n == 1 ? problem.g : 0", "problem.g"),
    Mutant(PLAN_COLUMNS, "2 * rows * pieces", "rows * pieces"),
    Mutant(PLAN_COLUMNS, '"LongRowSums", rows * pieces', '"LongRowSums", rows'),
    Mutant(PLAN_COLUMNS, "geometry.chunk_rows * bytes_of_row);", "bytes_of_row);"),
    Mutant(PLAN_COLUMNS, "rows / samples", "rows"),
    Mutant(
        PLANNING, "\n      problem.param == ComputeType(problem.data)", "\n      true"
    ),
    Mutant(PLANNING, "kColumnSumsThreads * work.compute_bytes", "work.compute_bytes"),
    Mutant(NORM, "needs_beta ? buffers.beta : nullptr", "nullptr"),
]


def apply(mutant, folder):
    """Writes the mutant; returns the file and its text before."""
    path = folder / "cuda" / mutant.file
    before = path.read_text()
    found = [m.start() for m in re.finditer(re.escape(mutant.old), before)]
    # Not in comments, where it would change nothing.
    places = [
        at for at in found if "//" not in before[before.rfind("\n", 0, at) + 1 : at]
    ]
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
    return failure(library, () if data is None else ("-k", OF_FLOAT32), mutant.by)


def failure(library, arguments=(), first=""):
    """Runs the tests on a library, those of a file first; returns the first failure."""
    tests = sorted(TESTS, key=lambda path: path.name != first)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p"),
            *("no:cacheprovider", *arguments, *map(str, tests)),
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
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    parser.add_argument("--table", type=Path, help="also write a Markdown table")
    arguments = parser.parse_args()
    mutants = [m for m in MUTANTS if arguments.only in str(m)]
    if arguments.list:
        print(*mutants, f"{len(mutants)} mutants", sep="\n")
        return
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
                if data is not None and not mutant.file.startswith(PER_TYPE):
                    continue  # the file is compiled once for all types
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
