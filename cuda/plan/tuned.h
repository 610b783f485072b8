// Plans that were measured to be faster than the first candidate, as `fusednorm tune`
// writes them (docs/tuning.md). A table says which of the candidates of a problem runs;
// it cannot make a plan that the planner does not make.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "core/status.h"
#include "cuda/device/devices.h"
#include "cuda/plan/plan.h"

namespace fusednorm {
namespace cuda {

// What the plan of a pass is a function of. Forward has no `params`.
struct PlanRequest {
  NormProblem problem;
  Device device;
  bool backward = false;
  bool aligned = false;
  bool params = false;
};

// The plans that launches obey: the one that the table names, else the first candidate.
Plan ChooseForward(const NormProblem& problem, const Device& device, bool aligned);
Plan ChooseBackward(const NormProblem& problem, const Device& device, bool aligned,
                    bool params);

// All plans that compute the pass, as the two functions of plan.h return them.
std::vector<Plan> Candidates(const PlanRequest& request);
// The beginning of a line of the table, up to its plan: the request in every detail
// that a plan depends on, and the name of the device.
std::string KeyOf(const PlanRequest& request);
// The plan as a line names it: different for each of the candidates.
std::string Describe(const Plan& plan);

// A line of the table.
struct TunedEntry {
  std::string plan;         // as Describe has it
  bool stale = false;       // that is none of the candidates any more: it is ignored
  int64_t nanoseconds = 0;  // that it took when it was measured,
  int64_t rule_nanoseconds = 0;  // and that the first candidate took
  std::string measured;          // with what, and when
};
std::optional<TunedEntry> FindTuned(const PlanRequest& request);

// The table that is in use.
struct TunedTable {
  std::string path;  // where it is read from; empty: from nowhere
  int64_t entries = 0;
  std::string error;  // why it is not used, naming file and line
};
TunedTable TunedTableInUse();

// Replaces the table of this process. `path` is for messages.
Status SetTunedTable(const std::string& path, const std::string& text);
// Reads it again from its file: the one that FUSEDNORM_TUNED names, no file if that is
// empty, or tuned.tsv in the user's cache folder. That also happens when the first plan
// is made. No file is no error; what is wrong with one is printed to standard error.
Status ReloadTunedTable();

}  // namespace cuda
}  // namespace fusednorm
