// Convolutions by oneDNN 3, CAFFE_ENGINE's part `onednn`, where Caffe is built
// with -DUSE_ONEDNN=ON; without it OneDNNConvolution computes nothing.
//
// Weights in oneDNN's layout are kept from one forward pass to the next (class
// Weights). In training gradients stay in the layout in which oneDNN writes
// weights, and with them, from SGD's first update on, the weights and their
// history; they are put in Caffe's order when somebody asks for them
// (snapshots, NumPy). ClearParamDiffs notes zeros instead of writing them: the
// first gradient is then written, not added.

#include "caffe/util/onednn_convolution.hpp"

#ifdef USE_ONEDNN
#include <boost/make_shared.hpp>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <cfloat>
#include <string>
#include <unordered_map>
#endif

#include "caffe/util/engine.hpp"

namespace caffe {

bool ConvolutionSizes::operator==(const ConvolutionSizes& other) const {
  bool equal = num == other.num && channels == other.channels &&
      num_output == other.num_output && bias == other.bias;
  for (int i = 0; i < 2; ++i) {
    equal = equal && input[i] == other.input[i] &&
        output[i] == other.output[i] && kernel[i] == other.kernel[i] &&
        stride[i] == other.stride[i] && pad[i] == other.pad[i] &&
        dilation[i] == other.dilation[i];
  }
  return equal;
}

#ifdef USE_ONEDNN

namespace {

const engine::Provider onednn_provider(engine::ONEDNN);

// Whether the processor multiplies bf16.
bool HasBF16() {
  // An instruction set is the set of bits of all those that it contains.
  const int kBF16 = dnnl_cpu_isa_avx512_core_bf16;
  return (dnnl_get_effective_cpu_isa() & kBF16) == kBF16;
}

const engine::Provider bf16_provider(engine::BF16, HasBF16());

typedef dnnl::memory::desc Descriptor;
typedef dnnl::memory::format_tag Tag;

const dnnl::memory::data_type kFloat = dnnl::memory::data_type::f32;
const dnnl::memory::data_type kHalf = dnnl::memory::data_type::bf16;
// The direct algorithm: bit for bit the same for each run.
const dnnl::algorithm kDirect = dnnl::algorithm::convolution_direct;
// Shapes that are kept ready for one layer (the last batch is often smaller).
const int kPreparedShapes = 4;
// How many rows a 1 x 1 convolution is computed in: see Primitives::SeeRows.
// Of 2, 4 and 8, the nearest to double precision over 2048 channels.
const int kRows = 4;
// Up to so many channels are summed one by one where the kernel has so many
// places: see Primitives::SeeChannels.
const int kFewChannels = 4, kManyPlaces = 49;

const dnnl::engine& Engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// Memory that grows and is used for one call after another. Each thread has its
// own, so that nets may run in several threads.
class Scratch {
 public:
  Scratch() : data_(NULL), size_(0) {}
  ~Scratch() { free(data_); }
  void* get(size_t size) {
    if (size > size_) {
      const size_t kPage = 4096;
      free(data_);
      CHECK_EQ(0, posix_memalign(&data_, kPage, size))
          << "host allocation of size " << size << " failed";
      size_ = size;
    }
    return data_;
  }

