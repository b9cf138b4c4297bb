// Towers that hold the same weights are the dense model: the same bits out of it, and gradients that add up to its own.
#include <gtest/gtest.h>

#include <cstring>

#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 140, .kv_slots = 0, .positions = 140, .training = true};

// The dense model's tensor that a tower's tensor copies: the tower in its name becomes "shared".
std::string dense_name(const ModelConfig& config, std::string name) {
  for (const std::string& tower : config.mlp.names)
    if (const size_t at = name.find("." + tower + "."); at != std::string::npos)
      name.replace(at + 1, tower.size(), "shared");
  return name;
}

TEST(Towers, IdenticalOnesAreTheDenseModel) {
  for (const std::string& name : backend_names())
    for (DType compute : {kF32, kBF16})
      for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre}) {
        SCOPED_TRACE(name + " " + dtype_name(compute));
        ModelConfig untied = make_config(3), tied = make_config(3, {false, false, false});
        untied.norm_placement = tied.norm_placement = placement;
        Model towers(untied, kLimits, compute, backend(name), 2), dense(tied, kLimits, compute, backend(name), 2);
        fill_random_weights(dense, 4);
        for (const WeightInfo& weight : towers.weights().all()) {
          const float* from = dense.weight_data() + dense.weights().at(dense_name(untied, weight.name)).offset;
          std::copy(from, from + weight.count, towers.weight_data() + weight.offset);
        }
        const OwnedBatch batch = random_batch(untied, {75, 3, 61}, 6);
        const int64_t T = batch.tokens(), D = untied.d_model;
        const std::vector<int32_t> every = all_positions(T);
        std::vector<float> hidden[2];
        Losses losses[2];
        Model* models[2] = {&towers, &dense};
        for (int i = 0; i < 2; i++) {
          const TokenGroups groups =
              make_token_groups(models[i]->config(), kLimits, models[i]->row_alignment(), batch.view());
          hidden[i].resize(T * D);
          models[i]->forward(groups, every.data(), T, Output::kHidden, hidden[i].data(), kNoAbort);
          losses[i] = models[i]->backward(groups, {}, kNoAbort);
        }
        EXPECT_EQ(std::memcmp(hidden[0].data(), hidden[1].data(), hidden[0].size() * sizeof(float)), 0);
        EXPECT_EQ(losses[0].loss, losses[1].loss);
        EXPECT_EQ(losses[0].ce_sum, losses[1].ce_sum);

        // Embedding and head are no tower's: theirs are the gradients of the layers' input and output.
        std::vector<float> sums(dense.weights().flat_count());
        for (const WeightInfo& weight : towers.weights().all()) {
          const int64_t at = dense.weights().at(dense_name(untied, weight.name)).offset;
          for (int64_t k = 0; k < weight.count; k++) sums[at + k] += towers.gradient_data()[weight.offset + k];
        }
        for (const WeightInfo& weight : dense.weights().all()) {
          const float* expected = dense.gradient_data() + weight.offset;
          if (weight.name == "embed_tokens.weight" || weight.name == "lm_head.weight")
            EXPECT_EQ(std::memcmp(&sums[weight.offset], expected, weight.count * sizeof(float)), 0) << weight.name;
          else
            EXPECT_LE(relative_error(&sums[weight.offset], expected, weight.count), 1e-5) << weight.name;
        }
      }
}

}  // namespace
}  // namespace mot::test
