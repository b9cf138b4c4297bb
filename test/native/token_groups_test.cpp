// Token groups: what holds for every batch, and what is rejected.
#include "model/token_groups.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "core/rng.h"
#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 300, .kv_slots = 64, .positions = 300, .training = true};

// A batch of one document with the given modality of each token.
OwnedBatch batch_of(const ModelConfig& config, const std::vector<int32_t>& modality) {
  OwnedBatch batch = random_batch(config, {static_cast<int64_t>(modality.size())}, modality.size());
  batch.modality = modality;
  for (size_t t = 0; t + 1 < modality.size(); t++) batch.target_modality[t] = modality[t + 1];
  return batch;
}

void check_segments(const std::vector<Segment>& segments, const PartTowers& part, const TokenGroups& groups,
                    const OwnedBatch& batch) {
  std::vector<int32_t> tower_of_row(groups.rows, -1);
  int32_t last_end = 0;
  for (size_t i = 0; i < segments.size(); i++) {
    const Segment& s = segments[i];
    ASSERT_LE(last_end, s.begin);
    ASSERT_LT(s.begin, s.end);
    if (i > 0) {
      ASSERT_FALSE(segments[i - 1].tower == s.tower && segments[i - 1].end == s.begin) << "neighbours are not merged";
    }
    last_end = s.end;
    for (int32_t n = s.begin; n < s.end; n++) tower_of_row[n] = s.tower;
  }
  ASSERT_LE(last_end, groups.rows);
  for (int64_t n = 0; n < groups.rows; n++) {
    const int32_t t = groups.seq_row[n];
    ASSERT_EQ(tower_of_row[n], t < 0 ? -1 : part.tower_of_modality[batch.modality[t]]) << "row " << n;
  }
}

// Everything that a TokenGroups promises.
void check_groups(const ModelConfig& config, const OwnedBatch& batch, int64_t alignment) {
  const TokenGroups g = make_token_groups(config, kLimits, alignment, batch.view());
  ASSERT_EQ(g.tokens, batch.tokens());
  ASSERT_GE(g.rows, g.tokens);
  ASSERT_LE(g.rows, g.tokens + config.modalities * (alignment - 1));
  ASSERT_EQ(static_cast<int64_t>(g.row.size()), g.tokens);
  for (const auto* array : {&g.seq_row, &g.token, &g.position, &g.target, &g.target_modality, &g.kv_row})
    ASSERT_EQ(static_cast<int64_t>(array->size()), g.rows);

  // The permutations are inverse; what is not hit is padding.
  int64_t padding = 0;
  for (int64_t t = 0; t < g.tokens; t++) ASSERT_EQ(g.seq_row[g.row[t]], t);
  for (int64_t n = 0; n < g.rows; n++) {
    const int32_t t = g.seq_row[n];
    if (t < 0) {
      padding++;
      ASSERT_EQ(g.token[n], -1);
      ASSERT_EQ(g.position[n], 0);
      ASSERT_EQ(g.target[n], -1);
      ASSERT_EQ(g.target_modality[n], -1);
      ASSERT_EQ(g.kv_row[n], -1);
    } else {
      ASSERT_EQ(g.token[n], batch.token[t]);
      ASSERT_EQ(g.position[n], batch.position[t]);
      ASSERT_EQ(g.target[n], batch.target[t]);
      ASSERT_EQ(g.target_modality[n], batch.target[t] < 0 ? -1 : batch.target_modality[t]);
      ASSERT_EQ(g.kv_row[n], t);
    }
  }
  ASSERT_EQ(padding, g.rows - g.tokens);
  ASSERT_EQ(g.kv_start, batch.kv_start);
  ASSERT_EQ(g.kv_end, batch.kv_end);

  // Sorted by modality, stable, and each group at a multiple of the alignment.
  int32_t last_modality = -1, last_t = -1;
  for (int64_t n = 0; n < g.rows; n++) {
    const int32_t t = g.seq_row[n];
    if (t < 0) continue;
    const int32_t modality = batch.modality[t];
    ASSERT_GE(modality, last_modality);
    if (modality == last_modality) {
      ASSERT_GT(t, last_t);
    } else {
      ASSERT_EQ(n % alignment, 0);
    }
    last_modality = modality, last_t = t;
  }
  check_segments(g.self_attn, config.self_attn, g, batch);
  check_segments(g.mlp, config.mlp, g, batch);
  check_segments(g.final, config.final, g, batch);

  std::vector<int64_t> targets(config.modalities);
  for (int64_t t = 0; t < g.tokens; t++)
    if (batch.target[t] >= 0) targets[batch.target_modality[t]]++;
  ASSERT_EQ(g.target_count, targets);
}