 private:
  void* data_;
  size_t size_;
};

enum ScratchUse { BOTTOM, TOP, WEIGHT, BIAS, RESULT, SCRATCH_COUNT };

dnnl::memory ScratchMemory(const Descriptor& descriptor, ScratchUse use) {
  static thread_local Scratch scratch[SCRATCH_COUNT];
  return dnnl::memory(descriptor, Engine(),
      scratch[use].get(descriptor.get_size()));
}

dnnl::stream& Stream() {
  static thread_local dnnl::stream stream(Engine());
  return stream;
}

// How many channels the widest vectors of this machine hold.
int ChannelBlock() {
  const int kAvx512 = dnnl_cpu_isa_avx512_core;
  static const int block =
      (dnnl_get_effective_cpu_isa() & kAvx512) == kAvx512 ? 16 : 8;
  return block;
}

dnnl::memory Wrap(const Descriptor& descriptor, const void* data) {
  return dnnl::memory(descriptor, Engine(), const_cast<void*>(data));
}

// The same numbers, described otherwise; or the part with this number of them,
// where they are several times as many.
dnnl::memory As(const Descriptor& descriptor, const dnnl::memory& memory,
    int part = 0) {
  return dnnl::memory(descriptor, Engine(),
      static_cast<char*>(memory.get_data_handle()) +
      part * descriptor.get_size());
}

// Copies into another layout; adds to what is there if asked to.
void Reorder(dnnl::memory from, dnnl::memory to, bool add = false) {
  dnnl::primitive_attr attributes;
  if (add) {
    dnnl::post_ops operations;
    operations.append_sum(1.f);
    attributes.set_post_ops(operations);
  }
  dnnl::reorder(from, to, attributes).execute(Stream(), from, to);
}

// Copies numbers for a use; not again where it holds this version of them in
// this layout. Version 0 is never known again.
dnnl::memory ScratchCopy(const dnnl::memory& values, const Descriptor& layout,
    ScratchUse use, size_t version) {
  static thread_local size_t held[SCRATCH_COUNT];
  static thread_local Descriptor layouts[SCRATCH_COUNT];
  const dnnl::memory copied = ScratchMemory(layout, use);
  if (version == 0 || version != held[use] || layouts[use] != layout) {
    Reorder(values, copied);
    held[use] = version;
    layouts[use] = layout;
  }
  return copied;
}

int OperationArgument(int operation) {
  return DNNL_ARG_ATTR_MULTIPLE_POST_OP(operation) | DNNL_ARG_SRC_1;
}

void AddToDiff(const dnnl::memory& gradient, const Descriptor& ordered,
    Blob<float>* blob) {
  const bool add = !blob->diff()->zero();
  Reorder(gradient, Wrap(ordered, add ? blob->mutable_cpu_diff() :
      blob->overwritten_cpu_diff_in(1)), add);
}

// Weights in Caffe's order and in the layout that most primitives read and
// write, in which a parameter stays as long as only they and the solver use it.
struct WeightLayouts {
  Descriptor ordered, blocked;
  BlockedLayout layout;
  bool has_block;

  explicit WeightLayouts(const ConvolutionSizes& s)
      : ordered({s.num_output, s.channels, s.kernel[0], s.kernel[1]}, kFloat,
            Tag::oihw),
        has_block(s.num_output % ChannelBlock() == 0 &&
            s.channels % ChannelBlock() == 0) {
    const BlockedLayout weights = {s.num_output, s.channels,
        s.kernel[0] * s.kernel[1], ChannelBlock(), true};
    layout = weights;
    blocked = Descriptor(ordered.get_dims(), kFloat,
        ChannelBlock() == 16 ? Tag::OIhw16i16o : Tag::OIhw8i8o);
  }

  // The weights as they lie.
  dnnl::memory Newest(const Blob<float>& weight) const {
    return has_block && weight.data()->is_blocked(layout) ?
        Wrap(blocked, static_cast<const float*>(
            weight.data()->blocked_cpu_data(layout))) :
        Wrap(ordered, weight.cpu_data());
  }

  // Whether a gradient in this layout is to be written to the diff itself.
  bool TakesGradient(const Descriptor& gradient,
      const Blob<float>& weight) const {
    return has_block && gradient == blocked && weight.diff()->zero() &&
        !weight.diff()->watched();
  }

  void Add(const dnnl::memory& gradient, Blob<float>* weight) const {
    if (has_block && weight->diff()->is_blocked(layout)) {
      Reorder(gradient, Wrap(blocked, static_cast<const float*>(
          weight->diff()->mutable_blocked_cpu_data(layout))), true);
    } else {
      AddToDiff(gradient, ordered, weight);
    }
  }
};

// The ways in which a blob of activations may lie, and what primitives are
// asked to read and to make. Halves are written only where convolutions alone
// read them.
struct Activations {
  Descriptor ordered, blocked, halves, read, made;
  BlockedLayout half_layout;
  bool has_block;

