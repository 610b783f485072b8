#include "cuda/plan/tuned.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <shared_mutex>
#include <sstream>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "cuda/plan/view.h"

namespace fusednorm {
namespace cuda {
namespace {

constexpr char kHeader[] = "fusednorm tuned plans, version 1";

// Calls visit(name, field) for all fields of a key, in the order of a line. The fields
// are all that the planner looks at, and whatever else changes the time of a kernel.
template <class Request, class Visit>
void ForEachField(Request& request, Visit&& visit) {
  auto& device = request.device;
  visit("device", device.name);
  visit("multiprocessors", device.multiprocessors);
  visit("max_threads", device.max_threads_per_multiprocessor);
  visit("shared_bytes", device.shared_bytes_per_multiprocessor);
  visit("shared_bytes_of_block", device.shared_bytes_per_block);
  visit("l2_bytes", device.l2_bytes);
  visit("cluster", device.max_cluster);
  visit("backward", request.backward);
  visit("aligned", request.aligned);
  visit("params", request.params);
  auto& problem = request.problem;
  visit("dtype", problem.data);
  visit("param_dtype", problem.param);
  visit("n", problem.n);
  visit("p", problem.p);
  visit("g", problem.g);
  visit("k", problem.k);
  visit("q", problem.q);
  visit("reduces_q", problem.reduces_q);
  visit("centred", problem.centred);
  visit("activation", problem.activation);
  visit("gamma", problem.has_gamma);
  visit("beta", problem.has_beta);
  visit("zero_centered", problem.zero_centered);
  visit("residual", problem.has_residual);
  visit("param_sets", problem.param_sets);
  visit("per_position", problem.per_position);
  visit("mask", problem.has_mask);
  visit("mask_n", problem.mask_n);
  visit("mask_q", problem.mask_q);
}

// Makes requests equal if kernels and plans cannot tell them apart.
PlanRequest Normalized(PlanRequest request) {
  NormProblem& problem = request.problem;
  problem = Simplified(problem);
  if (!problem.has_mask) problem.mask_n = problem.mask_q = 1;
  request.params = request.params && request.backward;
  request.device.max_cluster = std::min(request.device.max_cluster, kTileCluster);
  return request;
}

std::string ToText(const std::string& value) { return value; }
std::string ToText(int64_t value) { return std::to_string(value); }
std::string ToText(DataType value) { return Name(value); }
std::string ToText(Activation value) { return Name(value); }

bool FromText(const std::string& text, std::string* value) {
  *value = text;
  return true;
}
bool FromText(const std::string& text, DataType* value) {
  return DataTypeFromName(text, value);
}
bool FromText(const std::string& text, Activation* value) {
  return ActivationFromName(text, value);
}
template <class Integer>
bool FromText(const std::string& text, Integer* value) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  *value = static_cast<Integer>(number);
  return error == std::errc() && stopped == end && int64_t{*value} == number;
}

// The key with which a launch looks a plan up: like KeyOf, but faster to make.
std::string Bytes(const PlanRequest& request) {
  std::string bytes;
  bytes.reserve(512);
  const auto add_number = [&](int64_t number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
  };
  const auto add = [&](const char*, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, std::string>) {
      add_number(static_cast<int64_t>(field.size()));
      bytes.append(field);
    } else {
      add_number(static_cast<int64_t>(field));
    }
  };
  ForEachField(request, add);
  return bytes;
}

// Splits a line into its fields, which are `name=value` with tabs between them.
class Line {
 public:
  Line(std::string place, const std::string& text) : place_(std::move(place)) {
    std::istringstream stream(text);
    for (std::string field; std::getline(stream, field, '\t');) {
      fields_.push_back(field);
    }
  }

  template <class Value>
  void Take(const char* name, Value* value) {
    if (!status_.ok()) return;
    const std::string start = std::string(name) + "=";
    const bool there = next_ < fields_.size();
    const std::string field = there ? fields_[next_++] : "the end of the line";
    if (!there || field.compare(0, start.size(), start) != 0) {
      status_ = Error("must have the field " + start + "... here");
    } else if (!FromText(field.substr(start.size()), value)) {
      status_ = Error("must have a value that fits here");
    } else {
      return;
    }
    status_ = Status::InvalidArgument(status_.message() + ", found " + field);
  }

  Status End() const {
    if (!status_.ok() || next_ == fields_.size()) return status_;
    return Error("must end here, found " + fields_[next_]);
  }

  Status Error(const std::string& what) const {
    return Status::InvalidArgument(place_ + ": a line of tuned plans " + what);
  }

 private:
  const std::string place_;
  std::vector<std::string> fields_;
  size_t next_ = 0;
  Status status_;
};

// A line of the table, and the plan that it names, which is found when a launch first
// asks for it.
struct Resolvable {
  TunedEntry entry;
  Plan plan;
  std::once_flag resolved;

