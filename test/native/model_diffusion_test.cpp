// Image patches by diffusion: gradients, losses over images, the KV cache, batches without images, what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <tuple>

#include "core/error.h"
#include "model_support.h"

namespace mot::test {
namespace {

constexpr Limits kLimits{.tokens = 64, .kv_slots = 70, .positions = 64, .training = true};
constexpr int64_t kPatch = 7;  // numbers of a patch

ModelConfig config_with(NormPlacement placement) {
  ModelConfig config = make_config(3);
  config.norm_placement = placement;
  config.diffusion = {1, kPatch, 1000, 5.0};
  return config;
}

// Experts in every tower, each of which takes all of its tokens, so that no small step hands one to another.
ModelConfig with_experts(ModelConfig config) {
  Experts experts;
  experts.count = 3;
  experts.capacity_factor = 3;
  config.experts = std::vector<Experts>(config.mlp.names.size(), experts);
  return config;
}

// Images of 5, 1 and 8 patches in two of three documents; modality 1 has other tokens too.
OwnedBatch batch_with_images(const ModelConfig& config, uint64_t seed = 1) {
  OwnedBatch batch = random_batch(config, {19, 30, 9}, seed);
  batch.add_image(config, 3, 5, 700, seed);
  batch.add_image(config, 12, 1, 0, seed + 1);
  batch.add_image(config, 25, 8, 999, seed + 2);
  return batch;
}

std::unique_ptr<Model> make_model(const ModelConfig& config, const OpTable* table = reference_backend(),
                                  DType compute = kF32, int threads = 2, const Limits& limits = kLimits) {
  auto model = std::make_unique<Model>(config, limits, compute, table, threads);
  fill_random_weights(*model, 5);
  return model;
}

TokenGroups groups_of(const Model& model, const OwnedBatch& batch) {
  return make_token_groups(model.config(), model.limits(), model.row_alignment(), batch.view());
}

std::vector<float> gradients(Model& model) {
  return {model.gradient_data(), model.gradient_data() + model.weights().flat_count()};
}

std::vector<int32_t> patches_of(const OwnedBatch& batch) {
  std::vector<int32_t> positions;
  for (int32_t t = 0; t < batch.tokens(); t++)
    if (batch.patch_row[t] >= 0) positions.push_back(t);
  return positions;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ModelDiffusion : public ::testing::TestWithParam<NormPlacement> {};

void check_gradients(const ModelConfig& config) {
  const auto model = make_model(config);
  const TokenGroups groups = groups_of(*model, batch_with_images(model->config()));
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
    EXPECT_NEAR((loss[1] - loss[0]) / (2 * step) / norm, 1, 4e-3) << weight.name << ", |g| = " << norm;
  }
}

TEST_P(ModelDiffusion, GradientsAreFiniteDifferences) { check_gradients(config_with(GetParam())); }

TEST_P(ModelDiffusion, GradientsAreFiniteDifferencesWithExpertsToo) {
  check_gradients(with_experts(config_with(GetParam())));
}

// An image counts once, however many patches it has.
void check_loss_over_images(NormPlacement placement, Prediction prediction) {
  ModelConfig config = config_with(placement);
  config.diffusion->prediction = prediction;
  const auto model = make_model(config);
  const OwnedBatch batch = batch_with_images(model->config());
  const std::vector<double> alpha_bar = cosine_alpha_bar(1000);
  auto target = [&](int32_t row, int64_t p) -> double {
    const double noise = batch.noise[row * kPatch + p];
    if (prediction == Prediction::kNoise) return noise;
    const double level = alpha_bar[batch.timestep[batch.image_of_row[row]]];
    return std::sqrt(level) * noise - std::sqrt(1 - level) * batch.latent[row * kPatch + p];
  };
  const TokenGroups groups = groups_of(*model, batch);
  const Losses losses = model->evaluate(groups, {}, kNoAbort);
  const std::vector<int32_t> positions = patches_of(batch);
  std::vector<float> predicted(positions.size() * kPatch);
  model->forward(groups, positions.data(), static_cast<int64_t>(positions.size()), Output::kPatches, predicted.data(),
                 kNoAbort);
  std::vector<double> error(3), patches(3);
  for (size_t i = 0; i < positions.size(); i++) {
    const int32_t row = batch.patch_row[positions[i]], image = batch.image_of_row[row];
    patches[image]++;
    for (int64_t p = 0; p < kPatch; p++)
      error[image] += std::pow(predicted[i * kPatch + p] - target(row, p), 2) / kPatch;
  }
  EXPECT_EQ(patches, (std::vector<double>{5, 1, 8}));
  const double sum = error[0] / 5 + error[1] + error[2] / 8;
  EXPECT_EQ(losses.image_count, 3);
  EXPECT_NEAR(losses.diffusion_sum, sum, 1e-6 * sum);
  EXPECT_NEAR(losses.loss, losses.lm_loss + model->config().z_loss * losses.z_loss + 5 * sum / 3, 1e-6 * losses.loss);
}

TEST_P(ModelDiffusion, LossIsTheMeanOverImages) {
  for (const Prediction prediction : {Prediction::kNoise, Prediction::kVelocity})
    check_loss_over_images(GetParam(), prediction);
}

TEST_P(ModelDiffusion, GradientsOfMicroBatchesAddUpToThatOfTheWhole) {
  const auto model = make_model(config_with(GetParam()));
  OwnedBatch first = random_batch(model->config(), {19}, 2), second = random_batch(model->config(), {30}, 3);
  first.add_image(model->config(), 4, 6, 10, 4);
  second.add_image(model->config(), 0, 3, 500, 5);
  second.add_image(model->config(), 20, 10, 900, 6);
  OwnedBatch both = first;
  both.append(second);
  const Totals totals{static_cast<int64_t>(std::count_if(both.target.begin(), both.target.end(),
                                                         [](int32_t target) { return target >= 0; })),
                      3};
  const Losses a = model->backward(groups_of(*model, first), totals, kNoAbort);
  const Losses b = model->backward(groups_of(*model, second), totals, kNoAbort);
  const std::vector<float> accumulated = gradients(*model);
  model->zero_gradients();
  const Losses whole = model->backward(groups_of(*model, both), {}, kNoAbort);
  EXPECT_EQ(a.image_count + b.image_count, whole.image_count);
  EXPECT_NEAR(a.diffusion_sum + b.diffusion_sum, whole.diffusion_sum, 1e-6 * whole.diffusion_sum);
  EXPECT_NEAR(a.loss + b.loss, whole.loss, 1e-6 * whole.loss);
  EXPECT_LE(relative_error(accumulated, gradients(*model)), 2e-6);
}

// By the chain rule, the gradient of the noise gives what the loss itself does.
TEST_P(ModelDiffusion, BackwardFromPatchesEqualsThatOfTheLoss) {
  const auto model = make_model(config_with(GetParam()));
  OwnedBatch batch = batch_with_images(model->config());
  batch.target.assign(batch.tokens(), -1);
  const TokenGroups groups = groups_of(*model, batch);
  const std::vector<int32_t> positions = patches_of(batch);
  const auto count = static_cast<int64_t>(positions.size());
  std::vector<float> noise(positions.size() * kPatch);
  model->forward(groups, positions.data(), count, Output::kPatches, noise.data(), kNoAbort);
  for (size_t i = 0; i < positions.size(); i++) {
    const int32_t row = batch.patch_row[positions[i]], patches[] = {5, 1, 8};
    const double scale = 5.0 / 3 / patches[batch.image_of_row[row]] * 2 / kPatch;
    for (int64_t p = 0; p < kPatch; p++) {
      float& x = noise[i * kPatch + p];
      x = static_cast<float>(scale * (x - batch.noise[row * kPatch + p]));
    }
  }
  model->backward_from(groups, positions.data(), count, Output::kPatches, noise.data(), kNoAbort);
  const std::vector<float> from_noise = gradients(*model);
  model->zero_gradients();
  model->backward(groups, {}, kNoAbort);
  EXPECT_LE(relative_error(from_noise, gradients(*model)), 1e-5);
}

// A batch without images is that of a model without diffusion, bit for bit; patch and time weights get no gradient.
TEST_P(ModelDiffusion, WithoutImagesNothingIsAdded) {
  for (const std::string& name : backend_names()) {
    const auto model = make_model(config_with(GetParam()), backend(name));
    ModelConfig plain_config = model->config();
    plain_config.diffusion.reset();
    const auto plain = make_model(plain_config, backend(name));
    const OwnedBatch batch = random_batch(plain_config, {19, 30}, 1);
    const Losses losses = model->backward(groups_of(*model, batch), {}, kNoAbort);
    const Losses expected = plain->backward(groups_of(*plain, batch), {}, kNoAbort);
    EXPECT_EQ(losses.loss, expected.loss);
    EXPECT_EQ(losses.image_count, 0);
    EXPECT_EQ(losses.diffusion_sum, 0);
    for (const WeightInfo& weight : model->weights().all()) {
      const float* gradient = model->gradient_data() + weight.offset;
      const std::vector<float> own(gradient, gradient + weight.count);
      std::vector<float> other(own.size());
      if (weight.name.rfind("patch_", 0) != 0 && weight.name.rfind("time_", 0) != 0) {
        const float* at = plain->gradient_data() + plain->weights().at(weight.name).offset;
        other.assign(at, at + weight.count);
      }
      EXPECT_TRUE(same_bits(own, other)) << weight.name;
    }
  }
}

// The token of a patch is not looked up: its id does not matter, and its embedding gets no gradient.
TEST_P(ModelDiffusion, APatchTakesThePlaceOfItsToken) {
  const auto model = make_model(config_with(GetParam()));
  OwnedBatch batch = batch_with_images(model->config());
  const Losses losses = model->backward(groups_of(*model, batch), {}, kNoAbort);
  const std::vector<float> expected = gradients(*model);
  for (int32_t t : patches_of(batch))
    batch.token[t] = (batch.token[t] + 17) % static_cast<int32_t>(model->config().vocab);
  model->zero_gradients();
  EXPECT_EQ(model->backward(groups_of(*model, batch), {}, kNoAbort).loss, losses.loss);
  EXPECT_TRUE(same_bits(gradients(*model), expected));
}

// Latents that come with their noise in them give the same prediction, and no loss.
TEST_P(ModelDiffusion, WithoutNoiseLatentsEnterAsTheyAre) {
  const auto model = make_model(config_with(GetParam()));
  OwnedBatch batch = batch_with_images(model->config());
  const std::vector<int32_t> positions = patches_of(batch);
  const auto count = static_cast<int64_t>(positions.size());
  std::vector<float> expected(positions.size() * kPatch), noise(expected.size());
  model->forward(groups_of(*model, batch), positions.data(), count, Output::kPatches, expected.data(), kNoAbort);
  const std::vector<double> alpha_bar = cosine_alpha_bar(1000);
  for (size_t i = 0; i < batch.latent.size(); i++) {
    const double level = alpha_bar[batch.timestep[batch.image_of_row[i / kPatch]]];
    batch.latent[i] = static_cast<float>(std::sqrt(level) * batch.latent[i] + std::sqrt(1 - level) * batch.noise[i]);
  }
  batch.noise.clear();
  const TokenGroups groups = groups_of(*model, batch);
  model->forward(groups, positions.data(), count, Output::kPatches, noise.data(), kNoAbort);
  EXPECT_TRUE(same_bits(noise, expected));
  const Losses losses = model->backward(groups, {}, kNoAbort);
  EXPECT_EQ(losses.image_count, 0);
  EXPECT_EQ(losses.diffusion_sum, 0);
}

void check_bits(const ModelConfig& config) {
  for (const std::string& name : backend_names())
    for (DType compute : {kF32, kBF16}) {
      std::vector<float> expected;
      double loss = 0;
      for (int threads : {1, 2, 3})
        for (Checkpointing mode : {Checkpointing::kNone, Checkpointing::kAttention, Checkpointing::kBlock}) {
          Limits limits = kLimits;
          limits.checkpointing = mode;
          const auto model = make_model(config, backend(name), compute, threads, limits);
          const Losses losses = model->backward(groups_of(*model, batch_with_images(model->config())), {}, kNoAbort);
          if (expected.empty()) loss = losses.loss, expected = gradients(*model);
          EXPECT_EQ(losses.loss, loss) << name;
          EXPECT_TRUE(same_bits(gradients(*model), expected)) << name << " " << dtype_name(compute) << " " << threads;
        }
    }
}

TEST_P(ModelDiffusion, BitsDoNotDependOnThreadsOrCheckpointing) { check_bits(config_with(GetParam())); }

TEST_P(ModelDiffusion, BitsDoNotDependOnThreadsOrCheckpointingWithExpertsToo) {
  check_bits(with_experts(config_with(GetParam())));
}

// Padding between groups changes no bit.
TEST_P(ModelDiffusion, BitsDoNotDependOnRowAlignment) {
  std::vector<float> expected;
  for (int64_t alignment : {1, 8, 64}) {
    OpTable table = *reference_backend();
    table.row_alignment = alignment;
    const auto model = make_model(config_with(GetParam()), &table);
    model->backward(groups_of(*model, batch_with_images(model->config())), {}, kNoAbort);
    if (expected.empty()) expected = gradients(*model);
    EXPECT_TRUE(same_bits(gradients(*model), expected)) << alignment;
  }
}

// Text before an image, then the image again and again at falling timesteps over the same slots, then the text after
// it: each call gives what a forward pass over the whole would.
TEST_P(ModelDiffusion, DecodingAnImageEqualsTheForwardPass) {
  for (const std::string& name : backend_names())
    for (DType compute : {kF32, kBF16}) {
      SCOPED_TRACE(name + " " + dtype_name(compute));
      const auto model = make_model(config_with(GetParam()), backend(name), compute);
      OwnedBatch all = random_batch(model->config(), {24}, 9);
      constexpr int32_t kBegin = 7, kCount = 9, kSlot = 11;  // the document lies in slots from kSlot on
      all.add_image(model->config(), kBegin, kCount, 0, 3);
      all.noise.clear();
      all.target.assign(24, -1);
      auto call = [&](int32_t begin, int32_t end, Output output) {
        const auto count = static_cast<size_t>(end - begin);
        OwnedBatch part;
        auto take = [&](const std::vector<int32_t>& from, int32_t shift) {
          std::vector<int32_t> to(from.begin() + begin, from.begin() + end);
          for (int32_t& x : to) x += shift;
          return to;
        };
        part.token = take(all.token, 0), part.modality = take(all.modality, 0);
        part.position = take(all.position, 0);
        part.kv_start = take(all.kv_start, kSlot), part.kv_end = take(all.kv_end, kSlot);
        part.target.assign(count, -1), part.target_modality.assign(count, 0);
        part.patch_row = take(all.patch_row, 0);
        part.latent = all.latent, part.image_of_row = all.image_of_row, part.timestep = all.timestep;
        std::vector<int32_t> slot = all_positions(static_cast<int64_t>(count));
        for (int32_t& x : slot) x += begin + kSlot;
        const TokenGroups groups = make_token_groups(model->config(), kLimits, model->row_alignment(), part.view(),
                                                     {slot.data(), kLimits.kv_slots});
        const std::vector<int32_t> every = all_positions(static_cast<int64_t>(count));
        std::vector<float> values(count * static_cast<size_t>(model->output_width(output)));
        model->decode(groups, every.data(), static_cast<int64_t>(count), output, values.data(), kNoAbort);
        std::vector<int32_t> positions = every;
        for (int32_t& x : positions) x += begin;
        std::vector<float> expected(values.size());
        model->forward(groups_of(*model, all), positions.data(), static_cast<int64_t>(count), output, expected.data(),
                       kNoAbort);
        EXPECT_LE(relative_error(values, expected), compute == kF32 ? 3e-6 : 2e-2) << begin << " to " << end;
      };
      call(0, kBegin, Output::kLogits);
      for (int32_t timestep : {999, 400, 0}) {
        all.timestep = {timestep};
        for (float& x : all.latent) x = 0.7f * x + 0.1f;
        call(kBegin, kBegin + kCount, Output::kPatches);
      }
      call(kBegin + kCount, 24, Output::kLogits);
    }
}

INSTANTIATE_TEST_SUITE_P(Placements, ModelDiffusion,
                         ::testing::Values(NormPlacement::kBranchOutput, NormPlacement::kPre),
                         [](const auto& info) { return info.param == NormPlacement::kPre ? "pre" : "branch_output"; });

TEST(DiffusionPlan, IsKeptTo) {
  for (NormPlacement placement : {NormPlacement::kBranchOutput, NormPlacement::kPre})
    for (DType compute : {kF32, kBF16}) {
      Limits limits = kLimits;
      limits.images = 3;
      const auto model = make_model(config_with(placement), reference_backend(), compute, 1, limits);
      model->backward(groups_of(*model, batch_with_images(model->config())), {}, kNoAbort);
      model->adamw({.lr = 0, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0, .clip = 0, .step = 1});
      EXPECT_EQ(model->arena_high_water(), model->arena_bytes());
      for (const PlanEntry& entry : model->plan())
        if (entry.name == "time.hidden") {
          EXPECT_EQ(entry.shape, (std::vector<int64_t>{3, 24}));
        }
    }
}

TEST(DiffusionWeights, HaveTheNamesAndInitialValuesOfTheReference) {
  Model model(config_with(NormPlacement::kPre), kLimits, kF32, reference_backend(), 1);
  model.init(1);
  const std::vector<std::string> names = {"patch_in.weight",  "patch_in.bias",     "time_mlp.0.weight",
                                          "time_mlp.0.bias",  "time_mlp.2.weight", "time_mlp.2.bias",
                                          "patch_out.weight", "patch_out.bias"};
  for (size_t i = 0; i < names.size(); i++) {
    const WeightInfo& weight = model.weights().all()[1 + i];
    EXPECT_EQ(weight.name, names[i]);
    const bool bias = weight.shape.size() == 1;
    EXPECT_EQ(weight.decay, !bias);
    for (int64_t k = 0; k < weight.count; k++) EXPECT_EQ(model.weight_data()[weight.offset + k] == 0, bias) << names[i];
  }
}

TEST(DiffusionSchedule, FallsFromSignalToNoise) {
  const std::vector<double> alpha_bar = cosine_alpha_bar(1000);
  EXPECT_NEAR(alpha_bar[0], 0.99995872, 1e-8);
  EXPECT_NEAR(alpha_bar[500], 0.49228517, 1e-8);
  EXPECT_GT(alpha_bar[999], 0);
  EXPECT_LT(alpha_bar[999], 1e-8);
  for (size_t t = 1; t < 1000; t++) EXPECT_LT(alpha_bar[t], alpha_bar[t - 1]);
}

TEST(DiffusionBatch, RejectsWhatIsOutOfBounds) {
  const ModelConfig config = config_with(NormPlacement::kPre);
  const OwnedBatch good = batch_with_images(config);
  auto message = [&](const std::function<void(OwnedBatch&)>& change, const ModelConfig& of, const Limits& limits) {
    OwnedBatch batch = good;
    change(batch);
    try {
      make_token_groups(of, limits, 1, batch.view());
    } catch (const Error& error) {
      return std::string(error.code()) + " " + error.what();
    }
    return std::string("accepted");
  };
  auto expect = [&](const std::function<void(OwnedBatch&)>& change, const std::string& part) {
    const std::string got = message(change, config, kLimits);
    EXPECT_NE(got.find(part), std::string::npos) << got;
    EXPECT_EQ(got.rfind("ERR_BATCH", 0), 0u) << got;
  };
  EXPECT_EQ(message([](OwnedBatch&) {}, config, kLimits), "accepted");
  expect([](OwnedBatch& b) { b.patch_row[3] = 14; }, "patch_row[3] from -1 to 13, got 14");
  expect([](OwnedBatch& b) { b.patch_row[3] = -2; }, "patch_row[3] from -1 to 13, got -2");
  expect([](OwnedBatch& b) { b.patch_row[4] = 0; }, "patch_row[4] = 0 again");
  expect([](OwnedBatch& b) { b.image_of_row[2] = 3; }, "image_of_row[2] from 0 to 2, got 3");
  expect([](OwnedBatch& b) { b.timestep[1] = 1000; }, "timestep[1] from 0 to 999, got 1000");
  expect([](OwnedBatch& b) { b.timestep[0] = -1; }, "timestep[0] from 0 to 999, got -1");
  expect([](OwnedBatch& b) { b.modality[25] = 0; }, "modality[25] to be 1");
  expect([](OwnedBatch& b) { b.latent[9] = NAN; }, "latent[9] to be finite");
  expect([](OwnedBatch& b) { b.noise[10] = INFINITY; }, "noise[10] to be finite");
  expect([](OwnedBatch& b) { b.target[3] = 0, b.target_modality[3] = 0; }, "kv_end[3]");

  Limits two = kLimits;
  two.images = 2;
  EXPECT_EQ(message([](OwnedBatch&) {}, config, two).rfind("ERR_LIMIT", 0), 0u);
  ModelConfig plain = config;
  plain.diffusion.reset();
  EXPECT_NE(message([](OwnedBatch&) {}, plain, kLimits).find("no diffusion"), std::string::npos);
}

TEST(DiffusionOutput, IsOfPatchesOnly) {
  const auto model = make_model(config_with(NormPlacement::kPre));
  const TokenGroups groups = groups_of(*model, batch_with_images(model->config()));
  std::vector<float> noise(kPatch);
  for (int32_t position : {2, 8, -1, 58})
    EXPECT_THROW(model->forward(groups, &position, 1, Output::kPatches, noise.data(), kNoAbort), Error) << position;
  ModelConfig plain = model->config();
  plain.diffusion.reset();
  EXPECT_THROW(output_width(plain, Output::kPatches), Error);
}

}  // namespace
}  // namespace mot::test