  Activations(int num, int channels, const int size[2], bool half)
      : ordered({num, channels, size[0], size[1]}, kFloat, Tag::nchw),
        has_block(channels % ChannelBlock() == 0) {
    const dnnl::memory::dims dims = {num, channels, size[0], size[1]};
    blocked = Descriptor(dims, kFloat,
        ChannelBlock() == 16 ? Tag::nChw16c : Tag::nChw8c);
    // Blocks of 16 channels are slow to multiply in bf16.
    made = has_block && !half ? blocked : Descriptor(dims, kFloat, Tag::any);
    read = half ? Descriptor(dims, kHalf, Tag::any) : made;
    halves = Descriptor(dims, kHalf, Tag::nhwc);
    half_layout = {num, channels, size[0] * size[1], channels, false, true};
  }

  // As our layers keep them.
  const Descriptor& kept() const { return has_block ? blocked : ordered; }

  // The numbers of a blob in the layout that a primitive reads. What was copied
  // last for this use is not copied again.
  dnnl::memory Read(const Blob<float>& blob, bool diff,
      const Descriptor& layout, ScratchUse use) const {
    if (!diff && blob.data()->is_blocked(half_layout)) {
      const dnnl::memory values =
          Wrap(halves, blob.data()->blocked_cpu_data(half_layout));
      return layout == halves ? values : Copy(blob, diff, values, layout, use);
    }
    const int block = diff ? blob.diff_block() : blob.data_block();
    if (has_block && (layout == blocked ||
        (layout != ordered && block == ChannelBlock()))) {
      const dnnl::memory values = Wrap(blocked, diff ?
          blob.cpu_diff_in(ChannelBlock()) : blob.cpu_data_in(ChannelBlock()));
      return layout == blocked ? values : Copy(blob, diff, values, layout, use);
    }
    const dnnl::memory values = Wrap(ordered,
        diff ? blob.cpu_diff() : blob.cpu_data());
    return layout == ordered ? values : Copy(blob, diff, values, layout, use);
  }

  // Whether a primitive that writes this layout can write into a blob.
  bool direct(const Descriptor& layout) const {
    return layout == ordered || layout == halves ||
        (has_block && layout == blocked);
  }

  // Where a primitive that writes this layout has to write to.
  dnnl::memory Write(Blob<float>* blob, bool diff,
      const Descriptor& layout) const {
    return direct(layout) ? Place(blob, diff, layout) :
        ScratchMemory(layout, RESULT);
  }

  // To be called when it has written.
  void Written(const dnnl::memory& from, Blob<float>* blob, bool diff) const {
    if (!direct(from.get_desc())) { Reorder(from, Place(blob, diff, kept())); }
  }

 private:
  dnnl::memory Place(Blob<float>* blob, bool diff,
      const Descriptor& layout) const {
    if (layout == halves) {
      return Wrap(layout,
          blob->data()->overwritten_blocked_cpu_data(half_layout));
    }
    const int block = layout == ordered ? 1 : ChannelBlock();
    return Wrap(layout, diff ? blob->overwritten_cpu_diff_in(block) :
        blob->overwritten_cpu_data_in(block));
  }

  static dnnl::memory Copy(const Blob<float>& blob, bool diff,
      const dnnl::memory& values, const Descriptor& layout, ScratchUse use) {
    const SyncedMemory& memory = *(diff ? blob.diff() : blob.data());
    return ScratchCopy(values, layout, use,
        memory.watched() ? 0 : memory.version());
  }
};

}  // namespace

// What oneDNN has compiled for one shape; the backward pass when it is needed.
class OneDNNConvolution::Primitives {
 public:
  // half: bf16 is multiplied, and summed up in float.
  Primitives(const ConvolutionSizes& s, bool half)
      : sizes(s), half(half), bottom(s.num, s.channels, s.input, half),
        top(s.num, s.num_output, s.output, half),
        weight(s), bias({s.num_output}, kFloat, Tag::x),
        by_channel({1, s.num_output, 1, 1}, kFloat, Tag::nchw),
        any_weight(weight.ordered.get_dims(), half ? kHalf : kFloat, Tag::any),
        weight_made(weight.ordered.get_dims(), kFloat, Tag::any),
        stride({s.stride[0], s.stride[1]}),
        dilation({s.dilation[0] - 1, s.dilation[1] - 1}),
        pad_begin({s.pad[0], s.pad[1]}), images(1), parts(1), seen(false),
        seen_bottom(bottom.read), seen_weight(any_weight),
        seen_top(top.made) {
    for (int i = 0; i < 2; ++i) {
      const int extent = s.dilation[i] * (s.kernel[i] - 1) + 1;
      pad_end.push_back((s.output[i] - 1) * s.stride[i] + extent - s.input[i] -
          s.pad[i]);
    }
    forward_description =
        DescribeForward(dnnl::primitive_attr(), s.bias, seen_top);
    if (half) {
      if (IsReference(forward_description)) {
        throw dnnl::error(dnnl_unimplemented, "no kernel for bf16");
      }
      // oneDNN pairs passes by the type of what both have.
      hint = dnnl::convolution_forward::primitive_desc(Engine(),
          dnnl::prop_kind::forward_training, kDirect, bottom.read, any_weight,
          top.read, stride, dilation, pad_begin, pad_end);
      PrepareBackwardBottom();
      PrepareBackwardWeight();
      if (IsReference(backward_bottom_description) ||
          IsReference(backward_weight_description)) {
        throw dnnl::error(dnnl_unimplemented, "no kernel for bf16");
      }
      return;
    }
    hint = forward_description;
    if (ChannelBlock() == 16 && top.has_block) {
      SeeRows();
      SeeChannels();
    }
  }

