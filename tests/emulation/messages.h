// How blocks of one launch exchange data through global memory: one block publishes
// words and others fetch them; counters say when. Between two blocks a GPU keeps no
// other order than that of a release and the acquire that sees it. It is therefore not
// enough that a word is there: a chain of barriers, releases and acquires must lead
// from the thread that wrote the word to the thread that reads it.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace fusednorm {
namespace cuda {
namespace emulation {

// What is known of another block: all that it wrote before its barrier number `epoch`,
// and what its thread 0 wrote before its release number `release`.
struct Known {
  int64_t epoch = 0;
  int64_t release = 0;
};
using Knowledge = std::vector<Known>;  // one for each block of the grid

// What a block knows. Only its thread 0 acquires; a barrier passes that on to the
// others.
struct Mind {
  int64_t releases = 0;
  Knowledge of_all;
  Knowledge of_first;  // what thread 0 knows
};

// The thread that makes an access, and the time of it.
struct Actor {
  int64_t block = 0;
  int thread = 0;
  int64_t epoch = 0;  // number of barriers that the block has passed
  Mind* mind = nullptr;
};

class Messages {
 public:
  // Starts a launch with `blocks` blocks.
  void Start(int64_t blocks);
  // Returns the Mind of a block that starts.
  Mind NewMind() const;
  // To be called when all threads of the block have met at a barrier.
  static void Meet(Mind* mind) { mind->of_all = mind->of_first; }

  void Acquire(const Actor& actor, const void* counter);
  void Release(const Actor& actor, const void* counter);
  void Fetch(const Actor& actor, const void* from, int bytes);
  void Publish(const Actor& actor, const void* to, int bytes);
  // An access that is not a Fetch. `constant`: no thread writes there during the
  // launch.
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
    int64_t written = -1;  // the writer's epoch
    int64_t release = 0;   // number of releases of the writer before that
    int64_t reader = kNobody;
    int64_t reading_thread = kNobody;
    int64_t read = -1;  // the reader's epoch
  };

  int64_t blocks_ = 0;
  // What a block learns when it acquires a counter, from the counter's releases.
  std::unordered_map<const void*, Knowledge> counters_;
  std::unordered_map<const void*, Word> words_;  // each has 4 bytes
};

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
