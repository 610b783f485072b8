// The `stream` scheme: how sets are cut into slabs, and the order of the work items.
#include "cuda/plan/stream.h"

#include <algorithm>

#include "cuda/kernels/common/activations.h"
#include "cuda/plan/lines.h"

namespace fusednorm {
namespace cuda {
namespace {

// These numbers were simulated, not measured (python/fusednorm/_traffic.py). The data
// may take half of L2, and the slabs that all blocks work on at a time a third of that.
// Sums are ahead of apply by one set and three quarters of the resident slabs, so that
// blocks hardly wait.
constexpr int64_t kSlabBytes = 32 << 10;  // bytes of all tensors that sums reads
// Each slab costs a thread hundreds of instructions beside those of its accesses. Slabs
// are therefore larger where L2 has room for them.
constexpr int64_t kMostSlabBytes = 64 << 10;
constexpr double kShareOfL2 = 0.5;
constexpr int64_t kInFlight = 3;
constexpr double kAhead = 0.75;
// A slab leaves sums of all its lanes. These are few bytes beside so many rows.
constexpr int64_t kRowsOfSlab = 32;
// More slabs would make it long to join those of a set.
constexpr int64_t kSlabsOfMultiprocessor = 2;
// A thread adds up no longer chains, because these lose digits
// (tests/support/bounds.py).
constexpr int64_t kMostRounds = 32;

int64_t L2Share(const Work& work) {
  return static_cast<int64_t>(kShareOfL2 * static_cast<double>(work.device.l2_bytes));
}

// What the plain instances know at compile time (features.cuh).
bool IsPlain(const NormProblem& problem) {
  return problem.centred && problem.reduces_q && !problem.has_residual &&
         !problem.has_mask && !problem.per_position && IsInlined(problem.activation) &&
         problem.data != DataType::kDouble;
}

// Whether each run of Q elements has one gamma and beta.
bool ByRuns(const Work& work) {
  const NormProblem& problem = work.problem;
  if (problem.p > 1 || !problem.reduces_q || problem.per_position) return false;
  // Lines take the backward pass where each element of a row has its own gradient sum.
  return problem.q > 1 || !work.backward;
}

int64_t BlocksResident(const Work& work, int blocks, int threads,
                       int64_t shared_bytes) {
  const Device& device = work.device;
  const int64_t by_shared =
      device.shared_bytes_per_multiprocessor / (shared_bytes + 1024);
  return device.multiprocessors *
         std::max<int64_t>(
             1, std::min({int64_t{blocks}, by_shared,
                          int64_t{device.max_threads_per_multiprocessor / threads}}));
}

// The number of tensors that both sums and apply read.
int64_t Tensors(const Work& work) { return work.backward ? 2 : 1; }

// The bytes of x that a slab should have, if sets could have any size.
int64_t SlabBytes(const Work& work, int64_t resident) {
  return std::min(kSlabBytes, L2Share(work) / kInFlight / resident) / Tensors(work);
}
// The same for sets with `set_bytes` of x. Slabs are no larger than lets sums stay
// ahead of apply (SetOrder).
int64_t SlabBytes(const Work& work, int64_t resident, int64_t set_bytes) {
  const int64_t room = L2Share(work) - 2 * Tensors(work) * set_bytes;
  const double slabs = static_cast<double>(resident) * (2 * kAhead + 1.0 / kInFlight);
  const int64_t most = static_cast<int64_t>(static_cast<double>(room) / slabs);
  return std::max(SlabBytes(work, resident),
                  std::min(kMostSlabBytes, most) / Tensors(work));
}

// The most bytes of x that a set of lines should have, with so many blocks on a
// multiprocessor. Two sets of this size take half of our share of L2.
int64_t SetBytes(const Work& work, int64_t blocks) {
  const NormProblem& problem = work.problem;
  const int64_t resident = blocks * work.device.multiprocessors;
  const int64_t slab_bytes =
      std::min(SlabBytes(work, resident),
               CeilDiv(problem.num_elements() * work.element_bytes, resident));
  const int64_t rows = problem.reduces_q ? problem.p : problem.k;
  return std::min(L2Share(work) / (4 * Tensors(work)), slab_bytes / kRowsOfSlab * rows);
}

// The number of units of a slab, where a set has `units` units. A slab should have
// `bytes`, but there should be enough slabs for all blocks, and not more than is quick
// to join. A slab has whole rounds of `round` units.
int64_t UnitsOfSlab(const Work& work, int64_t sets, int64_t units, int64_t round,
                    int64_t unit_bytes, int64_t resident, int64_t bytes) {
  const int64_t rounds = CeilDiv(units, round);
  int64_t of_slab = std::max<int64_t>(1, bytes / (round * unit_bytes));
  of_slab = std::min(of_slab, std::max<int64_t>(1, sets * rounds / resident));
  const int64_t most_slabs =
      std::max<int64_t>(1, kSlabsOfMultiprocessor * work.device.multiprocessors);
  of_slab = std::max(of_slab, CeilDiv(rounds, most_slabs));
  of_slab = std::min(of_slab, kMostRounds);
  const int64_t slabs = CeilDiv(rounds, of_slab);
  return CeilDiv(rounds, slabs) * round;
}

// Sets the order of the items, where sets have `slabs` slabs with `slab_bytes` of x.
void SetOrder(const Work& work, int64_t sets, int64_t slabs, int64_t slab_bytes,
              int64_t resident, StreamOrder* order) {
  // L2 holds each slab from its sums to its apply, and as long again until it is
  // evicted. L2 also holds the slabs in work, gamma and beta (large with long rows),
  // and outputs.
  const TensorBytes tensors = TensorsOf(work);
  const int64_t share = L2Share(work), twice = 2 * Tensors(work);
  const int64_t room = share - std::min(tensors.params_read, share / 2) -
                       Tensors(work) * slab_bytes * resident / kInFlight;
  // A residual is read once. Forward also writes its sum once.
  const int64_t once = !work.problem.has_residual ? 0 : work.backward ? 1 : 2;
  const int64_t held = twice + once + (ExceedL2(work, tensors) ? 0 : 1);
  const int64_t most = std::max<int64_t>(1, room / (held * slab_bytes));
  const int64_t ahead = static_cast<int64_t>(kAhead * static_cast<double>(resident));
  order->sets = sets;
  order->slabs = Divider(slabs);
  order->lag = std::min(sets * slabs, std::max(slabs, std::min(slabs + ahead, most)));
  order->backwards = slabs > most;
  order->counter_bytes = RoundUp(CounterBytes(sets), 256);
}

// Adds the launch of any plan of the scheme. `slabs` is the number of slabs of all
// sets.
void AddStreamLaunch(const Work& work, const char* kernel, int threads,
                     int64_t shared_bytes, int64_t resident, int64_t slabs,
                     int64_t sums_bytes, StreamOrder* order, Plan* plan) {
  const NormProblem& problem = work.problem;
  plan->partial_bytes = order->counter_bytes + RoundUp(sums_bytes, 256);
  if (work.backward) {
    order->shares_offset = plan->partial_bytes;
    plan->partial_bytes += 2 * problem.num_groups() * work.compute_bytes;
    AddCountMask(work, plan);
  }
  if (plan->sets > 0) {
    order->params =
        static_cast<int>(std::min(CeilDiv(problem.num_params(), kWarp), 4 * resident));
  }
  const int64_t items = 2 * slabs + order->params;
  AddLaunch(plan, kernel, std::min(resident, items), threads, 1,
            kQueueBytes + shared_bytes);
  plan->launches[plan->num_launches - 1].waits = true;
}

void AddLines(const Work& work, bool general, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const int blocks = StreamBlocks(work.element_bytes, general && work.backward);
  LinesWanted wanted;
  wanted.general = general;
  wanted.threads = kStreamThreads;
  wanted.set_bytes = SetBytes(work, blocks);
  // Every GPU has at least this much without asking.
  wanted.shared_bytes = std::max<int64_t>(work.SharedBytesOfHalf(), 0) - kQueueBytes;
  LinesPlan lines = PlanLines(work, wanted);
  // The code that adds up dgamma and dbeta takes one number for each thread.
  lines.shared_bytes = std::max(lines.shared_bytes, lines.threads * work.compute_bytes);
  StreamGeometry geometry;
  geometry.general = general;
  geometry.lines = lines.geometry;
  LinesGeometry& g = geometry.lines;
  geometry.width = g.width;
  if (!general && g.width == 1) return;
  LineStream& stream = geometry.line_stream;
  const int64_t resident =
      BlocksResident(work, blocks, lines.threads, lines.shared_bytes);
  const int64_t sets = g.outer * g.tiles.divisor(), parts = g.parts.divisor();
  const int64_t row_bytes = g.part_lanes * work.element_bytes;
  const int64_t set_bytes = g.rows * g.tile_lanes * work.element_bytes;
  stream.slab_rows =
      UnitsOfSlab(work, sets * parts, g.rows, g.thread_rows.divisor(), row_bytes,
                  resident, SlabBytes(work, resident, set_bytes));
  const int64_t turns = CeilDiv(g.rows, stream.slab_rows);
  stream.turns = static_cast<int>(turns);
  SetOrder(work, sets, turns * parts, stream.slab_rows * row_bytes, resident,
           &stream.order);

  constexpr int kTeamBits = 5;
  if (work.backward) {
    const int64_t lanes = parts > 1 ? g.tile_lanes : g.group_lanes.divisor();
    const int bits = g.tile_groups == 1
                         ? kTeamBits
                         : Log2Floor(lines.threads / g.tile_groups, kTeamBits);
    const int lane_bits = g.tile_groups == 1
                              ? Log2Floor(lines.threads / lanes, kTeamBits)
                              : bits - Log2Ceil(g.columns ? 1 : lanes, bits);
    stream.join_row_bits = std::min(lane_bits, Log2Ceil(turns, kTeamBits));
    stream.join_bits = bits - stream.join_row_bits;
  } else {
    stream.join_bits = std::min(Log2Floor(lines.threads / g.tile_groups, kTeamBits),
                                Log2Ceil(turns * parts, kTeamBits));
  }
  Plan plan;
  if (work.params && !problem.per_position) {
    const int64_t units = g.outer * (g.columns ? g.tiles.divisor() : 1);
    PlanParamSums(work, units / problem.param_sets,
                  problem.param_sets * (g.columns ? g.rows : g.line / g.copies), false,
                  &plan);
  }
  const int64_t slabs = sets * turns * parts;
  AddStreamLaunch(
      work, work.backward ? "StreamLinesBackward" : "StreamLinesForward", lines.threads,
      lines.shared_bytes, resident, slabs,
      slabs * work.compute_bytes *
          (work.backward ? 2 * g.part_lanes : kMomentsNumbers * int64_t{g.tile_groups}),
      &stream.order, &plan);
  plan.geometry = geometry;
  plans->push_back(plan);
}

void AddRunSlabs(const Work& work, bool general, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  StreamGeometry geometry;
  geometry.general = general;
  geometry.by_runs = true;
  RunStream& g = geometry.run_stream;
  g.along = problem.q == 1;
  g.runs = static_cast<int>(g.along ? 1 : problem.k);
  g.run = g.along ? problem.k : problem.q;
  geometry.width = work.Width(g.run);
  // Where each element has its own gamma and beta, the plain instance has only a loop
  // without activation.
  const bool activated = problem.activation != Activation::kNone;
  if (!general && (geometry.width == 1 || (g.along && activated))) return;
  const int64_t vectors = general         ? 2
                          : work.backward ? kStreamBackwardVectors
                                          : kStreamForwardVectors;
  const int64_t accesses = g.run / geometry.width, sets = problem.n * problem.g;
  const int64_t run_bytes = g.run * work.element_bytes;
  int threads = kStreamThreads;
  while (threads > 2 * kWarp && threads / 2 >= g.runs * accesses) threads /= 2;
  const int64_t shared_bytes = std::max<int64_t>({int64_t{kMomentsNumbers} * kMaxWarps,
                                                  2 * kMaxWarps, threads}) *
                               work.compute_bytes;
  const int64_t resident = BlocksResident(work, StreamBlocks(work.element_bytes, false),
                                          threads, shared_bytes);
  g.team_bits = Log2Ceil(CeilDiv(accesses, vectors), Log2Floor(threads, 30));
  int64_t slabs = 0, slab_bytes = 0;
  const int64_t wanted = SlabBytes(work, resident, g.runs * run_bytes);
  if (run_bytes > wanted) {
    const int64_t of_piece =
        UnitsOfSlab(work, sets * g.runs, accesses, threads,
                    work.element_bytes * geometry.width, resident, wanted);
    g.piece = of_piece * geometry.width;
    g.pieces = SmallDivider(CeilDiv(accesses, of_piece));
    slabs = g.runs * int64_t{g.pieces.divisor()};
    slab_bytes = g.piece * work.element_bytes;
  } else {
    g.piece = g.run;
    const int64_t of_slab = UnitsOfSlab(work, sets, g.runs, threads >> g.team_bits,
                                        run_bytes, resident, wanted);
    g.slab_runs = static_cast<int>(std::min<int64_t>(of_slab, g.runs));
    slabs = CeilDiv(g.runs, g.slab_runs);
    slab_bytes = g.slab_runs * run_bytes;
  }
  SetOrder(work, sets, slabs, slab_bytes, resident, &g.order);
  g.join_row_bits =
      std::min(Log2Floor(threads / g.runs, 5), Log2Ceil(g.pieces.divisor(), 5));
  Plan plan;
  if (work.params) {
    PlanParamSums(work, problem.n, problem.num_params(), false, &plan);
  }
  const int64_t pieces = int64_t{g.runs} * g.pieces.divisor();
  AddStreamLaunch(work, work.backward ? "StreamRunsBackward" : "StreamRunsForward",
                  threads, shared_bytes, resident, sets * slabs,
                  sets * work.compute_bytes *
                      (work.backward ? 2 * pieces : kMomentsNumbers * slabs),
                  &g.order, &plan);
  plan.geometry = geometry;
  plans->push_back(plan);
}

}  // namespace

void AddStream(const Work& work, std::vector<Plan>* plans) {
  for (const bool general : {false, true}) {
    if (Enough(work, *plans)) return;
    if (!general && !IsPlain(work.problem)) continue;
    if (ByRuns(work)) {
      AddRunSlabs(work, general, plans);
    } else {
      AddLines(work, general, plans);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