  // Whether oneDNN only has its plain loops, which are far slower than ours.
  static bool IsReference(const dnnl::primitive_desc_base& description) {
    return std::string(description.impl_info_str()).find("ref") == 0;
  }

  // With vectors of 16, oneDNN's kernels for 1 x 1 convolutions add up to 512
  // channels one after another. Those for larger ones add up 16 channels of the
  // kernel's places, and then such sums: their rounding is half of that, in the
  // same time. In blocks, channels by height x width are the same numbers as a
  // fourth of the channels by 4 x (height x width). So the forward pass is seen
  // as a convolution of these with a kernel of 4 x 1.
  void SeeRows() {
    const ConvolutionSizes& s = sizes;
    for (int i = 0; i < 2; ++i) {
      if (s.kernel[i] != 1 || s.stride[i] != 1 || s.pad[i] != 0 ||
          s.dilation[i] != 1) {
        return;
      }
    }
    if (s.channels % (kRows * 16) != 0 ||
        forward_description.weights_desc() != weight.blocked) {
      return;
    }
    const int channels = s.channels / kRows, places = s.input[0] * s.input[1];
    seen = true;
    seen_bottom = Descriptor({s.num, channels, kRows, places}, kFloat,
        Tag::nChw16c);
    seen_weight = Descriptor({s.num_output, channels, kRows, 1}, kFloat,
        Tag::OIhw16i16o);
    seen_top = Descriptor({s.num, s.num_output, 1, places}, kFloat,
        Tag::nChw16c);
  }

  // In the same kernels 3 channels of 7 x 7 places are added one after another.
  // Here the forward pass is one pass a channel, and image, which add up.
  void SeeChannels() {
    const ConvolutionSizes& s = sizes;
    if (s.channels == 1 || s.channels > kFewChannels ||
        s.kernel[0] * s.kernel[1] < kManyPlaces) {
      return;
    }
    images = s.num;
    parts = s.channels;
    seen = true;
    seen_bottom = Activations(1, 1, s.input, false).ordered;
    seen_weight = Descriptor({s.num_output, 1, s.kernel[0], s.kernel[1]},
        kFloat, Tag::any);
    seen_top = Activations(1, s.num_output, s.output, false).blocked;
    seen_weight = DescribeForward(dnnl::primitive_attr(), s.bias, seen_top)
        .weights_desc();
  }

  dnnl::convolution_forward::primitive_desc DescribeForward(
      const dnnl::primitive_attr& attributes, bool with_bias,
      const Descriptor& made) const {
    return with_bias ?
        dnnl::convolution_forward::primitive_desc(Engine(),
            dnnl::prop_kind::forward_training, kDirect, seen_bottom,
            seen_weight, bias, made, stride, dilation, pad_begin, pad_end,
            attributes) :
        dnnl::convolution_forward::primitive_desc(Engine(),
            dnnl::prop_kind::forward_training, kDirect, seen_bottom,
            seen_weight, made, stride, dilation, pad_begin, pad_end,
            attributes);
  }

