#ifndef CAFFE_UTIL_MEASURED_CHOICE_HPP_
#define CAFFE_UTIL_MEASURED_CHOICE_HPP_

#include <cstddef>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace caffe {

/**
 * How an algorithm is chosen among those that cuDNN lists or has measured
 * (CAFFE_ENGINE's part `measured`), and how a choice is kept. Nothing here
 * needs CUDA: so it is tested without.
 */
namespace cudnn {

const int kSuccess = 0;        // cudnnStatus_t's CUDNN_STATUS_SUCCESS
const int kDeterministic = 1;  // cudnnDeterminism_t's CUDNN_DETERMINISTIC
const int kAnyMath = -1;

/// That to take of `count` algorithms, the fastest first: the first within the
/// limit of workspace that gives the same bits each time, or, where there is
/// none, the first within the limit; NULL where none is. Those that round in
/// another way than `math` are passed over: measuring, cuDNN tries TF32 for who
/// wants float32, too.
template <typename Performance>
const Performance* fastest(const Performance* listed, int count, size_t limit,
    int math = kAnyMath) {
  const Performance* unsteady = NULL;
  for (int i = 0; i < count; ++i) {
    const Performance& one = listed[i];
    if (static_cast<int>(one.status) != kSuccess || one.memory > limit ||
        (math != kAnyMath && static_cast<int>(one.mathType) != math)) {
      continue;
    }
    if (static_cast<int>(one.determinism) == kDeterministic) { return &one; }
    if (!unsteady) { unsteady = &one; }
  }
  return unsteady;
}

/// An algorithm's number, and the bytes of workspace that it needs.
struct Choice {
  int algorithm;
  size_t bytes;
};

/// The choices of a process by the convolution that each is of, a word without
/// blanks. With a file those of earlier processes, too: the same algorithms
/// give the same bits. A line that was not written to its end does not count.
class Choices {
 public:
  /// `path`: of the file, made by the first choice; empty: none.
  explicit Choices(const std::string& path) : path_(path) {
    std::ifstream file(path_.c_str());
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string convolution, end;
      Choice choice;
      whole_ = !file.eof();
      if (words >> convolution >> choice.algorithm >> choice.bytes >> end &&
          end == kEnd) {
        known_[convolution] = choice;
      }
    }
  }

  /// NULL where there is none yet.
  const Choice* find(const std::string& convolution) const {
    const std::map<std::string, Choice>::const_iterator found =
        known_.find(convolution);
    return found == known_.end() ? NULL : &found->second;
  }

  /// Returns whether the file, if there is one, has it as well.
  bool keep(const std::string& convolution, const Choice& choice) {
    known_[convolution] = choice;
    if (path_.empty()) { return true; }
    std::ostringstream line;
    line << (whole_ ? "" : "\n") << convolution << " " << choice.algorithm
        << " " << choice.bytes << " " << kEnd << "\n";
    std::ofstream file(path_.c_str(), std::ios::app);
    file << line.str() << std::flush;
    whole_ = true;
    return file.good();
  }

 private:
  static constexpr const char* kEnd = ".";

  std::string path_;
  bool whole_ = true;  // the file's last line
  std::map<std::string, Choice> known_;
};

}  // namespace cudnn
}  // namespace caffe

#endif  // CAFFE_UTIL_MEASURED_CHOICE_HPP_
