// The memory plan, and that a step keeps to it: no allocation, nothing beyond the arena, no padding row that leaks.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "core/error.h"
#include "core/rng.h"
#include "model/engine.h"
#include "model_support.h"

namespace {
std::atomic<int64_t> allocations{0};
}

// Counts every allocation of the process. malloc keeps sanitizers in the picture. Not inlined: GCC would see free()
// called on what operator new gave, and warn.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations++;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
// std::stable_sort allocates so; a sanitizer's own version would not match the operator delete below.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  allocations++;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace mot::test {
namespace {

void check_no_conflict(const MemoryPlan& plan) {
  const std::vector<PlanEntry>& entries = plan.entries();
  for (size_t i = 0; i < entries.size(); i++) {
    ASSERT_EQ(entries[i].offset % 64, 0) << entries[i].name;
    ASSERT_LE(entries[i].offset + entries[i].bytes, plan.bytes()) << entries[i].name;
    for (size_t j = 0; j < i; j++) {
      const bool overlap = entries[i].offset < entries[j].offset + entries[j].bytes &&
                           entries[j].offset < entries[i].offset + entries[i].bytes;
      const bool together = plan.phases(static_cast<BufferId>(i)) & plan.phases(static_cast<BufferId>(j));
      ASSERT_FALSE(overlap && together) << entries[i].name << " and " << entries[j].name;
    }
  }
}

// Most bytes that live at once: no layout can do with less.
int64_t lower_bound(const MemoryPlan& plan) {
  int64_t most = 0;
  for (uint32_t phase = 1; phase < kAlways; phase <<= 1) {
    int64_t bytes = 0;
    for (size_t i = 0; i < plan.entries().size(); i++)
      if (plan.phases(static_cast<BufferId>(i)) & phase) bytes += plan.entries()[i].bytes;
    most = std::max(most, bytes);
  }
  return most;
}

TEST(MemoryPlan, NeverOverlapsWhatLivesTogether) {
  const RngKey key = rng_key(1, "plan");
  for (uint64_t trial = 0; trial < 200; trial++) {
    MemoryPlan plan;
    uint64_t draw = trial * 1000;
    const int count = 1 + static_cast<int>(uniform(key, draw++) * 30);
    for (int i = 0; i < count; i++) {
      const int64_t size = static_cast<int64_t>(uniform(key, draw++) * 500);
      const auto phases = 1 + static_cast<uint32_t>(uniform(key, draw++) * 127);
      plan.add("b" + std::to_string(i), "activations", kF32, {size}, phases);
    }
    plan.lay_out();
    ASSERT_NO_FATAL_FAILURE(check_no_conflict(plan));
  }
}

TEST(MemoryPlan, SharesMemoryBetweenPhases) {
  MemoryPlan plan;
  plan.add("always", "weights", kF32, {16}, kAlways);
  plan.add("forward", "activations", kF32, {160}, kForward);
  plan.add("backward", "activations", kF32, {80}, kBackward);
  plan.add("optimizer", "activations", kBF16, {32}, kOptimizer);
  plan.lay_out();
  EXPECT_EQ(plan.bytes(), 64 + 640);
  for (int i = 1; i < 4; i++) EXPECT_EQ(plan.entries()[i].offset, 64) << i;
}

TEST(MemoryPlan, RefusesWhatNoMachineHas) {
  MemoryPlan plan;
  EXPECT_THROW(plan.add("x", "activations", kF32, {int64_t{1} << 40, int64_t{1} << 40}, kAlways), Error);
}

struct Shape {
  NormPlacement placement;
  DType compute;
  bool training;
};

std::vector<Shape> shapes() {
  std::vector<Shape> out;
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (DType compute : {kF32, kBF16})
      for (bool training : {false, true}) out.push_back({placement, compute, training});
  return out;
}

ModelConfig config_of(const Shape& shape) {
  ModelConfig config = make_config(3);
  config.norm_placement = shape.placement;
  return config;
}

TEST(ModelPlan, NeverOverlapsWhatLivesTogether) {
  for (const Shape& shape : shapes()) {
    const Limits limits{40, 64, 50, shape.training};
    const Buffers buffers = plan_buffers(config_of(shape), limits, shape.compute, reference_backend(), 1);
    ASSERT_NO_FATAL_FAILURE(check_no_conflict(buffers.plan));
    // Largest first is not always the best, but near it.
    EXPECT_LE(buffers.plan.bytes(), lower_bound(buffers.plan) * 11 / 10 + 64 * 100);
    int64_t arena_bytes = 0;
    const auto entries = plan_memory(config_of(shape), limits, shape.compute, reference_backend(), 1, &arena_bytes);
    const Model model(config_of(shape), limits, shape.compute, reference_backend(), 1);
    EXPECT_EQ(model.arena_bytes(), arena_bytes);
    ASSERT_EQ(model.plan().size(), entries.size());
    for (size_t i = 0; i < entries.size(); i++) EXPECT_EQ(model.plan()[i].offset, entries[i].offset);
  }
}

TEST(ModelPlan, KeepsOneLayerWithoutTraining) {
  for (const Shape& shape : shapes()) {
    if (shape.training) continue;
    ModelConfig config = config_of(shape);
    auto activations = [&] {
      int64_t bytes = 0;
      const Buffers buffers = plan_buffers(config, {40, 0, 50, false}, shape.compute, reference_backend(), 1);
      for (const PlanEntry& entry : buffers.plan.entries())
        if (entry.group == "activations") bytes += entry.bytes;
      return bytes;
    };
    const int64_t two_layers = activations();
    config.n_layers = 7;
    EXPECT_EQ(activations(), two_layers);
  }
}

TEST(ModelMemory, AStepFillsTheArena) {
  for (const Shape& shape : shapes()) {
    if (!shape.training) continue;
    Limits limits{40, 0, 50, true};
    limits.ema = true;
    Model model(config_of(shape), limits, shape.compute, reference_backend(), 1);
    EXPECT_LT(model.arena_high_water(), model.arena_bytes());
    model.init(1);
    const TokenGroups groups =
        make_token_groups(model.config(), limits, 1, random_batch(model.config(), {40}, 1).view());
    model.backward(groups, {}, kNoAbort);
    model.adamw({.lr = 1e-3,
                 .beta1 = 0.9,
                 .beta2 = 0.95,
                 .eps = 1e-8,
                 .weight_decay = 0.1,
                 .clip = 1.0,
                 .step = 1,
                 .ema_decay = 0.9});
    EXPECT_EQ(model.arena_high_water(), model.arena_bytes()) << static_cast<int>(shape.placement) << shape.compute;
  }
}

TEST(ModelMemory, AStepAllocatesNothing) {
  for (const std::string& name : backend_names()) {
    for (const Shape& shape : shapes()) {
      if (!shape.training) continue;
      Limits limits{40, 64, 50, true};
      limits.ema = true;
      Model model(config_of(shape), limits, shape.compute, backend(name), 2);
      model.init(1);
      OwnedBatch batch = random_batch(model.config(), {25, 15}, 1);
      const TokenGroups groups = make_token_groups(model.config(), limits, model.row_alignment(), batch.view());
      batch.target.assign(40, -1);
      const std::vector<int32_t> positions = all_positions(40);
      const TokenGroups cached = make_token_groups(model.config(), limits, model.row_alignment(), batch.view(),
                                                   {positions.data(), limits.kv_slots});
      std::vector<float> values(40 * model.config().vocab, 0.01f);
      auto count = [&](auto&& call) {
        call();  // the thread team starts with the first
        const int64_t before = allocations;
        call();
        return allocations - before;
      };
      // Losses hold two vectors of their own.
      EXPECT_LE(count([&] { model.evaluate(groups, {}, kNoAbort); }), 2) << name;
      EXPECT_LE(count([&] { model.evaluate(groups, {}, kNoAbort, nullptr, nullptr, WeightKind::kEma); }), 2) << name;
      EXPECT_LE(count([&] { model.backward(groups, {}, kNoAbort); }), 2) << name;
      EXPECT_EQ(
          count([&] { model.backward_from(groups, positions.data(), 40, Output::kLogits, values.data(), kNoAbort); }),
          0);
      EXPECT_EQ(
          count([&] { model.backward_from(groups, positions.data(), 40, Output::kHidden, values.data(), kNoAbort); }),
          0);
      EXPECT_EQ(count([&] {
                  model.adamw({.lr = 1e-3,
                               .beta1 = 0.9,
                               .beta2 = 0.95,
                               .eps = 1e-8,
                               .weight_decay = 0.1,
                               .clip = 1.0,
                               .step = 1,
                               .ema_decay = 0.9});
                }),
                0)
          << name;
      EXPECT_EQ(count([&] { model.zero_gradients(); }), 0);
      EXPECT_EQ(count([&] { model.decode(cached, positions.data(), 40, Output::kLogits, values.data(), kNoAbort); }), 0)
          << name;
      EXPECT_EQ(count([&] { model.forward(groups, positions.data(), 40, Output::kHidden, values.data(), kNoAbort); }),
                0);
    }
  }
}

// A backend may ask for groups that start at multiples of its tile. Padding rows must change no bit.
TEST(ModelMemory, RowAlignmentChangesNoBit) {
  for (const Shape& shape : shapes()) {
    if (!shape.training) continue;
    const Limits limits{45, 64, 50, true};
    std::vector<std::vector<float>> gradients;
    std::vector<double> losses;
    for (int64_t alignment : {1, 8, 64}) {
      OpTable table = *reference_backend();
      table.row_alignment = alignment;
      Model model(config_of(shape), limits, shape.compute, &table, 1);
      fill_random_weights(model, 2);
      // A larger batch first: what it leaves behind must not be seen.
      for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{25, 20}, std::vector<int64_t>{9, 14}}) {
        model.zero_gradients();
        const TokenGroups groups = make_token_groups(model.config(), limits, alignment,
                                                     random_batch(model.config(), lengths, lengths.size()).view());
        if (alignment == 64) {
          ASSERT_EQ(groups.rows, 3 * 64);
        }
        losses.push_back(model.backward(groups, {}, kNoAbort).loss);
        gradients.emplace_back(model.gradient_data(), model.gradient_data() + model.weights().flat_count());
      }
    }
    for (size_t i = 2; i < 6; i++) {
      EXPECT_EQ(losses[i], losses[i % 2]);
      EXPECT_EQ(gradients[i], gradients[i % 2]);
    }
  }
}

