// The list of weights, initial values, and what a config may be.
#include "model/weights.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "core/error.h"
#include "model_support.h"

namespace mot::test {
namespace {

TEST(Weights, HaveTheNamesShapesAndOrderOfTheReference) {
  for (const std::string& name : golden_names()) {
    const Golden golden(name);
    std::vector<std::string> expected;
    for (const TensorInfo& tensor : golden.file.tensors())
      if (tensor.name.rfind("p.", 0) == 0) expected.push_back(tensor.name.substr(2));
    const WeightList list(golden.config);
    ASSERT_EQ(list.all().size(), expected.size()) << name;
    int64_t parameters = 0;
    for (size_t i = 0; i < expected.size(); i++) {
      EXPECT_EQ(list.all()[i].name, expected[i]);
      EXPECT_EQ(list.all()[i].shape, golden.file.find("p." + expected[i])->shape) << expected[i];
      parameters += list.all()[i].count;
    }
    EXPECT_EQ(list.parameter_count(), parameters);
  }
}

TEST(Weights, LieApartAndFusedOnesTogether) {
  ModelConfig config = make_config(3);
  config.d_model = 13, config.ffn_dim = 7;  // no count is a multiple of the alignment by itself
  const WeightList list(config);
  int64_t end = 0;
  for (const WeightInfo& weight : list.all()) {
    EXPECT_GE(weight.offset, end) << weight.name;
    end = weight.offset + weight.count;
    EXPECT_EQ(weight.decay, weight.shape.size() >= 2) << weight.name;
  }
  EXPECT_LE(end, list.flat_count());
  for (int layer = 0; layer < 2; layer++) {
    for (const char* tower : {"m0", "m1", "m2"}) {
      const std::string prefix = "layers." + std::to_string(layer) + "." + tower + ".";
      const WeightInfo &q = list.at(prefix + "self_attn.q_proj.weight"),
                       &k = list.at(prefix + "self_attn.k_proj.weight"),
                       &v = list.at(prefix + "self_attn.v_proj.weight"),
                       &gate = list.at(prefix + "mlp.gate_proj.weight"), &up = list.at(prefix + "mlp.up_proj.weight");
      EXPECT_EQ(q.offset % 16, 0);
      EXPECT_EQ(k.offset, q.offset + q.count);
      EXPECT_EQ(v.offset, k.offset + k.count);
      EXPECT_EQ(up.offset, gate.offset + gate.count);
    }
  }
}

TEST(Weights, NameTheNearestTensor) {
  const WeightList list(make_config(2));
  try {
    list.at("layers.1.m0.mlp.gate_prj.weight");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), "ERR_TENSOR_NAME");
    EXPECT_NE(std::string(error.what()).find("\"layers.1.m0.mlp.gate_proj.weight\""), std::string::npos)
        << error.what();
  }
}

TEST(Weights, AreDrawnByNameAndSeed) {
  ModelConfig config = make_config(2);
  config.vocab = 4001;
  const WeightList list(config);
  std::vector<float> a(list.flat_count()), b(list.flat_count()), c(list.flat_count());
  init_weights(config, list, 1, a.data());
  init_weights(config, list, 1, b.data());
  init_weights(config, list, 2, c.data());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  std::set<float> first_values;
  for (const WeightInfo& weight : list.all()) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < weight.count; i++) sum += a[weight.offset + i];
    const double mean = sum / static_cast<double>(weight.count);
    for (int64_t i = 0; i < weight.count; i++) squares += std::pow(a[weight.offset + i] - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(weight.count));
    if (!weight.decay) {
      EXPECT_EQ(mean, 1.0) << weight.name;
      EXPECT_EQ(deviation, 0.0) << weight.name;
      continue;
    }
    const bool residual =
        weight.name.find("o_proj") != std::string::npos || weight.name.find("down_proj") != std::string::npos;
    const double expected = residual ? 0.02 / std::sqrt(2.0 * 2) : 0.02;
    const double error = 5 / std::sqrt(static_cast<double>(weight.count));  // five standard errors
    EXPECT_NEAR(mean / expected, 0, error) << weight.name;
    EXPECT_NEAR(deviation / expected, 1, error) << weight.name;
    EXPECT_TRUE(first_values.insert(a[weight.offset]).second) << weight.name << " repeats another tensor";
  }
  // A tensor's values do not depend on what else the model has.
  ModelConfig more = make_config(3);
  more.vocab = 4001;
  const WeightList longer(more);
  std::vector<float> d(longer.flat_count());
  init_weights(more, longer, 1, d.data());
  const WeightInfo &from = list.at("layers.1.m1.self_attn.q_proj.weight"), &to = longer.at(from.name);
  EXPECT_TRUE(std::equal(a.begin() + from.offset, a.begin() + from.offset + from.count, d.begin() + to.offset));
}

