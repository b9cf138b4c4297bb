// Mixtures of experts in the whole model: what one expert amounts to, gradients, threads, checkpointing, small groups,
// decoding, and what is refused.
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 96, .kv_slots = 0, .positions = 96, .training = true};

Experts expert_choice(int64_t count, double capacity_factor = 1) {
  Experts experts;
  experts.count = count;
  experts.capacity_factor = capacity_factor;
  return experts;
}

Experts token_choice(int64_t count, int64_t top_k, double balance_loss = 0) {
  Experts experts;
  experts.count = count;
  experts.routing = Routing::kTokenChoice;
  experts.top_k = top_k;
  experts.balance_loss = balance_loss;
  return experts;
}

// Three modalities; the MLP is one tower for all, or one for each with experts in the first two.
ModelConfig mixture(const Experts& experts, bool untied, NormPlacement placement = NormPlacement::kBranchOutput) {
  ModelConfig config = make_config(3, {.mlp = untied});
  config.norm_placement = placement;
  config.experts = {experts};
  if (untied) config.experts = {experts, experts, Experts{}};
  return config;
}

std::vector<ModelConfig> mixtures(NormPlacement placement) {
  std::vector<ModelConfig> configs;
  for (bool untied : {false, true}) {
    configs.push_back(mixture(expert_choice(4), untied, placement));
    configs.push_back(mixture(expert_choice(3, 1.5), untied, placement));
    configs.push_back(mixture(token_choice(4, 2, 0.3), untied, placement));
  }
  return configs;
}

struct Outcome {
  Losses losses;
  std::vector<float> hidden, gradients;
  int64_t arena_bytes, high_water;
};

Outcome run(Model& model, const OwnedBatch& batch) {
  const TokenGroups groups = make_token_groups(model.config(), model.limits(), model.row_alignment(), batch.view());
  Outcome out;
  const std::vector<int32_t> every = all_positions(batch.tokens());
  out.hidden.resize(static_cast<size_t>(batch.tokens() * model.config().d_model));
  model.forward(groups, every.data(), batch.tokens(), Output::kHidden, out.hidden.data(), kNoAbort);
  model.zero_gradients();
  out.losses = model.backward(groups, {}, kNoAbort);
  out.gradients.assign(model.gradient_data(), model.gradient_data() + model.weights().flat_count());
  model.adamw({.lr = 0, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0, .clip = 0, .step = 1});
  out.arena_bytes = model.arena_bytes();
  out.high_water = model.arena_high_water();
  return out;
}

Outcome run(const ModelConfig& config, const std::string& name, DType compute, const OwnedBatch& batch, int threads = 2,
            const Limits& limits = kLimits) {
  Model model(config, limits, compute, backend(name), threads);
  fill_random_weights(model, 3);
  return run(model, batch);
}

TEST(Experts, OneIsTheModelWithoutExpertsBitForBit) {
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (bool untied : {false, true})
      for (const Experts& experts : {expert_choice(1), token_choice(1, 1)})
        for (const std::string& name : backend_names())
          for (DType compute : {kF32, kBF16}) {
            SCOPED_TRACE(testing::Message() << name << " " << dtype_name(compute) << " pre "
                                            << (placement == NormPlacement::kPre) << " untied " << untied);
            const ModelConfig one = mixture(experts, untied, placement);
            ModelConfig none = one;
            none.experts.clear();
            Model plain(none, kLimits, compute, backend(name), 2), routed(one, kLimits, compute, backend(name), 2);
            fill_random_weights(routed, 3);
            auto plain_name = [](std::string weight) {
              if (const size_t at = weight.find("experts.0."); at != std::string::npos) weight.erase(at, 10);
              return weight;
            };
            for (const WeightInfo& weight : routed.weights().all()) {
              if (weight.name.find("router") != std::string::npos) continue;
              const WeightInfo& to = plain.weights().at(plain_name(weight.name));
              std::copy_n(routed.weight_data() + weight.offset, weight.count, plain.weight_data() + to.offset);
            }
            const OwnedBatch batch = random_batch(one, {40, 1, 33}, 4);
            const Outcome a = run(plain, batch), b = run(routed, batch);
            EXPECT_LE(relative_error(b.losses.loss, a.losses.loss), name == "reference" ? 1e-6 : 0);
            EXPECT_LE(relative_error(b.hidden, a.hidden), name == "reference" ? 1e-5 : 0);
            for (const WeightInfo& weight : routed.weights().all()) {
              const float* gradient = &b.gradients[weight.offset];
              if (weight.name.find("router") != std::string::npos) {
                for (int64_t i = 0; i < weight.count; i++) ASSERT_EQ(gradient[i], 0.0f) << weight.name;
                continue;
              }
              const float* expected = &a.gradients[plain.weights().at(plain_name(weight.name)).offset];
              // The reference backend keeps a sum in double where the other path stores it as f32 in between.
              if (name == "reference")
                EXPECT_LE(relative_error(gradient, expected, weight.count), 1e-5) << weight.name;
              else
                EXPECT_TRUE(std::equal(gradient, gradient + weight.count, expected)) << weight.name;
            }
          }
}

