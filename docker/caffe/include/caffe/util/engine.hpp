#ifndef CAFFE_UTIL_ENGINE_HPP_
#define CAFFE_UTIL_ENGINE_HPP_

#include <string>
#include <vector>

namespace caffe {

/// The faster ways of computing, and which of them are in use.
///
/// A faster result must be provable against Caffe as it was published, and a
/// doubt must be one variable away from an answer: any part may be switched off
/// at run time. A misspelled part ends the program when a net is made: it must
/// not look like a measurement.
///
/// The environment variable CAFFE_ENGINE is read once, when the first net is
/// made: unset or empty means all parts but `device`, `bf16` and `measured`,
/// `stock` none (Caffe as it was published), anything else is a list of parts
/// separated by commas, in which `all` stands for what an empty one means. No
/// device has run `device` and `measured` yet, and `bf16` is less exact: so
/// they have to be asked for. Where the processor has no bf16, asking for it
/// ends the program.
namespace engine {

enum Part {
  ELEMENTWISE,  // threaded kernels for layers that are bound by memory
  ONEDNN,       // convolutions by oneDNN
  GROUPED,      // convolutions with one channel a group that cover the map
  FUSION,       // chains of layers as one pass
  MEMORY,       // buffers shared between blobs that are not in use together
  RECURRENT,    // LSTM by vectors, a sequence in a few large passes
  LARGE,        // what only large nets gain from: see large.hpp
  WINOGRAD,     // 3 x 3 convolutions by fewer products, where nothing learns
  DEVICE,       // chains of layers, and SGD, as single passes of a GPU
  BF16,         // convolutions multiply bf16, and sum up in float
  MEASURED,     // cuDNN's algorithms, and its way of adding a bias, by time
  PART_COUNT
};

/// Whether a part is compiled in and asked for.
bool enabled(Part part);

/// The names of the parts that are compiled in and asked for.
std::vector<std::string> parts();

/// Says that a part is compiled in, if it `runs` here. The part's own source
/// file holds one object of this class in static storage.
class Provider {
 public:
  explicit Provider(Part part, bool runs = true);
};

}  // namespace engine
}  // namespace caffe

#endif  // CAFFE_UTIL_ENGINE_HPP_
