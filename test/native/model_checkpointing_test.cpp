// Activation checkpointing: the same losses and gradients bit for bit, in less memory.
#include <gtest/gtest.h>

#include <cstring>

#include "model_support.h"

namespace mot::test {
namespace {

struct Outcome {
  double loss;
  std::vector<float> gradients;
  int64_t arena_bytes, high_water;
};

Outcome run(const ModelConfig& config, DType compute, Checkpointing checkpointing) {
  const OwnedBatch batch = random_batch(config, {70, 33, 25}, 5);
  Limits limits{batch.tokens(), 0, batch.tokens(), true};
  limits.checkpointing = checkpointing;
  Model model(config, limits, compute, backend(backend_names().back()), 2);
  fill_random_weights(model, 3);
  model.zero_gradients();
  const TokenGroups groups = make_token_groups(config, limits, model.row_alignment(), batch.view());
  const Losses losses = model.backward(groups, {}, kNoAbort);
  model.adamw({.lr = 0, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0, .clip = 0, .step = 1});
  const float* gradients = model.gradient_data();
  return {losses.loss,
          {gradients, gradients + model.weights().flat_count()},
          model.arena_bytes(),
          model.arena_high_water()};
}

TEST(Checkpointing, GivesTheSameBitsInLessMemory) {
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (DType compute : {kF32, kBF16}) {
      ModelConfig config = make_config(2);
      config.n_layers = 4;
      config.norm_placement = placement;
      const Outcome none = run(config, compute, Checkpointing::kNone);
      int64_t before = none.arena_bytes;
      for (Checkpointing mode : {Checkpointing::kAttention, Checkpointing::kBlock}) {
        const Outcome again = run(config, compute, mode);
        SCOPED_TRACE(testing::Message() << "pre " << (placement == NormPlacement::kPre) << ", " << dtype_name(compute)
                                        << ", mode " << static_cast<int>(mode));
        EXPECT_EQ(again.loss, none.loss);
        ASSERT_EQ(again.gradients.size(), none.gradients.size());
        EXPECT_EQ(std::memcmp(again.gradients.data(), none.gradients.data(), none.gradients.size() * sizeof(float)), 0);
        EXPECT_LT(again.arena_bytes, before);
        EXPECT_EQ(again.high_water, again.arena_bytes);
        before = again.arena_bytes;
      }
    }
}

}  // namespace
}  // namespace mot::test
