#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/semantic_attention_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class SemanticAttentionLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 public:
  SemanticAttentionLayerTest() : layer_(LayerParameter()) {
    bottom_.push_back(&features_);
    bottom_.push_back(&embeddings_);
    top_.push_back(&out_);
  }

  // Sets the sizes and fills the bottoms with normal numbers.
  void Fill(int images, int channels, int height, int width, int rows) {
    Caffe::set_random_seed(1701);
    vector<int> shape(4, images);
    shape[1] = channels;
    shape[2] = height;
    shape[3] = width;
    features_.Reshape(shape);
    shape.assign(2, rows);
    shape[1] = channels;
    embeddings_.Reshape(shape);
    FillerParameter parameter;
    GaussianFiller<Dtype> filler(parameter);
    filler.Fill(&features_);
    filler.Fill(&embeddings_);
  }

  void Forward() {
    layer_.SetUp(bottom_, top_);
    layer_.Forward(bottom_, top_);
  }

  // The mean of a map under a row, as the definition says it, in double.
  double Expected(int image, int row, int channel) const {
    const int positions = features_.count(2);
    const Dtype* f = features_.cpu_data() +
        (image * features_.shape(1) + channel) * positions;
    const double e = embeddings_.data_at(vector<int>{row, channel});
    double greatest = e * f[0], sum = 0, product = 0;
    for (int p = 0; p < positions; ++p) {
      greatest = std::max(greatest, e * f[p]);
    }
    for (int p = 0; p < positions; ++p) {
      sum += std::exp(e * f[p] - greatest);
      product += std::exp(e * f[p] - greatest) * f[p];
    }
    return product / sum;
  }

  Blob<Dtype> features_, embeddings_, out_;
  vector<Blob<Dtype>*> bottom_, top_;
  SemanticAttentionLayer<Dtype> layer_;
};

TYPED_TEST_CASE(SemanticAttentionLayerTest, TestDtypesAndDevices);

TYPED_TEST(SemanticAttentionLayerTest, TestShape) {
  this->Fill(2, 5, 3, 4, 7);
  this->Forward();
  EXPECT_EQ(vector<int>({2, 7, 5}), this->out_.shape());
}

TYPED_TEST(SemanticAttentionLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  const int sizes[][5] = { {2, 3, 5, 7, 4}, {1, 2, 1, 1, 3}, {1, 2, 4, 4, 1},
      {2, 1, 1, 17, 9}, {1, 3, 56, 56, 2}, {1, 2, 2, 3, 1024} };
  for (const int* size : sizes) {
    this->Fill(size[0], size[1], size[2], size[3], size[4]);
    for (int factor = 1; factor <= 40; factor += 39) {  // 40: products of 100
      caffe_scal<Dtype>(this->embeddings_.count(), factor,
          this->embeddings_.mutable_cpu_data());
      this->Forward();
      for (int i = 0; i < size[0]; ++i) {
        for (int r = 0; r < size[4]; ++r) {
          for (int d = 0; d < size[1]; ++d) {
            EXPECT_NEAR(this->Expected(i, r, d),
                this->out_.data_at(vector<int>{i, r, d}), 1e-5);
          }
        }
      }
    }
  }
}

TYPED_TEST(SemanticAttentionLayerTest, TestEqualFeatures) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(2, 3, 5, 5, 4);
  caffe_set<Dtype>(this->features_.count(), 1.7,
      this->features_.mutable_cpu_data());
  this->Forward();
  caffe_set<Dtype>(this->out_.count(), 1, this->out_.mutable_cpu_diff());
  this->layer_.Backward(this->top_, vector<bool>(2, true), this->bottom_);
  for (int i = 0; i < this->out_.count(); ++i) {
    EXPECT_EQ(Dtype(1.7), this->out_.cpu_data()[i]);
  }
  for (int i = 0; i < this->features_.count(); ++i) {
    EXPECT_NEAR(4. / 25, this->features_.cpu_diff()[i], 1e-6);
  }
  for (int i = 0; i < this->embeddings_.count(); ++i) {
    EXPECT_EQ(0, this->embeddings_.cpu_diff()[i]);
  }
}

// What is not finite makes NaN of all that it belongs to, and of nothing else.
TYPED_TEST(SemanticAttentionLayerTest, TestNotANumber) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype values[] = { std::numeric_limits<Dtype>::quiet_NaN(),
      std::numeric_limits<Dtype>::infinity() };
  for (const Dtype value : values) {
    this->Fill(2, 3, 5, 5, 4);
    const int map = 1 * 3 + 2, row = 1, channel = 0;
    this->features_.mutable_cpu_data()[map * 25 + 11] = value;
    this->embeddings_.mutable_cpu_data()[row * 3 + channel] = value;
    this->Forward();
    caffe_set<Dtype>(this->out_.count(), 1, this->out_.mutable_cpu_diff());
    this->layer_.Backward(this->top_, vector<bool>(2, true), this->bottom_);
    for (int n = 0; n < 2; ++n) {
      for (int r = 0; r < 4; ++r) {
        for (int d = 0; d < 3; ++d) {
          EXPECT_EQ(n * 3 + d == map || (r == row && d == channel),
              std::isnan(this->out_.data_at(vector<int>{n, r, d})));
          EXPECT_EQ(d == map % 3 || (r == row && d == channel),
              std::isnan(this->embeddings_.diff_at(vector<int>{r, d})));
        }
      }
    }
    for (int i = 0; i < this->features_.count(); ++i) {
      EXPECT_EQ(i / 25 == map || i / 25 % 3 == channel,
          std::isnan(this->features_.cpu_diff()[i]));
    }
  }
}

TYPED_TEST(SemanticAttentionLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  const int sizes[][5] = { {2, 2, 3, 3, 3}, {1, 2, 1, 1, 2}, {1, 1, 1, 18, 2} };
  for (const int* size : sizes) {
    this->Fill(size[0], size[1], size[2], size[3], size[4]);
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientExhaustive(&this->layer_, this->bottom_, this->top_);
  }
}

TYPED_TEST(SemanticAttentionLayerTest, TestGradientOfOne) {
  typedef typename TypeParam::Dtype Dtype;
  for (int asked = 0; asked < 2; ++asked) {
    this->Fill(2, 3, 5, 5, 4);
    this->Forward();
    caffe_set<Dtype>(this->out_.count(), 1, this->out_.mutable_cpu_diff());
    vector<bool> both(2, true), one(2, false);
    this->layer_.Backward(this->top_, both, this->bottom_);
    Blob<Dtype>* const wanted = this->bottom_[asked];
    Blob<Dtype> expected;
    expected.CopyFrom(*wanted, true, true);
    for (int i = 0; i < 2; ++i) {
      Blob<Dtype>* const bottom = this->bottom_[i];
      caffe_set<Dtype>(bottom->count(), 9, bottom->mutable_cpu_diff());
    }
    one[asked] = true;
    this->layer_.Backward(this->top_, one, this->bottom_);
    for (int i = 0; i < wanted->count(); ++i) {
      EXPECT_EQ(expected.cpu_diff()[i], wanted->cpu_diff()[i]);
    }
    EXPECT_EQ(9, this->bottom_[1 - asked]->cpu_diff()[0]);
  }
}

}  // namespace caffe
