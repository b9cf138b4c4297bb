// Reads the config and the options of a session.
#include "addon/arguments.h"
#include "core/error.h"

namespace mot::addon {

namespace {

constexpr int64_t kMost = int64_t{1} << 40;  // the model checks for itself what is possible

PartTowers to_part(const Napi::Value& value, const char* name) {
  Napi::Object o = to_object(value, name);
  PartTowers part;
  std::string names = std::string(name) + ".names", towers = std::string(name) + ".towerOfModality";
  Napi::Array list = to_array(o.Get("names"), names.c_str());
  for (uint32_t i = 0; i < list.Length(); i++) part.names.push_back(to_string(list.Get(i), names.c_str()));
  list = to_array(o.Get("towerOfModality"), towers.c_str());
  for (uint32_t i = 0; i < list.Length(); i++)
    part.tower_of_modality.push_back(static_cast<int32_t>(to_integer(list.Get(i), towers.c_str(), 0, 1 << 20)));
  return part;
}

Experts to_experts(const Napi::Value& value) {
  Napi::Object o = to_object(value, "experts");
  const std::string routing = to_string(o.Get("routing"), "experts.routing");
  if (routing != "expert_choice" && routing != "token_choice")
    throw errorf("ERR_ARGUMENT", "expected experts.routing to be \"expert_choice\" or \"token_choice\", got \"%s\".",
                 routing.c_str());
  return {.count = to_integer(o.Get("count"), "experts.count", 0, kMost),
          .routing = routing == "token_choice" ? Routing::kTokenChoice : Routing::kExpertChoice,
          .capacity_factor = to_number(o.Get("capacityFactor"), "experts.capacityFactor"),
          .top_k = to_integer(o.Get("topK"), "experts.topK", 0, kMost),
          .balance_loss = to_number(o.Get("balanceLoss"), "experts.balanceLoss")};
}

Prediction to_prediction(const Napi::Value& value) {
  const std::string prediction = to_string(value, "diffusion.prediction");
  if (prediction != "noise" && prediction != "velocity")
    throw errorf("ERR_ARGUMENT", "expected diffusion.prediction to be \"noise\" or \"velocity\", got \"%s\".",
                 prediction.c_str());
  return prediction == "velocity" ? Prediction::kVelocity : Prediction::kNoise;
}

}  // namespace

ModelConfig to_config(const Napi::Value& value) {
  Napi::Object o = to_object(value, "config");
  auto integer = [&](const char* key) { return to_integer(o.Get(key), key, 0, kMost); };
  ModelConfig c{};
  c.d_model = integer("dModel");
  c.n_layers = integer("nLayers");
  c.n_heads = integer("nHeads");
  c.n_kv_heads = integer("nKvHeads");
  c.head_dim = integer("headDim");
  c.ffn_dim = integer("ffnDim");
  c.vocab = integer("vocab");
  c.modalities = integer("modalities");
  std::string placement = to_string(o.Get("normPlacement"), "normPlacement");
  if (placement != "branch_output" && placement != "pre")
    throw errorf("ERR_ARGUMENT", "expected normPlacement to be \"branch_output\" or \"pre\", got \"%s\".",
                 placement.c_str());
  c.norm_placement = placement == "pre" ? NormPlacement::kPre : NormPlacement::kBranchOutput;
  c.qk_norm = to_boolean(o.Get("qkNorm"), "qkNorm");
  c.norm_eps = to_number(o.Get("normEps"), "normEps");
  c.rope_theta = to_number(o.Get("ropeTheta"), "ropeTheta");
  c.z_loss = to_number(o.Get("zLoss"), "zLoss");
  c.self_attn = to_part(o.Get("selfAttn"), "selfAttn");
  c.mlp = to_part(o.Get("mlp"), "mlp");
  c.final = to_part(o.Get("final"), "final");
  if (Napi::Value norms = o.Get("norms"); !norms.IsUndefined()) c.norms = to_part(norms, "norms");
  Napi::Array weights = to_array(o.Get("lossWeight"), "lossWeight");
  for (uint32_t i = 0; i < weights.Length(); i++) c.loss_weight.push_back(to_number(weights.Get(i), "lossWeight"));
  if (Napi::Value experts = o.Get("experts"); !experts.IsUndefined()) {
    Napi::Array list = to_array(experts, "experts");
    for (uint32_t i = 0; i < list.Length(); i++) c.experts.push_back(to_experts(list.Get(i)));
  }
  if (Napi::Value given = o.Get("diffusion"); !given.IsUndefined()) {
    Napi::Object diffusion = to_object(given, "diffusion");
    auto integer_of = [&](const char* key, const char* name) { return to_integer(diffusion.Get(key), name, 0, kMost); };
    c.diffusion = {integer_of("modality", "diffusion.modality"), integer_of("patchDim", "diffusion.patchDim"),
                   integer_of("steps", "diffusion.steps"), to_number(diffusion.Get("weight"), "diffusion.weight"),
                   to_prediction(diffusion.Get("prediction"))};
  }
  validate(c);
  return c;
}

SessionOptions to_session_options(const Napi::Value& value) {
  Napi::Object o = to_object(value, "options");
  constexpr int64_t kMostRows = int64_t{1} << 28;
  SessionOptions options{};
  options.backend = to_backend(o.Get("device"), "options.device");
  options.compute = to_compute_dtype(o.Get("dtype"), "options.dtype");
  options.threads = to_threads(o.Get("threads"), "options.threads");
  options.limits.tokens = to_integer(o.Get("tokens"), "options.tokens", 1, kMostRows);
  options.limits.kv_slots = to_integer(o.Get("kvSlots"), "options.kvSlots", 0, kMostRows);
  options.limits.positions = to_integer(o.Get("positions"), "options.positions", 1, kMostRows);
  options.limits.images = to_integer(o.Get("images"), "options.images", 1, kMostRows);
  const std::string checkpointing = to_string(o.Get("checkpointing"), "options.checkpointing");
  if (checkpointing == "attention")
    options.limits.checkpointing = Checkpointing::kAttention;
  else if (checkpointing == "block")
    options.limits.checkpointing = Checkpointing::kBlock;
  else if (checkpointing != "none")
    throw errorf("ERR_ARGUMENT",
                 "expected options.checkpointing to be \"none\", \"attention\" or \"block\", got \"%s\".",
                 checkpointing.c_str());
  options.limits.training = to_boolean(o.Get("training"), "options.training");
  options.limits.ema = to_boolean(o.Get("ema"), "options.ema");
  options.limits.approximate_routing = to_boolean(o.Get("approximateRouting"), "options.approximateRouting");
  return options;
}

}  // namespace mot::addon