// Every token goes to every expert, so that no step changes a choice; the choice itself has no gradient.
TEST(Experts, GradientsMatchFiniteDifferences) {
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (const Experts& experts : {expert_choice(3, 3), token_choice(3, 3)}) {
      const ModelConfig config = mixture(experts, true, placement);
      Model model(config, kLimits, kF32, reference_backend(), 1);
      fill_random_weights(model, 5);
      const OwnedBatch batch = random_batch(config, {19, 1, 30}, 2);
      const TokenGroups groups = make_token_groups(config, kLimits, 1, batch.view());
      model.backward(groups, {}, kNoAbort);
      const std::vector<float> gradient(model.gradient_data(), model.gradient_data() + model.weights().flat_count());
      for (const WeightInfo& weight : model.weights().all()) {
        double norm = 0;
        for (int64_t i = 0; i < weight.count; i++) norm += std::pow(gradient[weight.offset + i], 2);
        norm = std::sqrt(norm);
        ASSERT_GT(norm, 0) << weight.name;
        float* w = model.weight_data() + weight.offset;
        const std::vector<float> before(w, w + weight.count);
        const double step = 4e-3;
        double loss[2];
        for (int side = 0; side < 2; side++) {
          for (int64_t i = 0; i < weight.count; i++)
            w[i] = static_cast<float>(before[i] + (side ? step : -step) * gradient[weight.offset + i] / norm);
          loss[side] = model.evaluate(groups, {}, kNoAbort).loss;
        }
        std::copy(before.begin(), before.end(), w);
        EXPECT_NEAR((loss[1] - loss[0]) / (2 * step) / norm, 1, 4e-3) << weight.name << ", |g| = " << norm;
      }
    }
}

TEST(Experts, ThreadsAndCheckpointingDoNotChangeBits) {
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (const ModelConfig& config : mixtures(placement))
      for (DType compute : {kF32, kBF16}) {
        const std::string name = backend_names().back();
        const OwnedBatch batch = random_batch(config, {50, 33, 12}, 5);
        const Outcome one = run(config, name, compute, batch, 1);
        EXPECT_EQ(one.high_water, one.arena_bytes);
        for (Checkpointing mode : {Checkpointing::kNone, Checkpointing::kAttention, Checkpointing::kBlock}) {
          Limits limits = kLimits;
          limits.checkpointing = mode;
          const Outcome more = run(config, name, compute, batch, 3, limits);
          SCOPED_TRACE(testing::Message() << "pre " << (placement == NormPlacement::kPre) << " " << dtype_name(compute)
                                          << " mode " << static_cast<int>(mode));
          EXPECT_EQ(more.losses.loss, one.losses.loss);
          EXPECT_EQ(more.losses.balance_loss, one.losses.balance_loss);
          EXPECT_TRUE(more.hidden == one.hidden);
          EXPECT_TRUE(more.gradients == one.gradients);
          EXPECT_EQ(more.high_water, more.arena_bytes);
        }
      }
}