  // The forward pass with such an epilogue, and the layouts of its arguments;
  // adds: to what is there, instead of the bias.
  struct Fused {
    dnnl::convolution_forward::primitive_desc description;
    dnnl::convolution_forward primitive;
    Descriptor bottom, weight, top;
  };
  const Fused& PrepareForward(const ConvolutionEpilogue& epilogue, bool adds) {
    const bool halves = half && epilogue.half;
    Fused& fused = forward[(epilogue.factor ? 1 : 0) +
        (epilogue.addend ? 2 : 0) + (epilogue.relu ? 4 : 0) + (adds ? 8 : 0) +
        (halves ? 16 : 0)];
    if (!fused.primitive) {
      const Descriptor& made = halves ? top.halves : seen_top;
      dnnl::post_ops operations;
      if (adds) { operations.append_sum(1.f); }
      if (epilogue.factor) {
        operations.append_binary(dnnl::algorithm::binary_mul, by_channel);
        operations.append_binary(dnnl::algorithm::binary_add, by_channel);
      }
      if (epilogue.addend) {
        operations.append_binary(dnnl::algorithm::binary_add,
            seen || halves ? made : forward_description.dst_desc());
      }
      if (epilogue.relu) {
        // x * min(1, max(0, x * FLT_MAX)): oneDNN's own ReLU makes zero of what
        // is not a number, and training has to stop at that.
        operations.append_eltwise(dnnl::algorithm::eltwise_hardswish, FLT_MAX,
            0.f);
      }
      dnnl::primitive_attr attributes;
      attributes.set_post_ops(operations);
      fused.description =
          DescribeForward(attributes, sizes.bias && !adds, made);
      fused.primitive = dnnl::convolution_forward(fused.description);
      fused.bottom = seen ? bottom.kept() : fused.description.src_desc();
      fused.weight = seen ? weight.blocked : fused.description.weights_desc();
      fused.top = seen ? top.kept() : fused.description.dst_desc();
    }
    return fused;
  }

  // For SeeChannels: the weights of one channel after another.
  dnnl::memory WeightsByChannel(const Blob<float>& values) const {
    const int size = seen_weight.get_size();
    const Descriptor all({parts * size}, dnnl::memory::data_type::u8, Tag::a);
    const dnnl::memory weights = ScratchMemory(all, WEIGHT);
    for (int part = 0; part < parts; ++part) {
      const Descriptor channel =
          weight.ordered.submemory_desc(seen_weight.get_dims(),
              {0, part, 0, 0});
      Reorder(Wrap(channel, values.cpu_data()), As(seen_weight, weights, part));
    }
    return weights;
  }

  void PrepareBackwardBottom() {
    if (backward_bottom) { return; }
    backward_bottom_description =
        dnnl::convolution_backward_data::primitive_desc(Engine(), kDirect,
            bottom.made, any_weight, top.read, stride, dilation, pad_begin,
            pad_end, hint);
    backward_bottom = dnnl::convolution_backward_data(
        backward_bottom_description);
  }

  void PrepareBackwardWeight() {
    if (backward_weight) { return; }
    backward_weight_description = sizes.bias ?
        dnnl::convolution_backward_weights::primitive_desc(Engine(), kDirect,
            bottom.read, weight_made, bias, top.read, stride, dilation,
            pad_begin, pad_end, hint) :
        dnnl::convolution_backward_weights::primitive_desc(Engine(), kDirect,
            bottom.read, weight_made, top.read, stride, dilation, pad_begin,
            pad_end, hint);
    backward_weight = dnnl::convolution_backward_weights(
        backward_weight_description);
  }

  const ConvolutionSizes sizes;
  const bool half;
  const Activations bottom, top;
  const WeightLayouts weight;
  const Descriptor bias, by_channel, any_weight, weight_made;
  const dnnl::memory::dims stride, dilation, pad_begin;
  dnnl::memory::dims pad_end;
  int images, parts;  // passes, where each is of one image and channel
  bool seen;          // by SeeRows or SeeChannels
  Descriptor seen_bottom, seen_weight, seen_top;
  dnnl::convolution_forward::primitive_desc forward_description, hint;
  Fused forward[32];
  dnnl::convolution_backward_data::primitive_desc backward_bottom_description;
  dnnl::convolution_backward_data backward_bottom;
  dnnl::convolution_backward_weights::primitive_desc
      backward_weight_description;
  dnnl::convolution_backward_weights backward_weight;
};

// The weights in the layout that the forward pass reads. They are kept once
// they have been the same twice, and as long as nobody can have written to
// them: each pointer for writing changes the version, and while a NumPy array
// of them is alive they are not kept.
class OneDNNConvolution::Weights {
 public:
  Weights() : seen_version_(0), kept_version_(0) {}

