// The `rows` scheme: which instances take a row, and in which order they are preferred.
#include "cuda/plan/rows.h"

#include <algorithm>

#include "cuda/instances.h"

namespace fusednorm {
namespace cuda {
namespace {

// The numbers of a problem that the instances need.
struct RowsProblem {
  explicit RowsProblem(const Work& work)
      : rows(work.problem.n * work.problem.g),
        length(work.problem.k * work.problem.q),
        width(work.Width(length)),
        accesses(length / width) {}

  int64_t rows, length;
  int width;
  int64_t accesses;
};

// The threads that share a row, or 0 if the instance does not take it.
int TeamOf(const RowsInstance& instance, int64_t accesses) {
  const int64_t needed = CeilDiv(accesses, instance.vectors);
  if (instance.block) {
    return needed > instance.threads ? 0 : WholeWarps(needed, instance.threads);
  }
  const int64_t lanes = PowerOfTwo(needed);
  // Fewer than four lanes with several accesses each would not read whole sectors of
  // memory at a time.
  const bool torn = !instance.general && instance.vectors > 1 && lanes < 4;
  return lanes > kWarp || torn ? 0 : static_cast<int>(lanes);
}

// The rank of an instance; the lowest comes first. It was measured on an H200 with rows
// of 12, 32, 96, 192, 200, 400, 512, 1024, 1536 and 3072 accesses (docs/cuda.md). For
// other lengths the order is a guess.
double Rank(const Work& work, const RowsInstance& instance, int team,
            int64_t accesses) {
  constexpr double kBlock = 1000, kLate = 2000, kGeneral = 10000;
  // Lanes come before blocks, as they need no barrier. Among them, those come first
  // that leave the fewest lanes without an access, then those with the fewest accesses
  // for each thread.
  const double waste =
      static_cast<double>(team) * instance.vectors / static_cast<double>(accesses);
  double rank = instance.block ? kBlock + 10 * instance.vectors + waste
                               : 100 * waste + instance.vectors;
  // A large block waits long for its last warp. More accesses for each thread are then
  // better, as long as registers allow that.
  const int few = instance.vectors > 2 ? 256 : work.backward ? 512 : 128;
  if (instance.block && team > few) rank += kBlock / 2;
  // The columns of three accesses take so many registers that few warps are resident.
  if (work.backward && team == kWarp && instance.vectors > 2) rank += kLate;
  return instance.general ? rank + kGeneral : rank;
}

struct Choice {
  RowsInstance instance;
  int team;
  double rank;
};

// The instances that take the problem, best first.
template <size_t kLines>
std::vector<Choice> Choices(const Work& work, const RowsProblem& rows,
                            const RowsInstance (&table)[kLines]) {
  std::vector<Choice> choices;
  if (work.problem.has_mask) return choices;
  const bool specialised = rows.width > 1 && HasPlainAffine(work);
  for (const RowsInstance& instance : table) {
    if (instance.element_bytes != work.element_bytes ||
        instance.wide != (rows.width > 1) || (!instance.general && !specialised)) {
      continue;
    }
    const int team = TeamOf(instance, rows.accesses);
    if (team == 0) continue;
    choices.push_back({instance, team, Rank(work, instance, team, rows.accesses)});
  }
  std::stable_sort(choices.begin(), choices.end(),
                   [](const Choice& a, const Choice& b) { return a.rank < b.rank; });
  return choices;
}

RowsGeometry GeometryOf(const Choice& choice, int width, int threads) {
  RowsGeometry geometry;
  geometry.general = choice.instance.general;
  geometry.width = width;
  geometry.vectors = choice.instance.vectors;
  geometry.block = choice.instance.block;
  geometry.team = choice.team;
  while (!geometry.block && (1 << geometry.team_shift) < geometry.team) {
    ++geometry.team_shift;
  }
  geometry.warps = static_cast<int>(PowerOfTwo(threads / kWarp));
  geometry.teams = geometry.block ? 1 : threads / choice.team;
  return geometry;
}

// The number of blocks that a multiprocessor certainly has room for.
int64_t BlocksResident(const Work& work, const RowsInstance& instance, int threads) {
  const int64_t by_registers = int64_t{instance.threads} * instance.blocks / threads;
  const int64_t by_threads = work.device.max_threads_per_multiprocessor / threads;
  return std::max<int64_t>(1, std::min(by_registers, by_threads));
}

void Occupy(const Work& work, const RowsInstance& instance, int64_t tensors,
            Plan* plan) {
  Launch& launch = plan->launches[0];
  const int64_t bytes = instance.wide ? 16 : work.element_bytes;
  launch.bytes_in_flight =
      tensors * instance.vectors * bytes *
      RowsAtOnce(instance.general, instance.vectors, instance.block);
  launch.threads_resident =
      static_cast<int>(BlocksResident(work, instance, launch.threads) * launch.threads);
}

int64_t SharedOfTeam(const Work& work, const RowsInstance& instance) {
  return instance.block ? RowTeamBytes(work.compute_bytes) : 0;
}

Plan ForwardPlan(const Work& work, const RowsProblem& rows, const Choice& choice) {
  const RowsInstance& instance = choice.instance;
  Plan plan;
  const int threads = instance.block ? choice.team : instance.threads;
  const RowsGeometry geometry = GeometryOf(choice, rows.width, threads);
  const int64_t rows_of_block =
      int64_t{geometry.teams} *
      RowsAtOnce(instance.general, instance.vectors, instance.block);
  int64_t blocks = CeilDiv(rows.rows, rows_of_block);
  // It is fastest if each team takes one row and there is no loop. There are two
  // exceptions: short rows, where a loop loads gamma and beta once, and the general
  // instance, whose prologue is long.
  const bool loops = instance.general || (!instance.block && choice.team < kWarp);
  blocks = std::min(blocks, loops ? kRounds * work.device.multiprocessors : kMaxGrid);
  plan.geometry = geometry;
  AddLaunch(&plan, "RowsForward", blocks, threads, 1, SharedOfTeam(work, instance));
  Occupy(work, instance, work.problem.has_residual ? 2 : 1, &plan);
  return plan;
}

Plan BackwardPlan(const Work& work, const RowsProblem& rows, const Choice& choice) {
  const NormProblem& problem = work.problem;
  const RowsInstance& instance = choice.instance;
  const int64_t multiprocessors = work.device.multiprocessors;
  const int64_t samples = problem.param_sets;
  const bool columns = SumsColumns(work);
  Plan plan;
  int threads = instance.block ? choice.team : instance.threads;
  // Where samples have their own parameters, all rows of a block are of one sample. A
  // sample may have few rows.
  const int64_t rows_of_set = rows.rows / samples;
  if (samples > 1 && !instance.block) {
    threads = WholeWarps(rows_of_set * choice.team, threads);
  }
  RowsGeometry geometry = GeometryOf(choice, rows.width, threads);
  // If no columns are summed, there may be many blocks.
  const int64_t per_multiprocessor =
      columns ? BlocksResident(work, instance, threads) : kRounds;
  // If all teams of a block have the same columns, the block adds them up.
  const bool joined = columns && !instance.block && problem.g == 1;
  int64_t sets = 0;
  if (instance.block) {
    // Few rows make few sets of partial sums. The number is a guess, not measured.
    constexpr int64_t kRowsOfSet = 4;
    const int64_t most =
        columns ? std::max(multiprocessors, CeilDiv(rows.rows, kRowsOfSet)) : kMaxGrid;
    geometry.slots =
        SharesOfRows(work, std::min(most, per_multiprocessor * multiprocessors));
    sets = geometry.slots / problem.g;
  } else {
    const int64_t blocks =
        std::min(CeilDiv(rows_of_set, geometry.teams),
                 CeilDiv(per_multiprocessor * multiprocessors, samples));
    geometry.slots = blocks * geometry.teams;
    if (columns && problem.g > 1) geometry.slots = SharesOfRows(work, geometry.slots);
    sets = joined ? blocks : geometry.slots / problem.g;
  }
  plan.geometry = geometry;
  const int64_t length_bytes = 2 * rows.length * work.compute_bytes;
  AddLaunch(&plan, "RowsBackward", samples * CeilDiv(geometry.slots, geometry.teams),
            threads, 1, joined ? length_bytes : SharedOfTeam(work, instance));
  Occupy(work, instance, problem.has_residual ? 3 : 2, &plan);
  if (work.params) {
    PlanParamSums(work, problem.q == 1 ? sets : problem.n, problem.num_params(), true,
                  &plan);
  }
  return plan;
}

}  // namespace

bool HasPlainAffine(const Work& work) {
  const NormProblem& problem = work.problem;
  const bool beta = work.backward || !problem.centred || problem.has_beta;
  return problem.q == 1 && problem.g == 1 && problem.param_sets == 1 &&
         !problem.per_position && problem.has_gamma && beta && !problem.has_mask &&
         !problem.zero_centered && problem.activation == Activation::kNone &&
         problem.data != DataType::kDouble &&
         problem.param == ComputeType(problem.data);
}

bool ConstantRows(const NormProblem& problem) {
  return problem.q > 1 && problem.k == 1;
}

bool SumsColumns(const Work& work) { return work.params && work.problem.q == 1; }

int64_t SharesOfRows(const Work& work, int64_t teams) {
  const NormProblem& problem = work.problem;
  const int64_t rows_of_set = problem.n * problem.g / problem.param_sets;
  teams = CeilDiv(teams, problem.param_sets);
  if (SumsColumns(work) && problem.g > 1) {
    return problem.g * std::max<int64_t>(1, std::min(problem.n, teams / problem.g));
  }
  return std::max<int64_t>(1, std::min(rows_of_set, teams));
}

void AddRowsForward(const Work& work, std::vector<Plan>* plans) {
  const RowsProblem rows(work);
  for (const Choice& choice : Choices(work, rows, kRowsForward)) {
    if (Enough(work, *plans)) return;
    plans->push_back(ForwardPlan(work, rows, choice));
  }
}

void AddRowsBackward(const Work& work, std::vector<Plan>* plans) {
  const RowsProblem rows(work);
  // `stream` takes gradients of gamma and beta that change from run to run.
  if (work.params && work.problem.q > 1 && !ConstantRows(work.problem)) return;
  for (const Choice& choice : Choices(work, rows, kRowsBackward)) {
    if (Enough(work, *plans)) return;
    plans->push_back(BackwardPlan(work, rows, choice));
  }
}

}  // namespace cuda
}  // namespace fusednorm
