// Gradients of the whole model: finite differences, accumulation, weighted losses, gradients given by the caller.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 64, .kv_slots = 0, .positions = 64, .training = true};

ModelConfig config_with(NormPlacement placement) {
  ModelConfig config = make_config(3);
  config.norm_placement = placement;
  config.loss_weight = {1.0, 0.25, 2.0};
  config.z_loss = 1e-2;
  return config;
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const OpTable* table = reference_backend(),
                                  const Limits& limits = kLimits) {
  auto model = std::make_unique<Model>(config, limits, kF32, table, 2);
  fill_random_weights(*model, 5);
  return model;
}

TokenGroups groups_of(const Model& model, const OwnedBatch& batch) {
  return make_token_groups(model.config(), model.limits(), model.row_alignment(), batch.view());
}

std::vector<float> gradients(Model& model) {
  return {model.gradient_data(), model.gradient_data() + model.weights().flat_count()};
}

class ModelGradient : public ::testing::TestWithParam<NormPlacement> {};

// Along the gradient of each tensor, so that the difference stands well above the rounding of an f32 loss.
TEST_P(ModelGradient, MatchesFiniteDifferences) {
  const auto model = make_model(config_with(GetParam()));
  const TokenGroups groups = groups_of(*model, random_batch(model->config(), {19, 1, 30}, 2));
  model->backward(groups, {}, kNoAbort);
  const std::vector<float> gradient = gradients(*model);
  for (const WeightInfo& weight : model->weights().all()) {
    double norm = 0;
    for (int64_t i = 0; i < weight.count; i++) norm += std::pow(gradient[weight.offset + i], 2);
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 0) << weight.name;
    float* w = model->weight_data() + weight.offset;
    const std::vector<float> before(w, w + weight.count);
    const double step = 1e-2;
    double loss[2];
    for (int side = 0; side < 2; side++) {
      for (int64_t i = 0; i < weight.count; i++)
        w[i] = static_cast<float>(before[i] + (side ? step : -step) * gradient[weight.offset + i] / norm);
      loss[side] = model->evaluate(groups, {}, kNoAbort).loss;
    }
    std::copy(before.begin(), before.end(), w);
    EXPECT_NEAR((loss[1] - loss[0]) / (2 * step) / norm, 1, 2e-3) << weight.name << ", |g| = " << norm;
  }
}

TEST_P(ModelGradient, OfMicroBatchesAddUpToThatOfTheWhole) {
  const auto model = make_model(config_with(GetParam()));
  const OwnedBatch first = random_batch(model->config(), {11, 7}, 3), second = random_batch(model->config(), {20}, 4);
  OwnedBatch both = first;
  both.append(second);
  const int64_t targets = both.tokens() - 3;

  const Losses a = model->backward(groups_of(*model, first), {targets}, kNoAbort);
  const Losses b = model->backward(groups_of(*model, second), {targets}, kNoAbort);
  const std::vector<float> accumulated = gradients(*model);
  model->zero_gradients();
  const Losses whole = model->backward(groups_of(*model, both), {}, kNoAbort);
  EXPECT_NEAR(a.loss + b.loss, whole.loss, 1e-6 * whole.loss);
  EXPECT_NEAR(a.lm_loss + b.lm_loss, whole.lm_loss, 1e-6 * whole.lm_loss);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_EQ(a.target_count[i] + b.target_count[i], whole.target_count[i]);
    EXPECT_NEAR(a.ce_sum[i] + b.ce_sum[i], whole.ce_sum[i], 1e-6 * whole.ce_sum[i]);
  }
  EXPECT_LE(relative_error(accumulated, gradients(*model)), 2e-6);
}