// The flag is raised, or an op fails, in the middle of the backward pass: half of the gradients are there by then.
AbortFlag raised{false};
bool fail_swiglu = false;

int interrupting_swiglu_backward(const Context* context, const SwigluBackward* params) {
  raised = !fail_swiglu;
  if (fail_swiglu) return 1;
  return reference_backend()->swiglu_backward(context, params);
}

TEST(ModelAbort, DropsGradientsAndLeavesWeights) {
  OpTable table = *reference_backend();
  table.last_error = [] { return "swiglu has failed"; };
  const Limits limits{40, 0, 50, true};
  Model model(make_config(3), limits, kF32, &table, 1);
  fill_random_weights(model, 3);
  const int64_t count = model.weights().flat_count();
  const TokenGroups groups = make_token_groups(model.config(), limits, 1, random_batch(model.config(), {40}, 4).view());
  const std::vector<float> weights(model.weight_data(), model.weight_data() + count);

  for (bool fails : {false, true}) {
    fail_swiglu = fails;
    raised = false;
    table.swiglu_backward = reference_backend()->swiglu_backward;
    model.zero_gradients();
    const double loss = model.backward(groups, {}, raised).loss;
    const std::vector<float> expected(model.gradient_data(), model.gradient_data() + count);
    table.swiglu_backward = interrupting_swiglu_backward;
    try {
      model.backward(groups, {}, raised);
      FAIL() << "not interrupted";
    } catch (const Error& error) {
      EXPECT_STREQ(error.code(), fails ? "ERR_INTERNAL" : "ERR_ABORTED");
      if (fails) {
        EXPECT_STREQ(error.what(), "[reference backend] swiglu has failed");
      }
    }
    for (int64_t i = 0; i < count; i++) {
      ASSERT_EQ(model.gradient_data()[i], 0.0f);
      ASSERT_EQ(model.weight_data()[i], weights[i]);
      ASSERT_EQ(model.m_data()[i], 0.0f);
    }
    // The model goes on as if nothing had been.
    raised = false;
    table.swiglu_backward = reference_backend()->swiglu_backward;
    EXPECT_EQ(model.backward(groups, {}, raised).loss, loss);
    EXPECT_EQ(std::vector<float>(model.gradient_data(), model.gradient_data() + count), expected);
  }
  raised = true;
  EXPECT_THROW(model.evaluate(groups, {}, raised), Error);
  std::vector<float> logits(model.config().vocab);
  const int32_t position = 3;
  EXPECT_THROW(model.forward(groups, &position, 1, Output::kLogits, logits.data(), raised), Error);
}

}  // namespace
}  // namespace mot::test
