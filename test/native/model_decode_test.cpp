// Prefill and decode with the KV cache give what the forward pass gives at the same positions.
#include <gtest/gtest.h>

#include <functional>
#include <tuple>

#include "core/error.h"
#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 32, .kv_slots = 48, .positions = 40, .training = true};

// Tokens [begin, end) of the batch as a call on the cache; token t of document d lies in slot t + shift[d].
struct Call {
  OwnedBatch batch;
  std::vector<int32_t> slot;
};

Call make_call(const OwnedBatch& all, const std::vector<int32_t>& tokens, const std::vector<int32_t>& shift) {
  Call call;
  for (int32_t t : tokens) {
    call.batch.token.push_back(all.token[t]);
    call.batch.modality.push_back(all.modality[t]);
    call.batch.position.push_back(all.position[t]);
    call.batch.kv_start.push_back(all.kv_start[t] + shift[t]);
    call.batch.kv_end.push_back(all.kv_end[t] + shift[t]);
    call.slot.push_back(t + shift[t]);
  }
  call.batch.target.assign(tokens.size(), -1);
  call.batch.target_modality.assign(tokens.size(), 0);
  return call;
}

using Param = std::tuple<std::string, DType, NormPlacement>;

class ModelDecode : public ::testing::TestWithParam<Param> {
 protected:
  ModelConfig config() const {
    ModelConfig config = make_config(3);
    config.norm_placement = std::get<2>(GetParam());
    return config;
  }
  DType compute() const { return std::get<1>(GetParam()); }
  const OpTable* table() const { return backend(std::get<0>(GetParam())); }
  double bound() const { return compute() == kF32 ? 2e-6 : 2e-2; }
};

TEST_P(ModelDecode, EqualsTheForwardPass) {
  Model model(config(), kLimits, compute(), table(), 2);
  fill_random_weights(model, 1);
  const OwnedBatch all = random_batch(model.config(), {17, 12}, 7);  // two documents, side by side in the cache
  const int64_t T = all.tokens(), V = model.config().vocab;
  const TokenGroups whole = make_token_groups(model.config(), kLimits, model.row_alignment(), all.view());
  const std::vector<int32_t> every = all_positions(T);
  std::vector<float> expected(T * V);
  model.forward(whole, every.data(), T, Output::kLogits, expected.data(), kNoAbort);

  std::vector<int32_t> shift(T, 0);
  std::fill(shift.begin() + 17, shift.end(), 19);  // the second document from slot 36
  auto decode = [&](const std::vector<int32_t>& tokens) {
    const Call call = make_call(all, tokens, shift);
    const TokenGroups groups = make_token_groups(model.config(), kLimits, model.row_alignment(), call.batch.view(),
                                                 {call.slot.data(), kLimits.kv_slots});
    const int64_t count = groups.tokens;
    std::vector<float> logits(count * V);
    model.decode(groups, every.data(), count, Output::kLogits, logits.data(), kNoAbort);
    for (int64_t i = 0; i < count; i++)
      EXPECT_LE(relative_error(&logits[i * V], &expected[tokens[i] * V], V), bound()) << "token " << tokens[i];
  };
  decode({0, 1, 2, 3, 4, 5, 6, 17, 18, 19});  // prefill of both
  decode({7, 8, 9, 20});
  model.backward(whole, {}, kNoAbort);  // the cache outlives training steps
  model.evaluate(whole, {}, kNoAbort);
  for (int32_t i = 10; i < 17; i++) decode({i, i + 11});  // one token each
  decode({28});
}

TEST_P(ModelDecode, GivesOnlyTheChosenPositions) {
  Model model(config(), kLimits, compute(), table(), 2);
  fill_random_weights(model, 1);
  const OwnedBatch all = random_batch(model.config(), {14}, 8);
  const int64_t V = model.config().vocab;
  std::vector<int32_t> tokens = all_positions(14);
  const Call call = make_call(all, tokens, std::vector<int32_t>(14, 5));
  const TokenGroups groups = make_token_groups(model.config(), kLimits, model.row_alignment(), call.batch.view(),
                                               {call.slot.data(), kLimits.kv_slots});
  std::vector<float> every(14 * V), some(3 * V);
  model.decode(groups, tokens.data(), 14, Output::kLogits, every.data(), kNoAbort);
  const std::vector<int32_t> positions = {13, 2, 13};
  model.decode(groups, positions.data(), 3, Output::kLogits, some.data(), kNoAbort);
  for (int i = 0; i < 3; i++)
    EXPECT_LE(relative_error(&some[i * V], &every[positions[i] * V], V), bound()) << "position " << positions[i];
}