ModelConfig mixed_config() {
  ModelConfig config = make_config(4);
  config.mlp = {{"a", "b"}, {0, 1, 1, 0}};
  config.final = {{"shared"}, {0, 0, 0, 0}};
  return config;
}

TEST(TokenGroups, HoldForRandomBatches) {
  const ModelConfig config = mixed_config();
  const RngKey key = rng_key(1, "token groups");
  for (int trial = 0; trial < 200; trial++) {
    std::vector<int64_t> lengths;
    for (int64_t left = 1 + static_cast<int64_t>(uniform(key, trial * 100) * 299); left > 0;) {
      lengths.push_back(1 + static_cast<int64_t>(uniform(key, trial * 100 + 1 + lengths.size() % 99) * (left - 1)));
      left -= lengths.back();
    }
    const OwnedBatch batch = random_batch(config, lengths, trial);
    for (int64_t alignment : {1, 4, 64}) ASSERT_NO_FATAL_FAILURE(check_groups(config, batch, alignment)) << trial;
  }
}

TEST(TokenGroups, HoldForEveryGroupSize) {
  const ModelConfig config = mixed_config();
  for (int32_t size : {0, 1, 5, 6, 7, 63, 64, 65, 200}) {
    for (int32_t modality = 0; modality < 4; modality++) {
      std::vector<int32_t> modalities(210, (modality + 1) % 4);
      for (int32_t i = 0; i < size; i++) modalities[(i * 11) % 210] = modality;
      for (int64_t alignment : {1, 6, 64})
        ASSERT_NO_FATAL_FAILURE(check_groups(config, batch_of(config, modalities), alignment)) << size;
    }
  }
}

TEST(TokenGroups, AddressTheCacheBySlot) {
  const ModelConfig config = make_config(2);
  OwnedBatch batch = batch_of(config, {1, 0, 1});
  batch.target.assign(3, -1);
  const std::vector<int32_t> slot = {10, 11, 12};
  batch.kv_start = {4, 4, 4};
  batch.kv_end = {11, 12, 13};
  const TokenGroups g = make_token_groups(config, kLimits, 1, batch.view(), {slot.data(), 64});
  EXPECT_EQ(g.kv_slots, 64);
  EXPECT_EQ(g.kv_row, (std::vector<int32_t>{11, 10, 12}));  // sorted: tokens 1, 0, 2
  EXPECT_EQ(g.row, (std::vector<int32_t>{1, 0, 2}));
}

struct Rejection {
  const char* name;
  void (*damage)(OwnedBatch&);
  const char* code;
  const char* message;  // a part of it
};

class TokenGroupsRejects : public ::testing::TestWithParam<Rejection> {};

TEST_P(TokenGroupsRejects, WithArrayIndexValueAndBound) {
  const ModelConfig config = make_config(3);
  OwnedBatch batch = random_batch(config, {5, 7}, 3);
  GetParam().damage(batch);
  try {
    make_token_groups(config, kLimits, 1, batch.view());
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), GetParam().code);
    EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
  }
}