  dnnl::memory Read(const Blob<float>& weight, const WeightLayouts& layouts,
      const Descriptor& layout) {
    const dnnl::memory values = layouts.Newest(weight);
    if (layout == values.get_desc()) { return values; }
    const size_t version = weight.data()->watched() ? 0 :
        weight.data()->version();
    if (version && version == kept_version_ && kept_.get_desc() == layout) {
      return kept_;
    }
    const bool keep = version && version == seen_version_;
    seen_version_ = version;
    kept_version_ = 0;
    if (!keep) {
      kept_ = dnnl::memory();
      dnnl::memory converted = ScratchMemory(layout, WEIGHT);
      Reorder(values, converted);
      return converted;
    }
    kept_ = dnnl::memory(layout, Engine());
    Reorder(values, kept_);
    kept_version_ = version;
    return kept_;
  }

 private:
  size_t seen_version_, kept_version_;
  dnnl::memory kept_;
};

OneDNNConvolution::OneDNNConvolution()
    : current_(NULL), weights_(new Weights) {}

// In bf16 where that is asked for, and oneDNN has all passes in it.
shared_ptr<OneDNNConvolution::Primitives> OneDNNConvolution::MakePrimitives(
    const ConvolutionSizes& sizes) {
  if (engine::enabled(engine::BF16)) {
    try {
      return boost::make_shared<Primitives>(sizes, true);
    } catch (const dnnl::error& error) {
      LOG(INFO) << "A convolution stays in float (" << error.what() << ").";
    }
  }
  return boost::make_shared<Primitives>(sizes, false);
}

bool OneDNNConvolution::Prepare(const ConvolutionSizes& sizes) {
  if (!engine::enabled(engine::ONEDNN)) { return false; }
  if (current_ && current_->sizes == sizes) { return true; }
  for (int i = 0; i < prepared_.size(); ++i) {
    if (prepared_[i]->sizes == sizes) {
      current_ = prepared_[i].get();
      return true;
    }
  }
  try {
    const shared_ptr<Primitives> primitives = MakePrimitives(sizes);
    if (prepared_.size() == kPreparedShapes) {
      prepared_.erase(prepared_.begin());
    }
    prepared_.push_back(primitives);
    current_ = primitives.get();
    return true;
  } catch (const dnnl::error& error) {
    LOG_FIRST_N(WARNING, 1) << "oneDNN cannot compute a convolution ("
        << error.what() << "): it is computed by Caffe.";
    current_ = NULL;
    return false;
  }
}

void OneDNNConvolution::Forward(const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias, Blob<float>* top,
    const ConvolutionEpilogue& epilogue) {
  Primitives* const p = current_;
  const Primitives::Fused& last = p->PrepareForward(epilogue, p->parts > 1);
  const dnnl::memory from =
      p->bottom.Read(bottom, false, last.bottom, BOTTOM);
  const dnnl::memory weights = p->parts > 1 ? p->WeightsByChannel(weight) :
      weights_->Read(weight, p->weight, last.weight);
  dnnl::memory addend;
  if (epilogue.addend) {
    addend = p->top.Read(*epilogue.addend, false, last.top, TOP);
  }
  const dnnl::memory result = p->top.Write(top, false, last.top);
  for (int pass = 0; pass < p->images * p->parts; ++pass) {
    const int image = pass / p->parts, part = pass % p->parts;
    const bool adds = part > 0, ends = part + 1 == p->parts;
    const Primitives::Fused& forward =
        ends ? last : p->PrepareForward(ConvolutionEpilogue(), adds);
    const Descriptor written = forward.description.dst_desc();
    std::unordered_map<int, dnnl::memory> arguments;
    arguments[DNNL_ARG_SRC] = As(forward.description.src_desc(), from, pass);
    arguments[DNNL_ARG_WEIGHTS] =
        As(forward.description.weights_desc(), weights, part);
    int operation = adds ? 1 : 0;
    if (ends && epilogue.factor) {
      arguments[OperationArgument(operation++)] =
          Wrap(p->by_channel, epilogue.factor);
      arguments[OperationArgument(operation++)] =
          Wrap(p->by_channel, epilogue.shift);
    }
    if (ends && epilogue.addend) {
      arguments[OperationArgument(operation)] = As(written, addend, image);
    }
    if (p->sizes.bias && !adds) {
      arguments[DNNL_ARG_BIAS] = Wrap(p->bias, bias->cpu_data());
    }
    arguments[DNNL_ARG_DST] = As(written, result, image);
    forward.primitive.execute(Stream(), arguments);
  }
  p->top.Written(result, top, false);
}

void OneDNNConvolution::BackwardBottom(const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom) {
  Primitives* const p = current_;
  p->PrepareBackwardBottom();
  std::unordered_map<int, dnnl::memory> arguments;
  arguments[DNNL_ARG_DIFF_DST] = p->top.Read(top, true,
      p->backward_bottom_description.diff_dst_desc(), TOP);
  const dnnl::memory values = p->weight.Newest(weight);
  const Descriptor layout = p->backward_bottom_description.weights_desc();
  if (layout == values.get_desc()) {
    arguments[DNNL_ARG_WEIGHTS] = values;
  } else {
    arguments[DNNL_ARG_WEIGHTS] = ScratchMemory(layout, WEIGHT);
    Reorder(values, arguments[DNNL_ARG_WEIGHTS]);
  }
  const dnnl::memory result = p->bottom.Write(bottom, true,
      p->backward_bottom_description.diff_src_desc());
  arguments[DNNL_ARG_DIFF_SRC] = result;
  p->backward_bottom.execute(Stream(), arguments);
  p->bottom.Written(result, bottom, true);
}

void OneDNNConvolution::BackwardWeight(const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight, Blob<float>* bias) {
  Primitives* const p = current_;
  p->PrepareBackwardWeight();
  std::unordered_map<int, dnnl::memory> arguments;
  arguments[DNNL_ARG_SRC] = p->bottom.Read(bottom, false,
      p->backward_weight_description.src_desc(), BOTTOM);
  arguments[DNNL_ARG_DIFF_DST] = p->top.Read(top, true,
      p->backward_weight_description.diff_dst_desc(), TOP);
  const Descriptor layout =
      p->backward_weight_description.diff_weights_desc();
  const bool direct = p->weight.TakesGradient(layout, *weight);
  const dnnl::memory result = direct ? Wrap(layout, static_cast<float*>(
      weight->diff()->overwritten_blocked_cpu_data(p->weight.layout))) :
      ScratchMemory(layout, WEIGHT);
  arguments[DNNL_ARG_DIFF_WEIGHTS] = result;
  dnnl::memory bias_result;
  if (p->sizes.bias) {
    bias_result = ScratchMemory(p->bias, BIAS);
    arguments[DNNL_ARG_DIFF_BIAS] = bias_result;
  }
  p->backward_weight.execute(Stream(), arguments);
  if (!direct) { p->weight.Add(result, weight); }
  if (bias) { AddToDiff(bias_result, p->bias, bias); }
}

#else  // USE_ONEDNN

class OneDNNConvolution::Primitives {};
class OneDNNConvolution::Weights {};

OneDNNConvolution::OneDNNConvolution() : current_(NULL) {}
bool OneDNNConvolution::Prepare(const ConvolutionSizes&) { return false; }
void OneDNNConvolution::Forward(const Blob<float>&, const Blob<float>&,
    const Blob<float>*, Blob<float>*, const ConvolutionEpilogue&) {}
void OneDNNConvolution::BackwardBottom(const Blob<float>&, const Blob<float>&,
    Blob<float>*) {}
void OneDNNConvolution::BackwardWeight(const Blob<float>&, const Blob<float>&,
    Blob<float>*, Blob<float>*) {}

#endif  // USE_ONEDNN

OneDNNConvolution::~OneDNNConvolution() {}

}  // namespace caffe
