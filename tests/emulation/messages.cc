#include "emulation/messages.h"

#include <algorithm>
#include <string>

#include "emulation/grid.h"

namespace fusednorm {
namespace cuda {
namespace emulation {
namespace {

constexpr int kWordBytes = 4;

void Join(const Knowledge& from, Knowledge* to) {
  to->resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    (*to)[i].epoch = std::max((*to)[i].epoch, from[i].epoch);
    (*to)[i].release = std::max((*to)[i].release, from[i].release);
  }
}

// Calls use(address) for each word of which the bytes are a part.
template <class Use>
void ForWords(const void* address, int bytes, const Use& use) {
  const char* const begin = static_cast<const char*>(address);
  const auto past = reinterpret_cast<uintptr_t>(begin) % kWordBytes;
  for (const char* at = begin - past; at < begin + bytes; at += kWordBytes) use(at);
}

void CheckFirst(const Actor& actor) {
  if (actor.thread != 0) Fail("is not thread 0, which alone releases and acquires");
}

}  // namespace

void Messages::Start(int64_t blocks) {
  blocks_ = blocks;
  counters_.clear();
  words_.clear();
}

Mind Messages::NewMind() const {
  const Knowledge nothing(static_cast<size_t>(blocks_));
  return {0, nothing, nothing};
}

void Messages::Acquire(const Actor& actor, const void* counter) {
  CheckFirst(actor);
  const auto found = counters_.find(counter);
  if (found != counters_.end()) Join(found->second, &actor.mind->of_first);
}

void Messages::Release(const Actor& actor, const void* counter) {
  CheckFirst(actor);
  Mind* mind = actor.mind;
  mind->of_first[static_cast<size_t>(actor.block)] = {actor.epoch, ++mind->releases};
  Join(mind->of_first, &counters_[counter]);
}

void Messages::Fetch(const Actor& actor, const void* from, int bytes) {
  ForWords(from, bytes, [&](const void* at) {
    Word* word = &words_[at];
    CheckRead(actor, *word);
    NoteReader(actor, word);
  });
}

void Messages::Publish(const Actor& actor, const void* to, int bytes) {
  ForWords(to, bytes, [&](const void* at) { PublishWord(actor, &words_[at]); });
}

void Messages::Load(const Actor& actor, const void* from, int bytes, bool constant) {
  ForWords(from, bytes, [&](const void* at) {
    const auto found = words_.find(at);
    if (found == words_.end() || found->second.writer == kNobody) return;
    if (constant) Fail("loads as a constant what the same launch has published");
    CheckRead(actor, found->second);
  });
}

void Messages::CheckRead(const Actor& actor, const Word& word) {
  if (word.writer == kNobody) return;  // written before the launch
  if (word.writer == actor.block) {
    if (word.writing_thread == actor.thread || word.written < actor.epoch) return;
    Fail("reads what thread " + std::to_string(word.writing_thread) +
         " published since the last barrier");
  }
  const Mind& mind = *actor.mind;
  const Knowledge& knowledge = actor.thread == 0 ? mind.of_first : mind.of_all;
  const Known& known = knowledge[static_cast<size_t>(word.writer)];
  if (word.written < known.epoch) return;
  if (word.writing_thread == 0 && word.release < known.release) return;
  Fail("reads what block " + std::to_string(word.writer) +
       " published, but no chain of barriers, releases and acquires leads here from "
       "thread " +
       std::to_string(word.writing_thread) + " of that block");
}

void Messages::NoteReader(const Actor& actor, Word* word) {
  if (word->reader != kNobody && word->reader != actor.block) {
    word->reader = kSeveral;
    return;
  }
  const bool others = word->read == actor.epoch && word->reading_thread != actor.thread;
  word->reader = actor.block;
  word->reading_thread = others ? kSeveral : actor.thread;
  word->read = actor.epoch;
}

void Messages::PublishWord(const Actor& actor, Word* word) {
  if (word->writer != kNobody && word->writer != actor.block) {
    Fail("publishes a word that block " + std::to_string(word->writer) +
         " of the same launch has published");
  }
  if (word->writing_thread != actor.thread && word->written == actor.epoch) {
    Fail("publishes a word that thread " + std::to_string(word->writing_thread) +
         " published since the last barrier");
  }
  // This fails even if something orders the two, since no kernel needs it.
  if (word->reader != kNobody && word->reader != actor.block) {
    Fail("publishes a word that another block has fetched already");
  }
  if (word->read == actor.epoch && word->reading_thread != actor.thread) {
    Fail("publishes a word that another thread fetched since the last barrier");
  }
  word->writer = actor.block;
  word->writing_thread = actor.thread;
  word->written = actor.epoch;
  word->release = actor.mind->releases;
}

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