INSTANTIATE_TEST_SUITE_P(All, ModelDecode,
                         ::testing::Combine(::testing::ValuesIn(backend_names()), ::testing::Values(kF32, kBF16),
                                            ::testing::Values(NormPlacement::kBranchOutput, NormPlacement::kPre)),
                         [](const auto& info) {
                           return identifier(std::get<0>(info.param) + "_" + dtype_name(std::get<1>(info.param)) +
                                             (std::get<2>(info.param) == NormPlacement::kPre ? "_pre" : "_branch"));
                         });

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "none";
}

TEST(ModelCalls, RejectGroupsAndPositionsThatDoNotFit) {
  const ModelConfig config = make_config(3);
  Limits small = kLimits;
  small.tokens = 8, small.kv_slots = 0, small.training = false;
  Model with_cache(config, kLimits, kF32, reference_backend(), 1), without(config, small, kF32, reference_backend(), 1);
  OwnedBatch batch = random_batch(config, {9}, 1);
  const TokenGroups long_groups = make_token_groups(config, kLimits, 1, batch.view());
  batch.target.assign(9, -1);
  const std::vector<int32_t> slot = all_positions(9);
  const TokenGroups cached = make_token_groups(config, kLimits, 1, batch.view(), {slot.data(), kLimits.kv_slots});
  std::vector<float> out(64 * config.vocab);
  const std::vector<int32_t> bad = {9}, negative = {-1}, many(33, 0);

  EXPECT_EQ(code_of([&] { without.evaluate(long_groups, {}, kNoAbort); }), "ERR_LIMIT");
  EXPECT_EQ(code_of([&] { without.decode(cached, slot.data(), 1, Output::kLogits, out.data(), kNoAbort); }),
            "ERR_LIMIT");
  EXPECT_EQ(code_of([&] { with_cache.evaluate(cached, {}, kNoAbort); }), "ERR_BATCH");
  EXPECT_EQ(code_of([&] { with_cache.decode(long_groups, slot.data(), 1, Output::kLogits, out.data(), kNoAbort); }),
            "ERR_BATCH");
  EXPECT_EQ(code_of([&] { with_cache.forward(long_groups, bad.data(), 1, Output::kLogits, out.data(), kNoAbort); }),
            "ERR_ARGUMENT");
  EXPECT_EQ(
      code_of([&] { with_cache.forward(long_groups, negative.data(), 1, Output::kHidden, out.data(), kNoAbort); }),
      "ERR_ARGUMENT");
  EXPECT_EQ(code_of([&] { with_cache.forward(long_groups, many.data(), 33, Output::kHidden, out.data(), kNoAbort); }),
            "ERR_LIMIT");
  EXPECT_EQ(code_of([&] { without.backward(long_groups, {}, kNoAbort); }), "ERR_UNSUPPORTED");
  EXPECT_EQ(code_of([&] { without.adamw({}); }), "ERR_UNSUPPORTED");
  EXPECT_EQ(without.gradient_data(), nullptr);
  EXPECT_EQ(without.m_data(), nullptr);
  EXPECT_EQ(without.v_data(), nullptr);
}

TEST(ModelCalls, RejectLimitsThatCannotBe) {
  const ModelConfig config = make_config(2);
  auto create = [&](Limits limits, DType compute, int threads) {
    return code_of([&] { Model(config, limits, compute, reference_backend(), threads); });
  };
  EXPECT_EQ(create({0, 0, 8, false}, kF32, 1), "ERR_CONFIG");
  EXPECT_EQ(create({8, -1, 8, false}, kF32, 1), "ERR_CONFIG");
  EXPECT_EQ(create({8, 0, 0, false}, kF32, 1), "ERR_CONFIG");
  EXPECT_EQ(create({int64_t{1} << 40, 0, 8, false}, kF32, 1), "ERR_CONFIG");
  EXPECT_EQ(create({8, 0, 8, false}, kF64, 1), "ERR_UNSUPPORTED");
  EXPECT_EQ(create({8, 0, 8, false}, kF32, 0), "ERR_CONFIG");
  EXPECT_EQ(create({8, 0, 8, false}, kF32, 257), "ERR_CONFIG");
  EXPECT_EQ(create({1 << 30, 1 << 30, 1 << 30, true}, kF32, 1), "ERR_MEMORY");
}

}  // namespace
}  // namespace mot::test