// Groups of every size around a tile, none at all included, on every backend.
TEST(Experts, BackendsAgreeForGroupsOfAnySize) {
  for (const ModelConfig& config : mixtures(NormPlacement::kBranchOutput))
    for (int64_t size : {0, 1, 2, 5, 6, 7, 23, 24, 25}) {
      OwnedBatch batch = random_batch(config, {64}, 6);
      // The first modality has `size` tokens, the second the rest.
      for (int64_t t = 0; t < 64; t++) batch.modality[t] = t * 37 % 64 < size ? 0 : 1;
      const Outcome expected = run(config, "reference", kF32, batch);
      const WeightList list(config);
      for (const std::string& name : backend_names()) {
        SCOPED_TRACE(testing::Message() << name << ", group of " << size);
        const Outcome outcome = run(config, name, kF32, batch);
        EXPECT_LE(relative_error(outcome.losses.loss, expected.losses.loss), 3e-6);
        EXPECT_NEAR(outcome.losses.balance_loss, expected.losses.balance_loss, 1e-5);
        EXPECT_LE(relative_error(outcome.hidden, expected.hidden), 3e-6);
        for (const WeightInfo& weight : list.all())
          EXPECT_LE(relative_error(&outcome.gradients[weight.offset], &expected.gradients[weight.offset], weight.count),
                    2e-5)
              << weight.name;
      }
    }
}

// A micro-batch counts by its share of the targets, so the parts add up to a mean over micro-batches.
TEST(Experts, BalanceLossIsReportedAndAddsUp) {
  const ModelConfig with = mixture(token_choice(4, 2, 0.3), true);
  ModelConfig without = with;
  for (Experts& experts : without.experts) experts.balance_loss = 0;
  const OwnedBatch batch = random_batch(with, {40, 30}, 9);
  const Outcome a = run(with, "reference", kF32, batch), b = run(without, "reference", kF32, batch);
  EXPECT_EQ(a.losses.balance_loss, b.losses.balance_loss);
  EXPECT_GE(a.losses.balance_loss, 0.9);
  EXPECT_LE(a.losses.balance_loss, 2.0);
  // Two layers, two towers with experts.
  EXPECT_NEAR(a.losses.loss - b.losses.loss, 0.3 * 4 * a.losses.balance_loss, 1e-9);
  EXPECT_EQ(run(mixture(expert_choice(4), true), "reference", kF32, batch).losses.balance_loss, 0);

  Model model(with, kLimits, kF32, reference_backend(), 1);
  fill_random_weights(model, 3);
  const TokenGroups groups = make_token_groups(with, kLimits, 1, batch.view());
  const Losses half = model.backward(groups, {2 * 68}, kNoAbort);
  EXPECT_NEAR(half.balance_loss, a.losses.balance_loss / 2, 1e-12);
  for (size_t i = 0; i < a.gradients.size(); i++)
    ASSERT_NEAR(model.gradient_data()[i], a.gradients[i] / 2, 1e-6 + 1e-5 * std::abs(a.gradients[i]));
}

// The gradient that the balance loss adds to a router, along itself; in the last layer, so that nothing else moves.
TEST(Experts, BalanceLossHasItsGradient) {
  const ModelConfig with = mixture(token_choice(4, 2, 0.3), false);
  ModelConfig without = with;
  without.experts[0].balance_loss = 0;
  const OwnedBatch batch = random_batch(with, {60}, 11);
  const Outcome a = run(with, "reference", kF32, batch), b = run(without, "reference", kF32, batch);
  Model model(with, kLimits, kF32, reference_backend(), 1);
  fill_random_weights(model, 3);
  const TokenGroups groups = make_token_groups(with, kLimits, 1, batch.view());
  const WeightInfo& router = model.weights().at("layers.1.shared.mlp.router.weight");
  std::vector<double> gradient;
  double norm = 0;
  for (int64_t i = router.offset; i < router.offset + router.count; i++) {
    gradient.push_back(static_cast<double>(a.gradients[i]) - b.gradients[i]);
    norm += gradient.back() * gradient.back();
  }
  norm = std::sqrt(norm);
  ASSERT_GT(norm, 1e-3);
  float* w = model.weight_data() + router.offset;
  const std::vector<float> before(w, w + router.count);
  const double step = 1e-4;
  double balance[2];
  for (int side = 0; side < 2; side++) {
    for (int64_t i = 0; i < router.count; i++)
      w[i] = static_cast<float>(before[i] + (side ? step : -step) * gradient[i] / norm);
    balance[side] = 0.3 * 2 * model.evaluate(groups, {}, kNoAbort).balance_loss;  // of two layers
  }
  EXPECT_NEAR((balance[1] - balance[0]) / (2 * step) / norm, 1, 2e-2);
}

