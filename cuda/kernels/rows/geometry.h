// The `rows` scheme: a row stays in the registers of the threads that share it, a team.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

struct RowsGeometry {
  static constexpr char kName[] = "rows";

  bool general = false;  // the general instance, not a specialised one
  int width = 1;         // elements of an access: 16 bytes of them, or 1
  int vectors = 1;       // accesses to one row that a thread holds
  bool block = false;    // a block shares a row; otherwise lanes of a warp share it
  int team = 1;          // threads of a team; lanes of a warp are a power of two
  int team_shift = 0;    // log2(team), where lanes share a row
  int warps = 1;         // warps of a block, rounded up to a power of two
  int teams = 1;         // teams of a block; each has RowsAtOnce rows at a time
  // Only in backward: the number of teams that share all rows or, where samples have
  // gamma and beta of their own, the rows of one sample.
  int64_t slots = 1;

  // Calls visit(name, number) for each number that describes the geometry to a reader.
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
