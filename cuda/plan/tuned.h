// Plans that were measured to be faster than the first candidate, as `fusednorm tune`
// writes them (docs/tuning.md). A table says which of a problem's candidates runs. It
// cannot make a plan that the planner does not make.
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

// Everything on which the plan of a pass depends. `params` is for backward only.
struct PlanRequest {
  NormProblem problem;
  Device device;
  bool backward = false;
  bool aligned = false;
  bool params = false;
};

// The plans that launches obey: the one that the table names, or else the first
// candidate.
Plan ChooseForward(const NormProblem& problem, const Device& device, bool aligned);
Plan ChooseBackward(const NormProblem& problem, const Device& device, bool aligned,
                    bool params);

// All plans that compute the pass, in the order of the functions of plan.h.
std::vector<Plan> Candidates(const PlanRequest& request);
// The beginning of a line of the table, up to the plan: every detail of the request on
// which a plan depends, and the name of the device.
std::string KeyOf(const PlanRequest& request);
// The text that names a plan in a line. All candidates have different texts.
std::string Describe(const Plan& plan);

// A line of the table.
struct TunedEntry {
  std::string plan;              // the text from Describe
  bool stale = false;            // not one of the candidates any more, so it is ignored
  int64_t nanoseconds = 0;       // time of the plan when it was measured
  int64_t rule_nanoseconds = 0;  // time of the first candidate at that time
  std::string measured;          // with what it was measured, and when
};
std::optional<TunedEntry> FindTuned(const PlanRequest& request);

// The table in use.
struct TunedTable {
  std::string path;  // the file that it was read from; empty: no file
  int64_t entries = 0;
  std::string error;  // why it is not used, with file and line
};
TunedTable TunedTableInUse();

// Replaces the table of this process. `path` is for messages.
Status SetTunedTable(const std::string& path, const std::string& text);
// Reads the table again. The file is the one that FUSEDNORM_TUNED names, or no file if
// that is empty, or tuned.tsv in the user's cache folder. The first plan that is made
// also reads it. A missing file is no error; errors in a file are printed to standard
// error.
Status ReloadTunedTable();

}  // namespace cuda
}  // namespace fusednorm
