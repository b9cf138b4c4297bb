#include "model/config.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "ops/routing.h"

namespace mot {
namespace {

// Far above any model that fits a machine, and small enough that no product of sizes overflows 64 bits.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 28;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxModalities = 256;
constexpr int64_t kMaxSteps = int64_t{1} << 20;
constexpr double kMaxParameters = 0x1p40;

void check_range(const char* key, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    throw errorf("ERR_CONFIG", "[config] expected %s from %lld to %lld, got %lld", key, static_cast<long long>(low),
                 static_cast<long long>(high), static_cast<long long>(value));
}

void check_number(const char* key, double value, bool zero_allowed) {
  if (!std::isfinite(value) || value < 0 || (value == 0 && !zero_allowed))
    throw errorf("ERR_CONFIG", "[config] expected %s to be a finite number %s 0, got %g", key,
                 zero_allowed ? ">=" : ">", value);
}

void check_part(const char* key, const PartTowers& part, int64_t modalities) {
  const int64_t towers = static_cast<int64_t>(part.names.size());
  check_range((std::string(key) + " towers").c_str(), towers, 1, kMaxModalities);
  for (const std::string& name : part.names) {
    if (name.empty()) throw errorf("ERR_CONFIG", "[config] expected every tower of %s to have a name", key);
    if (std::count(part.names.begin(), part.names.end(), name) > 1)
      throw errorf("ERR_CONFIG", "[config] expected the towers of %s to have names of their own, got \"%s\" twice", key,
                   name.c_str());
  }
  const int64_t listed = static_cast<int64_t>(part.tower_of_modality.size());
  if (listed != modalities)
    throw errorf("ERR_CONFIG", "[config] expected %s to give a tower for each of %lld modalities, got %lld", key,
                 static_cast<long long>(modalities), static_cast<long long>(listed));
  for (size_t i = 0; i < part.tower_of_modality.size(); i++) {
    const int32_t tower = part.tower_of_modality[i];
    if (tower < 0 || tower >= towers)
      throw errorf("ERR_CONFIG", "[config] expected tower %s[%zu] from 0 to %lld, got %d", key, i,
                   static_cast<long long>(towers - 1), tower);
  }
}

void check_experts(const ModelConfig& c) {
  if (c.experts.empty()) return;
  if (c.experts.size() != c.mlp.names.size())
    throw errorf("ERR_CONFIG", "[config] expected experts for each of %zu towers of mlp, got %zu", c.mlp.names.size(),
                 c.experts.size());
  for (size_t tower = 0; tower < c.experts.size(); tower++) {
    const Experts& experts = c.experts[tower];
    if (experts.count == 0) continue;
    const std::string key = "experts." + c.mlp.names[tower];
    check_range((key + ".count").c_str(), experts.count, 1, kMaxExperts);
    check_range((key + ".top_k").c_str(), experts.top_k, 1, experts.count);
    check_number((key + ".capacity_factor").c_str(), experts.capacity_factor, false);
    check_number((key + ".balance_loss").c_str(), experts.balance_loss, true);
    if (experts.capacity_factor > static_cast<double>(experts.count))
      throw errorf("ERR_CONFIG", "[config] expected %s.capacity_factor of at most %lld, its experts, got %g",
                   key.c_str(), static_cast<long long>(experts.count), experts.capacity_factor);
  }
}

// Of the matrices; the vectors do not matter for a bound.
double parameter_estimate(const ModelConfig& c) {
  const double d = static_cast<double>(c.d_model);
  const double attention =
      static_cast<double>(c.qkv_dim() + c.attn_dim()) * d * static_cast<double>(c.self_attn.names.size());
  const double mlp = 3.0 * static_cast<double>(c.ffn_dim) * d * static_cast<double>(c.mlp_sets());
  return 2.0 * static_cast<double>(c.vocab) * d + static_cast<double>(c.n_layers) * (attention + mlp);
}

}  // namespace

int64_t Experts::capacity(int64_t tokens) const {
  const double share = static_cast<double>(tokens) * capacity_factor / static_cast<double>(count);
  return std::min(tokens, static_cast<int64_t>(std::ceil(share)));
}

int64_t Experts::approximate_top_k() const { return std::min(count, static_cast<int64_t>(std::ceil(capacity_factor))); }

int64_t ModelConfig::mlp_sets() const {
  int64_t sets = static_cast<int64_t>(mlp.names.size());
  for (const Experts& of : experts) sets += std::max<int64_t>(of.count, 1) - 1;
  return sets;
}

bool ModelConfig::has_experts() const {
  return std::any_of(experts.begin(), experts.end(), [](const Experts& of) { return of.count > 0; });
}

bool ModelConfig::has_balance_loss() const {
  return std::any_of(experts.begin(), experts.end(),
                     [](const Experts& of) { return of.count > 0 && of.routing == Routing::kTokenChoice; });
}

int64_t ModelConfig::max_experts() const {
  int64_t most = 1;
  for (const Experts& of : experts) most = std::max(most, of.count);
  return most;
}

bool ModelConfig::looks_ahead() const {
  return std::any_of(experts.begin(), experts.end(),
                     [](const Experts& of) { return of.count > 0 && of.routing == Routing::kExpertChoice; });
}

void validate(const ModelConfig& c) {
  check_range("d_model", c.d_model, 1, kMaxWidth);
  check_range("n_layers", c.n_layers, 1, kMaxLayers);
  check_range("n_heads", c.n_heads, 1, kMaxWidth);
  check_range("n_kv_heads", c.n_kv_heads, 1, c.n_heads);
  check_range("head_dim", c.head_dim, 8, kMaxWidth);
  check_range("ffn_dim", c.ffn_dim, 1, kMaxWidth);
  check_range("vocab", c.vocab, 1, kMaxVocab);
  check_range("modalities", c.modalities, 1, kMaxModalities);
  if (c.n_heads % c.n_kv_heads != 0)
    throw errorf("ERR_CONFIG", "[config] expected n_heads to be a multiple of n_kv_heads, got %lld and %lld",
                 static_cast<long long>(c.n_heads), static_cast<long long>(c.n_kv_heads));
  if (c.head_dim % 8 != 0)
    throw errorf("ERR_CONFIG", "[config] expected head_dim to be a multiple of 8, got %lld",
                 static_cast<long long>(c.head_dim));
  check_range("n_heads * head_dim", c.attn_dim(), 8, kMaxWidth);
  check_number("norm_eps", c.norm_eps, false);
  check_number("rope_theta", c.rope_theta, false);
  check_number("z_loss", c.z_loss, true);
  check_part("self_attn", c.self_attn, c.modalities);
  check_part("mlp", c.mlp, c.modalities);
  check_part("final", c.final, c.modalities);
  if (c.norms) check_part("norms", *c.norms, c.modalities);
  const int64_t loss_weights = static_cast<int64_t>(c.loss_weight.size());
  if (loss_weights != c.modalities)
    throw errorf("ERR_CONFIG", "[config] expected loss_weight for each of %lld modalities, got %lld",
                 static_cast<long long>(c.modalities), static_cast<long long>(loss_weights));
  for (double weight : c.loss_weight) check_number("loss_weight", weight, true);
  check_experts(c);
  if (c.diffusion) {
    check_range("diffusion modality", c.diffusion->modality, 0, c.modalities - 1);
    check_range("diffusion patch_dim", c.diffusion->patch_dim, 1, kMaxWidth);
    check_range("diffusion steps", c.diffusion->steps, 1, kMaxSteps);
    check_number("diffusion weight", c.diffusion->weight, true);
    if (c.d_model % 2 != 0)
      throw errorf("ERR_CONFIG", "[config] expected an even d_model for the time embedding of diffusion, got %lld",
                   static_cast<long long>(c.d_model));
  }
  if (parameter_estimate(c) > kMaxParameters)
    throw errorf("ERR_CONFIG",
                 "[config] expected at most 2^40 parameters, got %.3g; lower d_model, ffn_dim or n_layers",
                 parameter_estimate(c));
}

}  // namespace mot
