// A model of a middle size, so that every op runs over several tiles, K blocks and chunks of the loss, with edges that
// are no multiple of any block: the CPU backend against the reference backend, and one thread against several.
#include <gtest/gtest.h>

#include "model_support.h"

namespace mot::test {
namespace {

constexpr int64_t kTokens = 701;
constexpr Limits kLimits{.tokens = kTokens, .kv_slots = 0, .positions = kTokens, .training = true};

ModelConfig middle_config() {
  ModelConfig config = make_config(3);
  config.d_model = 320;
  config.n_heads = 5;
  config.n_kv_heads = 1;
  config.head_dim = 56;
  config.ffn_dim = 1100;
  config.vocab = 5000;
  return config;
}

struct Result {
  std::vector<float> hidden, gradient;
  Losses losses;
};

Result run(const OpTable* table, DType compute, int threads) {
  Model model(middle_config(), kLimits, compute, table, threads);
  fill_random_weights(model, 7);
  // A sliding window in the first document, which also makes interval starts move.
  OwnedBatch batch = random_batch(model.config(), {300, 1, 258, 142}, 8);
  for (int32_t t = 150; t < 300; t++) batch.kv_start[t] = t - 149;
  const TokenGroups groups = make_token_groups(model.config(), kLimits, model.row_alignment(), batch.view());
  Result result;
  result.losses = model.backward(groups, {}, kNoAbort);
  result.gradient.assign(model.gradient_data(), model.gradient_data() + model.weights().flat_count());
  // Rows of every document's start, middle and end.
  const std::vector<int32_t> positions = {0, 1, 149, 150, 299, 300, 301, 420, 558, 559, 640, 700};
  result.hidden.resize(positions.size() * model.config().d_model);
  model.forward(groups, positions.data(), static_cast<int64_t>(positions.size()), Output::kHidden, result.hidden.data(),
                kNoAbort);
  return result;
}

TEST(ModelBackends, AgreeOnAMiddleSizedModel) {
  const Result expected = run(reference_backend(), kF32, 1);
  const WeightList list(middle_config());
  for (const std::string& name : backend_names()) {
    if (name == "reference") continue;
    for (DType compute : {kF32, kBF16}) {
      SCOPED_TRACE(name + " " + dtype_name(compute));
      const Result result = run(backend(name), compute, 2);
      EXPECT_LE(relative_error(result.losses.loss, expected.losses.loss), compute == kF32 ? 3e-6 : 5e-3);
      EXPECT_LE(relative_error(result.losses.z_loss, expected.losses.z_loss), compute == kF32 ? 3e-6 : 5e-3);
      EXPECT_LE(relative_error(result.hidden, expected.hidden), compute == kF32 ? 3e-6 : 3e-2);
      for (const WeightInfo& weight : list.all())
        EXPECT_LE(relative_error(&result.gradient[weight.offset], &expected.gradient[weight.offset], weight.count),
                  compute == kF32 ? 1e-5 : 0.1)
            << weight.name;
    }
  }
}

TEST(ModelBackends, GiveTheSameBitsForAnyNumberOfThreads) {
  for (const std::string& name : backend_names()) {
    if (name == "reference") continue;
    for (DType compute : {kF32, kBF16}) {
      SCOPED_TRACE(name + " " + dtype_name(compute));
      const Result one = run(backend(name), compute, 1);
      for (int threads : {2, 3}) {
        const Result more = run(backend(name), compute, threads);
        EXPECT_EQ(more.losses.loss, one.losses.loss) << threads;
        EXPECT_EQ(more.losses.ce_sum, one.losses.ce_sum) << threads;
        EXPECT_TRUE(more.hidden == one.hidden) << threads;
        EXPECT_TRUE(more.gradient == one.gradient) << threads;
      }
    }
  }
}

}  // namespace
}  // namespace mot::test
