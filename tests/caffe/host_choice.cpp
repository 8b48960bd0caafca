// What chooses cuDNN's algorithms (part `measured`), compiled for the host.

#include "caffe/util/measured_choice.hpp"

using namespace caffe::cudnn;  // NOLINT(build/namespaces)

namespace {

// The members of cuDNN's own that a choice looks at.
struct Performance {
  int algo, status, determinism, mathType;
  std::size_t memory;
};

}  // namespace

extern "C" {

int choose(const Performance* listed, int count, std::size_t limit, int math) {
  const Performance* const found = fastest(listed, count, limit, math);
  return found ? found->algo : -1;
}

Choices* open_choices(const char* path) { return new Choices(path); }
void close_choices(Choices* choices) { delete choices; }

bool keep_choice(Choices* choices, const char* of, int algorithm,
    std::size_t bytes) {
  return choices->keep(of, Choice{algorithm, bytes});
}

bool find_choice(const Choices* choices, const char* of, Choice* found) {
  const Choice* const known = choices->find(of);
  if (known) { *found = *known; }
  return known != NULL;
}

}  // extern "C"