// The gradient of sum_i r_i * output_i for the caller's r equals, by the chain rule, what the loss itself gives when r
// is the loss's own gradient.
TEST_P(ModelGradient, FromLogitsEqualsThatOfTheLoss) {
  ModelConfig config = config_with(GetParam());
  const auto model = make_model(config);
  const OwnedBatch batch = random_batch(config, {25, 13}, 6);
  const TokenGroups groups = groups_of(*model, batch);
  const int64_t V = config.vocab;

  std::vector<int32_t> positions;  // those with a target, last first
  for (int32_t t = static_cast<int32_t>(batch.tokens()) - 1; t >= 0; t--)
    if (batch.target[t] >= 0) positions.push_back(t);
  const int64_t count = static_cast<int64_t>(positions.size());
  std::vector<float> logits(count * V), d_logits(count * V);
  model->forward(groups, positions.data(), count, Output::kLogits, logits.data(), kNoAbort);
  for (int64_t i = 0; i < count; i++) {
    const float* row = &logits[i * V];
    double sum = 0;
    for (int64_t j = 0; j < V; j++) sum += std::exp(static_cast<double>(row[j]));
    const double z = std::log(sum), scale = config.loss_weight[batch.target_modality[positions[i]]] / count;
    for (int64_t j = 0; j < V; j++)
      d_logits[i * V + j] = static_cast<float>(
          scale * ((1 + 2 * config.z_loss * z) * std::exp(row[j] - z) - (j == batch.target[positions[i]])));
  }
  model->backward_from(groups, positions.data(), count, Output::kLogits, d_logits.data(), kNoAbort);
  const std::vector<float> from_logits = gradients(*model);

  // And once more through the hidden state: d_hidden = d_logits W. The head gets no gradient then.
  const WeightInfo& head = model->weights().at("lm_head.weight");
  const float* W = model->weight_data() + head.offset;
  std::vector<float> d_hidden(count * config.d_model);
  for (int64_t i = 0; i < count; i++)
    for (int64_t d = 0; d < config.d_model; d++) {
      double sum = 0;
      for (int64_t j = 0; j < V; j++) sum += static_cast<double>(d_logits[i * V + j]) * W[j * config.d_model + d];
      d_hidden[i * config.d_model + d] = static_cast<float>(sum);
    }
  model->zero_gradients();
  model->backward_from(groups, positions.data(), count, Output::kHidden, d_hidden.data(), kNoAbort);
  const std::vector<float> from_hidden = gradients(*model);

  model->zero_gradients();
  model->backward(groups, {}, kNoAbort);
  const std::vector<float> expected = gradients(*model);
  for (const WeightInfo& weight : model->weights().all()) {
    EXPECT_LE(relative_error(&from_logits[weight.offset], &expected[weight.offset], weight.count), 1e-5) << weight.name;
    if (weight.name == head.name) {
      for (int64_t i = 0; i < weight.count; i++) ASSERT_EQ(from_hidden[weight.offset + i], 0.0f);
    } else {
      EXPECT_LE(relative_error(&from_hidden[weight.offset], &expected[weight.offset], weight.count), 1e-5)
          << weight.name;
    }
  }
}

// The shares of a position that is named twice add up.
TEST_P(ModelGradient, FromHiddenAddsUpRepeatedPositions) {
  const auto model = make_model(config_with(GetParam()));
  const TokenGroups groups = groups_of(*model, random_batch(model->config(), {15}, 12));
  const std::vector<int32_t> once = {9}, twice = {9, 9};
  model->backward_from(groups, once.data(), 1, Output::kHidden,
                       std::vector<float>(model->config().d_model, 2.0f).data(), kNoAbort);
  const std::vector<float> expected = gradients(*model);
  model->zero_gradients();
  model->backward_from(groups, twice.data(), 2, Output::kHidden,
                       std::vector<float>(2 * model->config().d_model, 1.0f).data(), kNoAbort);
  EXPECT_EQ(gradients(*model), expected);
}

INSTANTIATE_TEST_SUITE_P(Placements, ModelGradient,
                         ::testing::Values(NormPlacement::kBranchOutput, NormPlacement::kPre),
                         [](const auto& info) { return info.param == NormPlacement::kPre ? "pre" : "branch_output"; });

