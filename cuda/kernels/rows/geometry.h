// The `rows` scheme: a row stays in the registers of the threads that share it.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

struct RowsGeometry {
  static constexpr char kName[] = "rows";

  bool general = false;  // the general instance, not a specialised one
  int width = 1;         // elements of an access: 16 bytes of them, or 1
  int vectors = 1;       // accesses to a row that a thread holds
  bool block = false;    // a block shares a row; otherwise lanes of a warp do
  int team = 1;          // threads that share a row; a power of two where lanes do
  int team_shift = 0;    // its logarithm, where lanes share a row
  int warps = 1;         // of a block, rounded up to a power of two
  int teams = 1;         // of a block; each has RowsAtOnce rows at a time
  // Backward: teams that share the rows; of each sample, where samples have gamma and
  // beta of their own.
  int64_t slots = 1;

  // Calls visit(name, number) for what describes the geometry to a reader.
  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("general", general);
    visit("width", width);
    visit("vectors", vectors);
    visit("block", block);
    visit("team", team);
    visit("teams", teams);
    visit("slots", slots);
  }
};

}  // namespace cuda
}  // namespace fusednorm