// Logits of every position, decoded one token at a time.
std::vector<float> decoded(Model& model, const OwnedBatch& batch) {
  const int64_t V = model.config().vocab, T = batch.tokens();
  std::vector<float> logits(static_cast<size_t>(T * V));
  for (int64_t t = 0; t < T; t++) {
    const auto slot = static_cast<int32_t>(t), first = 0;
    const int32_t end = slot + 1;
    const Batch one{1, &batch.token[t], &batch.modality[t], &batch.position[t], &first, &end, nullptr, nullptr};
    const TokenGroups groups =
        make_token_groups(model.config(), model.limits(), model.row_alignment(), one, {&slot, model.limits().kv_slots});
    model.decode(groups, &first, 1, Output::kLogits, &logits[static_cast<size_t>(t * V)], kNoAbort);
  }
  return logits;
}

std::vector<float> forward(Model& model, const OwnedBatch& batch) {
  const TokenGroups groups = make_token_groups(model.config(), model.limits(), model.row_alignment(), batch.view());
  const std::vector<int32_t> every = all_positions(batch.tokens());
  std::vector<float> logits(static_cast<size_t>(batch.tokens() * model.config().vocab));
  model.forward(groups, every.data(), batch.tokens(), Output::kLogits, logits.data(), kNoAbort);
  return logits;
}

TEST(Experts, TokenChoiceDecodesWhatForwardGives) {
  const Limits limits{.tokens = 32, .kv_slots = 40, .positions = 40, .training = false};
  for (const std::string& name : backend_names()) {
    const ModelConfig config = mixture(token_choice(4, 2), true);
    Model model(config, limits, kF32, backend(name), 2);
    fill_random_weights(model, 1);
    const OwnedBatch batch = random_batch(config, {29}, 3);
    EXPECT_LE(relative_error(decoded(model, batch), forward(model, batch)), 3e-6) << name;
  }
}

TEST(Experts, ExpertChoiceDecodesOnlyWhereTheApproximationIsAllowed) {
  Limits limits{.tokens = 32, .kv_slots = 40, .positions = 40, .training = false};
  const ModelConfig config = mixture(expert_choice(4, 1.5), true);
  const OwnedBatch batch = random_batch(config, {29}, 3);
  Model model(config, limits, kF32, reference_backend(), 1);
  try {
    decoded(model, batch);
    FAIL() << "decoded";
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), "ERR_UNSUPPORTED");
  }
  limits.approximate_routing = true;
  Model approximate(config, limits, kF32, reference_backend(), 1);
  fill_random_weights(approximate, 1);
  const std::vector<float> logits = decoded(approximate, batch);
  // As token choice with ceil(1.5) experts a token.
  Model causal(mixture(token_choice(4, 2), true), limits, kF32, reference_backend(), 1);
  fill_random_weights(causal, 1);
  EXPECT_EQ(logits, decoded(causal, batch));
  EXPECT_NE(logits, forward(approximate, batch));
}

TEST(Experts, ConfigsThatCannotBeAreRefused) {
  auto refused = [](const Experts& experts, const Limits& limits = kLimits) {
    try {
      Model model(mixture(experts, false), limits, kF32, reference_backend(), 1);
    } catch (const Error& error) {
      return std::string(error.code()) == "ERR_CONFIG";
    }
    return false;
  };
  EXPECT_TRUE(refused(expert_choice(-1)));
  EXPECT_TRUE(refused(expert_choice(257)));
  EXPECT_TRUE(refused(expert_choice(4, 0)));
  EXPECT_TRUE(refused(expert_choice(4, 4.5)));
  EXPECT_TRUE(refused(token_choice(4, 0)));
  EXPECT_TRUE(refused(token_choice(4, 5)));
  EXPECT_TRUE(refused(token_choice(4, 1, -1)));
  EXPECT_TRUE(refused(expert_choice(9), {.tokens = 8, .kv_slots = 0, .positions = 8, .training = true}));
  EXPECT_FALSE(refused(expert_choice(8), {.tokens = 8, .kv_slots = 0, .positions = 8, .training = true}));
  ModelConfig config = make_config(2);
  config.experts = {expert_choice(2)};  // of two towers
  EXPECT_THROW(Model(config, kLimits, kF32, reference_backend(), 1), Error);
}

}  // namespace
}  // namespace mot::test
