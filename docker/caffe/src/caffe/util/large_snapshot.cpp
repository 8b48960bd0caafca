// CAFFE_ENGINE's part `large`: the files of a snapshot, blob by blob.
//
// Caffe makes a message of all numbers and writes that: a second copy of the
// weights, then of their history. Here only what stands around the numbers is
// made by Protocol Buffers. The bytes are the same.

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl.h"

#include "caffe/util/engine.hpp"
#include "caffe/util/large.hpp"

namespace caffe {
namespace large {

namespace {

using google::protobuf::io::CodedOutputStream;

const int kBytes = 2;  // the wire type of messages, texts and packed numbers

void AppendHead(int field, size_t bytes, string* text) {
  google::protobuf::io::StringOutputStream stream(text);
  CodedOutputStream coded(&stream);
  coded.WriteVarint32(field << 3 | kBytes);
  coded.WriteVarint32(bytes);
}

// A field that holds a blob: what is written before and behind its numbers.
struct BlobField {
  Blob<float>* blob;
  string before, after;

  BlobField(int field, Blob<float>* from) : blob(from) {
    BlobProto proto;
    proto.mutable_shape();
    for (int i = 0; i < blob->num_axes(); ++i) {
      proto.mutable_shape()->add_dim(blob->shape(i));
    }
    after = proto.SerializeAsString();
    string head;
    if (numbers()) {
      AppendHead(BlobProto::kDataFieldNumber, numbers(), &head);
    }
    AppendHead(field, head.size() + numbers() + after.size(), &before);
    before += head;
  }
  size_t numbers() const { return blob->count() * sizeof(float); }
  size_t size() const { return before.size() + numbers() + after.size(); }
  void Write(std::ostream* file) const {
    file->write(before.data(), before.size());
    file->write(reinterpret_cast<const char*>(blob->cpu_data()), numbers());
    blob->data()->free_ordered();
    file->write(after.data(), after.size());
  }
};

void WriteText(const string& text, std::ostream* file) {
  file->write(text.data(), text.size());
}

// The fields of a layer's message before (or, else, behind) its blobs.
string FieldsBesideBlobs(LayerParameter layer, bool before) {
  vector<const google::protobuf::FieldDescriptor*> fields;
  layer.GetReflection()->ListFields(layer, &fields);
  for (int i = 0; i < fields.size(); ++i) {
    const int number = fields[i]->number();
    if (number == LayerParameter::kBlobsFieldNumber ||
        (number < LayerParameter::kBlobsFieldNumber) != before) {
      layer.GetReflection()->ClearField(&layer, fields[i]);
    }
  }
  return layer.SerializeAsString();
}

// Ends the program, and says why, unless all of a file was written.
void Close(const string& filename, std::ofstream* file) {
  file->close();
  const int reason = errno;  // of the write that failed: none came after it
  CHECK(file->good()) << "cannot write " << filename << ": "
      << strerror(reason);
}

}  // namespace

bool WriteNet(const Net<float>& net, const string& filename) {
  if (!engine::enabled(engine::LARGE)) { return false; }
  std::ofstream file(filename.c_str(), std::ios::trunc | std::ios::binary);
  NetParameter head;
  head.set_name(net.name());
  WriteText(head.SerializeAsString(), &file);
  for (int i = 0; i < net.layers().size(); ++i) {
    Layer<float>& layer = *net.layers()[i];
    const string before = FieldsBesideBlobs(layer.layer_param(), true);
    const string after = FieldsBesideBlobs(layer.layer_param(), false);
    vector<BlobField> blobs;
    size_t size = before.size() + after.size();
    for (int j = 0; j < layer.blobs().size(); ++j) {
      blobs.push_back(BlobField(LayerParameter::kBlobsFieldNumber,
          layer.blobs()[j].get()));
      size += blobs.back().size();
    }
    string text;
    AppendHead(NetParameter::kLayerFieldNumber, size, &text);
    WriteText(text + before, &file);
    for (int j = 0; j < blobs.size(); ++j) { blobs[j].Write(&file); }
    WriteText(after, &file);
  }
  Close(filename, &file);
  return true;
}

bool WriteState(int iteration, const string& learned_net, int current_step,
    const vector<shared_ptr<Blob<float> > >& history, const string& filename) {
  if (!engine::enabled(engine::LARGE)) { return false; }
  std::ofstream file(filename.c_str(), std::ios::trunc | std::ios::binary);
  SolverState before, after;
  before.set_iter(iteration);
  before.set_learned_net(learned_net);
  after.set_current_step(current_step);
  WriteText(before.SerializeAsString(), &file);
  for (int i = 0; i < history.size(); ++i) {
    BlobField(SolverState::kHistoryFieldNumber, history[i].get()).Write(&file);
  }
  WriteText(after.SerializeAsString(), &file);
  Close(filename, &file);
  return true;
}

}  // namespace large
}  // namespace caffe