TEST(ModelLosses, WeightsCountWhereTheTargetIs) {
  ModelConfig config = config_with(NormPlacement::kPre);
  const auto model = make_model(config);
  const OwnedBatch batch = random_batch(config, {40}, 8);
  std::vector<float> ce(40), lse(40);
  const Losses losses = model->evaluate(groups_of(*model, batch), {}, kNoAbort, ce.data(), lse.data());
  double loss = 0, lm = 0, z = 0;
  std::vector<double> sums(3);
  for (int t = 0; t < 39; t++) {
    sums[batch.target_modality[t]] += ce[t];
    lm += ce[t] / 39.0;
    z += static_cast<double>(lse[t]) * lse[t] / 39;
    loss += config.loss_weight[batch.target_modality[t]] * (ce[t] + config.z_loss * lse[t] * lse[t]) / 39;
  }
  EXPECT_EQ(ce[39], 0.0f);
  EXPECT_EQ(lse[39], 0.0f);
  EXPECT_NEAR(losses.loss, loss, 1e-6 * loss);
  EXPECT_NEAR(losses.lm_loss, lm, 1e-9 * lm);
  EXPECT_NEAR(losses.z_loss, z, 1e-6 * z);
  for (int i = 0; i < 3; i++) EXPECT_NEAR(losses.ce_sum[i], sums[i], 1e-9 * sums[i]);

  // ce and lse are those of the logits.
  const std::vector<int32_t> positions = all_positions(40);
  std::vector<float> logits(40 * config.vocab);
  model->forward(groups_of(*model, batch), positions.data(), 40, Output::kLogits, logits.data(), kNoAbort);
  for (int t = 0; t < 39; t++) {
    double sum = 0;
    for (int64_t j = 0; j < config.vocab; j++) sum += std::exp(static_cast<double>(logits[t * config.vocab + j]));
    EXPECT_NEAR(lse[t], std::log(sum), 1e-5);
    EXPECT_NEAR(ce[t], std::log(sum) - logits[t * config.vocab + batch.target[t]], 1e-5);
  }
}

TEST(ModelLosses, AreZeroWithoutTargets) {
  const auto model = make_model(config_with(NormPlacement::kBranchOutput));
  OwnedBatch batch = random_batch(model->config(), {12}, 9);
  batch.target.assign(12, -1);
  const Losses losses = model->backward(groups_of(*model, batch), {}, kNoAbort);
  EXPECT_EQ(losses.loss, 0);
  EXPECT_EQ(losses.lm_loss, 0);
  for (float x : gradients(*model)) ASSERT_EQ(x, 0.0f);
}

TEST(ModelOptimizer, ChangesNothingWhereTheNormIsNotFinite) {
  const auto model = make_model(config_with(NormPlacement::kPre));
  const TokenGroups groups = groups_of(*model, random_batch(model->config(), {12}, 10));
  model->backward(groups, {}, kNoAbort);
  const int64_t count = model->weights().flat_count();
  auto state = [&] {
    std::vector<float> all(model->weight_data(), model->weight_data() + count);
    all.insert(all.end(), model->m_data(), model->m_data() + count);
    all.insert(all.end(), model->v_data(), model->v_data() + count);
    return all;
  };
  const AdamwOptions options{
      .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0, .step = 1};
  EXPECT_TRUE(model->adamw(options).applied);
  const std::vector<float> before = state();
  model->gradient_data()[count / 2] = NAN;
  EXPECT_FALSE(model->adamw(options).applied);
  EXPECT_EQ(state(), before);
  model->gradient_data()[count / 2] = INFINITY;
  EXPECT_FALSE(model->adamw(options).applied);
  EXPECT_EQ(state(), before);
}

// clip <= 0 means no clipping; with it, AdamW sees the gradient at the clip's length.
TEST(ModelOptimizer, ClipsByTheGlobalNorm) {
  const auto model = make_model(config_with(NormPlacement::kPre));
  const TokenGroups groups = groups_of(*model, random_batch(model->config(), {12}, 11));
  AdamwOptions options{.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 0, .step = 1};
  model->backward(groups, {}, kNoAbort);
  const std::vector<float> gradient = gradients(*model);
  double squares = 0;
  for (float x : gradient) squares += static_cast<double>(x) * x;
  const double norm = std::sqrt(squares);
  EXPECT_NEAR(model->adamw(options).grad_norm, norm, 1e-6 * norm);
  const int64_t probe = model->weights().at("lm_head.weight").offset;
  EXPECT_NEAR(model->m_data()[probe], 0.1 * gradient[probe], 1e-6 * std::abs(gradient[probe]));

  model->init(1);  // clears the moments
  EXPECT_EQ(model->m_data()[probe], 0.0f);
  std::copy(gradient.begin(), gradient.end(), model->gradient_data());
  options.clip = norm / 4;
  EXPECT_NEAR(model->adamw(options).grad_norm, norm, 1e-6 * norm);
  EXPECT_NEAR(model->m_data()[probe], 0.1 * gradient[probe] / 4, 1e-5 * std::abs(gradient[probe]));
}

}  // namespace
}  // namespace mot::test