struct BadConfig {
  const char* name;
  void (*damage)(ModelConfig&);
  const char* message;
};

class ConfigRejects : public ::testing::TestWithParam<BadConfig> {};

TEST_P(ConfigRejects, NamingKeyExpectationAndValue) {
  ModelConfig config = make_config(2);
  EXPECT_NO_THROW(validate(config));
  GetParam().damage(config);
  try {
    validate(config);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), "ERR_CONFIG");
    EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
  }
}

const BadConfig kBadConfigs[] = {
    {"zero_width", [](ModelConfig& c) { c.d_model = 0; }, "d_model from 1 to 1048576, got 0"},
    {"huge_width", [](ModelConfig& c) { c.d_model = int64_t{1} << 40; }, "d_model from 1"},
    {"no_layers", [](ModelConfig& c) { c.n_layers = 0; }, "n_layers"},
    {"heads", [](ModelConfig& c) { c.n_heads = 3; }, "n_heads to be a multiple of n_kv_heads, got 3 and 2"},
    {"more_kv_heads", [](ModelConfig& c) { c.n_kv_heads = 8; }, "n_kv_heads from 1 to 4, got 8"},
    {"head_width", [](ModelConfig& c) { c.head_dim = 12; }, "head_dim to be a multiple of 8, got 12"},
    {"hidden", [](ModelConfig& c) { c.ffn_dim = -1; }, "ffn_dim"},
    {"vocabulary", [](ModelConfig& c) { c.vocab = 0; }, "vocab"},
    {"eps", [](ModelConfig& c) { c.norm_eps = 0; }, "norm_eps to be a finite number > 0, got 0"},
    {"theta", [](ModelConfig& c) { c.rope_theta = std::numeric_limits<double>::quiet_NaN(); }, "rope_theta"},
    {"z_loss", [](ModelConfig& c) { c.z_loss = -1; }, "z_loss to be a finite number >= 0, got -1"},
    {"no_towers", [](ModelConfig& c) { c.mlp.names.clear(); }, "mlp towers from 1"},
    {"same_names",
     [](ModelConfig& c) {
       c.mlp.names = {"a", "a"};
     },
     "\"a\" twice"},
    {"unnamed", [](ModelConfig& c) { c.final.names[1] = ""; }, "every tower of final to have a name"},
    {"tower_missing", [](ModelConfig& c) { c.self_attn.tower_of_modality = {0}; }, "each of 2 modalities, got 1"},
    {"tower_range", [](ModelConfig& c) { c.final.tower_of_modality[1] = 2; }, "final[1] from 0 to 1, got 2"},
    {"loss_weights", [](ModelConfig& c) { c.loss_weight = {1}; }, "loss_weight for each of 2 modalities, got 1"},
    {"loss_weight", [](ModelConfig& c) { c.loss_weight[0] = -1; }, "loss_weight to be a finite number >= 0, got -1"},
    {"parameters",
     [](ModelConfig& c) {
       c.d_model = c.ffn_dim = 1 << 20;
       c.n_layers = 4096;
     },
     "at most 2^40 parameters"},
};

INSTANTIATE_TEST_SUITE_P(All, ConfigRejects, ::testing::ValuesIn(kBadConfigs),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mot::test