const Rejection kRejections[] = {
    {"token_high", [](OwnedBatch& b) { b.token[3] = 61; }, "ERR_BATCH", "token[3] from 0 to 60, got 61"},
    {"token_low", [](OwnedBatch& b) { b.token[11] = -1; }, "ERR_BATCH", "token[11] from 0 to 60, got -1"},
    {"modality", [](OwnedBatch& b) { b.modality[0] = 3; }, "ERR_BATCH", "modality[0] from 0 to 2, got 3"},
    {"modality_low", [](OwnedBatch& b) { b.modality[0] = -1; }, "ERR_BATCH", "modality[0] from 0 to 2, got -1"},
    {"position", [](OwnedBatch& b) { b.position[2] = 300; }, "ERR_BATCH", "position[2] from 0 to 299, got 300"},
    {"position_low", [](OwnedBatch& b) { b.position[2] = -1; }, "ERR_BATCH", "position[2] from 0 to 299, got -1"},
    {"target", [](OwnedBatch& b) { b.target[1] = 61; }, "ERR_BATCH", "target[1] from -1 to 60, got 61"},
    {"target_low", [](OwnedBatch& b) { b.target[1] = -2; }, "ERR_BATCH", "target[1] from -1 to 60, got -2"},
    {"target_modality", [](OwnedBatch& b) { b.target_modality[1] = 3; }, "ERR_BATCH",
     "target_modality[1] from 0 to 2, got 3"},
    {"sees_itself", [](OwnedBatch& b) { b.kv_start[1] = 2; }, "ERR_BATCH", "kv_start[1] from 0 to 1, got 2"},
    {"start_negative", [](OwnedBatch& b) { b.kv_start[0] = -1; }, "ERR_BATCH", "kv_start[0] from 0 to 0, got -1"},
    {"start_decreases", [](OwnedBatch& b) { b.kv_start[8] = 4; }, "ERR_BATCH", "kv_start[8] from 5 to 8, got 4"},
    {"end_before_itself", [](OwnedBatch& b) { b.kv_end[4] = 4; }, "ERR_BATCH", "kv_end[4] from 5 to 12, got 4"},
    {"target_is_seen", [](OwnedBatch& b) { b.kv_end[1] = 3; }, "ERR_BATCH", "kv_end[1] from 2 to 2, got 3"},
    {"end_beyond_keys", [](OwnedBatch& b) { b.kv_end[11] = 13; }, "ERR_BATCH", "kv_end[11] from 12 to 12, got 13"},
    {"end_decreases",
     [](OwnedBatch& b) {
       b.target.assign(12, -1);
       b.kv_end[1] = 5;
     },
     "ERR_BATCH", "kv_end[2] from 5 to 12, got 3"},
    {"empty", [](OwnedBatch& b) { b = {}; }, "ERR_BATCH", "at least one token, got 0"},
    {"too_long", [](OwnedBatch& b) { b = random_batch(make_config(3), {301}, 0); }, "ERR_LIMIT",
     "at most 300 tokens, which the model was created for, got 301"},
};

INSTANTIATE_TEST_SUITE_P(All, TokenGroupsRejects, ::testing::ValuesIn(kRejections),
                         [](const auto& info) { return info.param.name; });

void expect_slots_rejected(const std::vector<int32_t>& slot, int64_t slots, const char* code, const char* message) {
  const ModelConfig config = make_config(2);
  OwnedBatch batch = batch_of(config, {1, 0});
  batch.target.assign(2, -1);
  batch.kv_end = {slot[0] + 1, slot[1] + 1};
  try {
    make_token_groups(config, kLimits, 1, batch.view(), {slot.data(), slots});
    ADD_FAILURE() << "accepted " << message;
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

TEST(TokenGroups, RejectSlots) {
  expect_slots_rejected({3, 64}, 64, "ERR_BATCH", "slot[1] from 0 to 63, got 64");
  expect_slots_rejected({-1, 3}, 64, "ERR_BATCH", "slot[0] from 0 to 63, got -1");
  expect_slots_rejected({3, 3}, 64, "ERR_BATCH", "slot[1] = 3 a second time");
  expect_slots_rejected({3, 4}, 65, "ERR_LIMIT", "a cache of 64 slots");
}

// Bidirectional spans: every token of a span sees all of it, and has no target.
TEST(TokenGroups, AcceptBidirectionalSpans) {
  const ModelConfig config = make_config(2);
  OwnedBatch batch = batch_of(config, {0, 1, 1, 1, 0});
  for (int t = 1; t < 4; t++) batch.kv_end[t] = 4, batch.target[t] = -1;
  EXPECT_NO_THROW(make_token_groups(config, kLimits, 1, batch.view()));
}

}  // namespace
}  // namespace mot::test