  void Resolve(const PlanRequest& request) {
    std::call_once(resolved, [&] {
      const std::vector<Plan> plans = cuda::Candidates(request);
      const auto named =
          std::find_if(plans.begin(), plans.end(),
                       [&](const Plan& each) { return Describe(each) == entry.plan; });
      entry.stale = named == plans.end();
      if (!entry.stale) plan = *named;
    });
  }
};
using Entries = std::unordered_map<std::string, Resolvable>;

Status Parse(const std::string& path, const std::string& text, Entries* entries) {
  std::istringstream stream(text);
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    const std::string place = path + ":" + std::to_string(++number);
    if (number == 1 && line != kHeader) {
      return Status::InvalidArgument(place + ": must be \"" + kHeader + "\", found \"" +
                                     line.substr(0, 80) + "\"");
    }
    if (number == 1 || line.empty() || line[0] == '#') continue;
    Line fields(place, line);
    PlanRequest request;
    ForEachField(request,
                 [&](const char* name, auto& field) { fields.Take(name, &field); });
    TunedEntry entry;
    fields.Take("plan", &entry.plan);
    fields.Take("nanoseconds", &entry.nanoseconds);
    fields.Take("rule_nanoseconds", &entry.rule_nanoseconds);
    fields.Take("measured", &entry.measured);
    FUSEDNORM_RETURN_IF_ERROR(fields.End());
    const auto [at, added] = entries->try_emplace(Bytes(request));
    if (!added) return fields.Error("must not repeat the problem of another line");
    at->second.entry = entry;
  }
  return number > 0 ? Status()
                    : Status::InvalidArgument(path + ":1: the file is empty");
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string PathOfFile() {
  if (std::getenv("FUSEDNORM_TUNED") != nullptr) return Variable("FUSEDNORM_TUNED");
  const std::string cache = Variable("XDG_CACHE_HOME"), home = Variable("HOME");
  if (!cache.empty()) return cache + "/fusednorm/tuned.tsv";
  return home.empty() ? "" : home + "/.cache/fusednorm/tuned.tsv";
}

// The table of this process. Only `fusednorm tune` and tests replace it.
class Table {
 public:
  Table() { static_cast<void>(Reload()); }

  Status Reload() {
    const std::string path = PathOfFile();
    std::ifstream file(path);
    std::ostringstream text;
    if (!path.empty() && file.is_open()) text << file.rdbuf();
    const Status status =
        file.is_open() ? Set(path, text.str()) : Replace(path, Entries(), Status());
    if (!status.ok()) {
      std::fprintf(stderr, "fusednorm: %s. No tuned plans are used.\n",
                   status.message().c_str());
    }
    return status;
  }

  Status Set(const std::string& path, const std::string& text) {
    Entries entries;
    const Status status = Parse(path, text, &entries);
    if (!status.ok()) entries.clear();
    return Replace(path, std::move(entries), status);
  }

  // Calls use(entry, plan) if the table has an entry for the request.
  template <class Use>
  void With(const PlanRequest& of_samples, Use&& use) {
    if (empty_.load(std::memory_order_relaxed)) return;
    if (of_samples.problem.num_elements() == 0) return;
    const PlanRequest request = Normalized(of_samples);
    const std::string bytes = Bytes(request);
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = entries_.find(bytes);
    if (found == entries_.end()) return;
    found->second.Resolve(request);
    use(found->second.entry, found->second.plan);
  }

  TunedTable Summary() {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    return summary_;
  }

 private:
  Status Replace(const std::string& path, Entries entries, const Status& status) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    entries_.swap(entries);
    summary_ = {path, static_cast<int64_t>(entries_.size()), status.message()};
    empty_.store(entries_.empty(), std::memory_order_relaxed);
    return status;
  }

  std::atomic<bool> empty_{true};  // launches then look no further
  std::shared_mutex mutex_;
  Entries entries_;
  TunedTable summary_;
};

Table& TheTable() {
  static Table* const table = new Table;  // launches may outlive static objects
  return *table;
}

bool FindPlan(const PlanRequest& request, Plan* plan) {
  bool found = false;
  TheTable().With(request, [&](const TunedEntry& entry, const Plan& named) {
    found = !entry.stale;
    if (found) *plan = named;
  });
  return found;
}

}  // namespace

Plan ChooseForward(const NormProblem& problem, const Device& device, bool aligned) {
  Plan plan;
  if (FindPlan({problem, device, false, aligned, false}, &plan)) return plan;
  return PlanForward(problem, device, aligned);
}

Plan ChooseBackward(const NormProblem& problem, const Device& device, bool aligned,
                    bool params) {
  Plan plan;
  if (FindPlan({problem, device, true, aligned, params}, &plan)) return plan;
  return PlanBackward(problem, device, aligned, params);
}

std::vector<Plan> Candidates(const PlanRequest& request) {
  return request.backward
             ? BackwardCandidates(request.problem, request.device, request.aligned,
                                  request.params)
             : ForwardCandidates(request.problem, request.device, request.aligned);
}

std::string KeyOf(const PlanRequest& request) {
  std::string text;
  const auto add = [&](const char* name, const auto& field) {
    text += (text.empty() ? "" : "\t") + std::string(name) + "=" + ToText(field);
  };
  const PlanRequest normalized = Normalized(request);
  ForEachField(normalized, add);
  return text;
}

std::string Describe(const Plan& plan) {
  std::string text = Name(plan.geometry);
  const auto add = [&](const char* name, int64_t number) {
    text += " " + std::string(name) + "=" + std::to_string(number);
  };
  std::visit([&](const auto& geometry) { geometry.ForEach(add); }, plan.geometry);
  for (int i = 0; i < plan.num_launches; ++i) {
    const Launch& launch = plan.launches[i];
    text += std::string("; ") + launch.kernel;
    add("blocks", launch.blocks);
    add("threads", launch.threads);
    add("cluster", launch.cluster);
  }
  return text;
}

std::optional<TunedEntry> FindTuned(const PlanRequest& request) {
  std::optional<TunedEntry> found;
  TheTable().With(request,
                  [&](const TunedEntry& entry, const Plan&) { found = entry; });
  return found;
}

TunedTable TunedTableInUse() { return TheTable().Summary(); }

Status SetTunedTable(const std::string& path, const std::string& text) {
  return TheTable().Set(path, text);
}

Status ReloadTunedTable() { return TheTable().Reload(); }

}  // namespace cuda
}  // namespace fusednorm
