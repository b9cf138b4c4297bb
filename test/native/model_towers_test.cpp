// Towers that hold the same weights are the dense model: the same bits out of it, and gradients that add up to its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 140, .kv_slots = 0, .positions = 140, .training = true};

// The coarser model's tensor that a tower's tensor copies: where that has no such tower, it is the "shared" one.
std::string copied_name(const Model& coarse, const std::vector<std::string>& towers, std::string name) {
  const auto& all = coarse.weights().all();
  if (std::any_of(all.begin(), all.end(), [&](const WeightInfo& weight) { return weight.name == name; })) return name;
  for (const std::string& tower : towers)
    if (const size_t at = name.find("." + tower + "."); at != std::string::npos)
      name.replace(at + 1, tower.size(), "shared");
  return name;
}

// A model whose towers in some parts hold the same weights is the one that ties these parts.
void expect_same_as_copied(const Untied& parts, std::optional<bool> untied_norms) {
  for (const std::string& name : backend_names())
    for (DType compute : {kF32, kBF16})
      for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre}) {
        SCOPED_TRACE(name + " " + dtype_name(compute));
        ModelConfig untied = make_config(3), tied = make_config(3, parts);
        if (untied_norms) tied.norms = *untied_norms ? untied.mlp : make_config(3, {false, false, false}).mlp;
        untied.norm_placement = tied.norm_placement = placement;
        Model towers(untied, kLimits, compute, backend(name), 2), coarse(tied, kLimits, compute, backend(name), 2);
        fill_random_weights(coarse, 4);
        for (const WeightInfo& weight : towers.weights().all()) {
          const float* from =
              coarse.weight_data() + coarse.weights().at(copied_name(coarse, untied.mlp.names, weight.name)).offset;
          std::copy(from, from + weight.count, towers.weight_data() + weight.offset);
        }
        const OwnedBatch batch = random_batch(untied, {75, 3, 61}, 6);
        const int64_t T = batch.tokens(), D = untied.d_model;
        const std::vector<int32_t> every = all_positions(T);
        std::vector<float> hidden[2];
        Losses losses[2];
        Model* models[2] = {&towers, &coarse};
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
        std::vector<float> sums(coarse.weights().flat_count());
        for (const WeightInfo& weight : towers.weights().all()) {
          const int64_t at = coarse.weights().at(copied_name(coarse, untied.mlp.names, weight.name)).offset;
          for (int64_t k = 0; k < weight.count; k++) sums[at + k] += towers.gradient_data()[weight.offset + k];
        }
        for (const WeightInfo& weight : coarse.weights().all()) {
          const float* expected = coarse.gradient_data() + weight.offset;
          if (weight.name == "embed_tokens.weight" || weight.name == "lm_head.weight")
            EXPECT_EQ(std::memcmp(&sums[weight.offset], expected, weight.count * sizeof(float)), 0) << weight.name;
          else
            EXPECT_LE(relative_error(&sums[weight.offset], expected, weight.count), 1e-5) << weight.name;
        }
      }
}

TEST(Towers, IdenticalOnesAreTheDenseModel) { expect_same_as_copied({false, false, false}, std::nullopt); }
TEST(Towers, NormsAreUntiedByThemselves) { expect_same_as_copied({false, false, false}, true); }
TEST(Towers, NormsAreTiedByThemselves) { expect_same_as_copied({true, true, true}, false); }
TEST(Towers, NormsAreUntiedBesideTheFeedForwardPart) { expect_same_as_copied({false, true, false}, true); }

}  // namespace
}  // namespace mot::test
