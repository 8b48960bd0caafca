#include <boost/bind/bind.hpp>

#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/syncedmem.hpp"
#include "caffe/util/host_buffer.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

class HostBufferTest : public ::testing::Test {
 public:
  HostBufferTest() : memory_(kCount * sizeof(float)) {
    const BlockedLayout layout = {1, kChannels, kCount / kChannels, 4, false};
    layout_ = layout;
  }

  // Number i of Caffe's order is i + start.
  void Fill(int start) {
    float* data = static_cast<float*>(memory_.overwritten_cpu_data());
    for (int i = 0; i < kCount; ++i) { data[i] = i + start; }
  }

  void FillBlocked(int start) {
    std::vector<float> ordered(kCount);
    for (int i = 0; i < kCount; ++i) { ordered[i] = i + start; }
    BlockFromOrdered(layout_, ordered.data(), static_cast<float*>(
        memory_.overwritten_blocked_cpu_data(layout_)));
  }

  void ExpectOrdered(int start) {
    const float* data = static_cast<const float*>(memory_.cpu_data());
    for (int i = 0; i < kCount; ++i) { EXPECT_EQ(i + start, data[i]); }
  }

  // Number c * inner + i lies at i * block + c, within a block of channels.
  void ExpectBlocked(int start) {
    const float* data =
        static_cast<const float*>(memory_.blocked_cpu_data(layout_));
    const int inner = layout_.inner;
    for (int channel = 0; channel < kChannels; ++channel) {
      const float* block = data + channel / 4 * 4 * inner;
      for (int i = 0; i < inner; ++i) {
        EXPECT_EQ(channel * inner + i + start, block[i * 4 + channel % 4]);
      }
    }
  }

  static const int kCount = 24, kChannels = 8;
  SyncedMemory memory_;
  BlockedLayout layout_;
};

const int HostBufferTest::kCount;
const int HostBufferTest::kChannels;

TEST_F(HostBufferTest, TestStates) {
  float ordered[kCount] = {};
  HostBuffer buffer(sizeof(ordered));
  EXPECT_EQ(HostBuffer::ORDERED, buffer.state());
  EXPECT_FALSE(buffer.blocked());
  buffer.OverwriteBlocked(layout_);
  EXPECT_EQ(HostBuffer::BLOCKED, buffer.state());
  EXPECT_TRUE(buffer.blocked_in(layout_));
  buffer.Order(ordered);
  EXPECT_EQ(HostBuffer::BOTH, buffer.state());
  EXPECT_TRUE(buffer.blocked_in(layout_));
  buffer.ForgetOrdered();
  EXPECT_EQ(HostBuffer::BLOCKED, buffer.state());
  buffer.Order(ordered);
  buffer.CopyBlocked(layout_, ordered);
  EXPECT_EQ(HostBuffer::ORDERED, buffer.state());
  buffer.ForgetOrdered();
  EXPECT_EQ(HostBuffer::ORDERED, buffer.state());
  buffer.SetZero();
  EXPECT_EQ(HostBuffer::ZERO, buffer.state());
  buffer.Defer(boost::bind(&HostBuffer::Written, &buffer));
  EXPECT_EQ(HostBuffer::DEFERRED, buffer.state());
  buffer.Compute();
  EXPECT_EQ(HostBuffer::ORDERED, buffer.state());
}

TEST_F(HostBufferTest, TestVersion) {
  float ordered[kCount] = {};
  HostBuffer buffer(sizeof(ordered)), other(sizeof(ordered));
  EXPECT_NE(buffer.version(), other.version());
  size_t version = buffer.version();
  buffer.OverwriteBlocked(layout_);
  EXPECT_NE(version, buffer.version());
  version = buffer.version();
  buffer.Order(ordered);
  buffer.CopyBlocked(layout_, ordered);
  EXPECT_EQ(version, buffer.version());
  buffer.Written();
  EXPECT_NE(version, buffer.version());
}

TEST_F(HostBufferTest, TestWatch) {
  HostBuffer buffer(sizeof(float));
  EXPECT_FALSE(buffer.watched());
  {
    const shared_ptr<void> watch = buffer.Watch();
    EXPECT_TRUE(buffer.watched());
  }
  EXPECT_FALSE(buffer.watched());
}

TEST_F(HostBufferTest, TestBothWays) {
  Fill(1);
  ExpectBlocked(1);
  EXPECT_EQ(1, memory_.block());
  FillBlocked(5);
  EXPECT_EQ(4, memory_.block());
  ExpectBlocked(5);
  ExpectOrdered(5);
  EXPECT_EQ(4, memory_.block());
  memory_.free_ordered();
  ExpectOrdered(5);
  Fill(9);
  EXPECT_EQ(1, memory_.block());
  ExpectBlocked(9);
}

// A pointer for writing may be written to after a blocked copy was made.
TEST_F(HostBufferTest, TestWrittenLater) {
  float* data = static_cast<float*>(memory_.mutable_cpu_data());
  memory_.blocked_cpu_data(layout_);
  for (int i = 0; i < kCount; ++i) { data[i] = i + 3; }
  ExpectBlocked(3);
}

TEST_F(HostBufferTest, TestZero) {
  Fill(1);
  memory_.set_zero();
  EXPECT_TRUE(memory_.zero());
  const float* data = static_cast<const float*>(memory_.cpu_data());
  for (int i = 0; i < kCount; ++i) { EXPECT_EQ(0, data[i]); }
  EXPECT_FALSE(memory_.zero());
  FillBlocked(1);
  memory_.set_zero();
  data = static_cast<const float*>(memory_.blocked_cpu_data(layout_));
  for (int i = 0; i < kCount; ++i) { EXPECT_EQ(0, data[i]); }
}

TEST_F(HostBufferTest, TestZeroIsWrittenWhereItIsWatched) {
  Fill(1);
  const shared_ptr<void> watch = memory_.Watch();
  const float* data = static_cast<const float*>(memory_.cpu_data());
  memory_.set_zero();
  EXPECT_FALSE(memory_.zero());
  for (int i = 0; i < kCount; ++i) { EXPECT_EQ(0, data[i]); }
}

TEST_F(HostBufferTest, TestDeferred) {
  Fill(1);
  memory_.Defer(boost::bind(&HostBufferTest::FillBlocked, this, 7));
  EXPECT_TRUE(memory_.deferred());
  ExpectOrdered(7);
  EXPECT_FALSE(memory_.deferred());
  memory_.Defer(boost::bind(&HostBufferTest::Fill, this, 8));
  ExpectBlocked(8);
  memory_.Defer(boost::bind(&HostBufferTest::Fill, this, 9));
  Fill(2);
  EXPECT_FALSE(memory_.deferred());
  ExpectOrdered(2);
}

}  // namespace caffe
