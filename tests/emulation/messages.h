// What blocks of a launch tell one another through global memory: words that one
// publishes and others fetch, and counters that say when. A GPU keeps no order between
// two blocks but that of a release and the acquire that sees it, so that it is not
// enough that a word is there: a chain of barriers, releases and acquires has to lead
// from the thread that wrote it to the one that reads it.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace fusednorm {
namespace cuda {
namespace emulation {

// Of another block: all that it wrote before its barrier number `epoch`, and what its
// thread 0 wrote before its release number `release`.
struct Known {
  int64_t epoch = 0;
  int64_t release = 0;
};
using Knowledge = std::vector<Known>;  // of each block of the grid

// What a block knows. Only its thread 0 acquires; a barrier tells the others.
struct Mind {
  int64_t releases = 0;
  Knowledge of_all;
  Knowledge of_first;  // of thread 0
};

// Who does it, and when.
struct Actor {
  int64_t block = 0;
  int thread = 0;
  int64_t epoch = 0;  // of the block: its barriers so far
  Mind* mind = nullptr;
};

class Messages {
 public:
  // Of a new launch with so many blocks.
  void Start(int64_t blocks);
  // Of a block that starts.
  Mind NewMind() const;
  // All threads of the block have met at a barrier.
  static void Meet(Mind* mind) { mind->of_all = mind->of_first; }

  void Acquire(const Actor& actor, const void* counter);
  void Release(const Actor& actor, const void* counter);
  void Fetch(const Actor& actor, const void* from, int bytes);
  void Publish(const Actor& actor, const void* to, int bytes);
  // An access that is no Fetch. `constant`: of what nobody writes during the launch.
  void Load(const Actor& actor, const void* from, int bytes, bool constant);

 private:
  struct Word;
  static void CheckRead(const Actor& actor, const Word& word);
  static void NoteReader(const Actor& actor, Word* word);
  static void PublishWord(const Actor& actor, Word* word);

  static constexpr int64_t kNobody = -1;
  static constexpr int64_t kSeveral = -2;
  struct Word {
    int64_t writer = kNobody;  // block
    int64_t writing_thread = kNobody;
    int64_t written = -1;  // epoch of that block
    int64_t release = 0;   // releases of that block before
    int64_t reader = kNobody;
    int64_t reading_thread = kNobody;
    int64_t read = -1;  // epoch of that block
  };

  int64_t blocks_ = 0;
  // What the releases of a counter tell who acquires it.
  std::unordered_map<const void*, Knowledge> counters_;
  std::unordered_map<const void*, Word> words_;  // of 4 bytes
};

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
