#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {
namespace engine {

namespace {

const char* const kNames[PART_COUNT] = {
  "elementwise", "onednn", "grouped", "fusion", "memory", "recurrent", "large",
  "winograd", "device", "bf16", "measured"
};

struct Selection {
  bool asked[PART_COUNT];

  Selection() {
    const char* variable = std::getenv("CAFFE_ENGINE");
    const std::string value(variable ? variable : "");
    for (int part = 0; part < PART_COUNT; ++part) { asked[part] = false; }
    if (value == "stock") { return; }
    std::istringstream list(value.empty() ? "all" : value);
    for (std::string name; std::getline(list, name, ',');) {
      if (name == "all") {
        std::fill(asked, asked + DEVICE, true);
        continue;
      }
      int part = 0;
      while (part < PART_COUNT && name != kNames[part]) { ++part; }
      CHECK_LT(part, PART_COUNT) << "CAFFE_ENGINE=" << value << ": there is no "
          << "part '" << name << "'. Allowed are: stock alone, or a list, "
          << "separated by commas, of elementwise, onednn, grouped, fusion, "
          << "memory, recurrent, large, winograd, device, bf16, measured, "
          << "and all for all of them but device, bf16 and measured.";
      asked[part] = true;
    }
    CHECK(!asked[BF16] || asked[ONEDNN]) << "CAFFE_ENGINE=" << value
        << ": bf16 is for convolutions by oneDNN: name onednn, or all, too.";
  }
};

const Selection& selection() {
  static const Selection once;
  return once;
}

// Zero before any constructor runs, so that providers may come in any order.
bool provided[PART_COUNT];

}  // namespace

bool enabled(Part part) {
  return provided[part] && selection().asked[part];
}

std::vector<std::string> parts() {
  // A wrong name is an error even where no part is compiled in. And what is
  // asked for to be fast, but less exact, must not be left out silently.
  CHECK(!selection().asked[BF16] || provided[BF16]) << "CAFFE_ENGINE has bf16: "
      << "this processor has no such arithmetic, or Caffe no oneDNN.";
  std::vector<std::string> names;
  for (int part = 0; part < PART_COUNT; ++part) {
    if (enabled(static_cast<Part>(part))) { names.push_back(kNames[part]); }
  }
  return names;
}

Provider::Provider(Part part, bool runs) {
  provided[part] = runs;
}

}  // namespace engine
}  // namespace caffe
