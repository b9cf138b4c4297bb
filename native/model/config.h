// What a model is: sizes, placement of norms, and for every part which tower serves which modality.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mot {

// Towers of one part of the model. Native code knows towers by index; the names are labels that go into tensor names.
struct PartTowers {
  std::vector<std::string> names;          // at least one, unique
  std::vector<int32_t> tower_of_modality;  // [modalities], each < names.size()
};

// How a tower's router chooses: experts their tokens (Zhou et al. 2022), or tokens their experts (Shazeer et al. 2017).
// Expert choice looks ahead: which tokens an expert takes depends on later ones, so it cannot generate.
enum class Routing { kExpertChoice, kTokenChoice };

// Mixture of experts in the MLP of one tower: several weight sets, and a router that spreads the tower's tokens.
struct Experts {
  int64_t count = 0;  // 0: one weight set and no router
  Routing routing = Routing::kExpertChoice;
  double capacity_factor = 1;  // expert choice: an expert takes ceil(tokens * capacity_factor / count)
  int64_t top_k = 1;           // token choice: experts of a token
  double balance_loss = 0;     // token choice: weight of the load-balance loss

  int64_t capacity(int64_t tokens) const;  // of one expert
  // Token choice that stands for expert choice where that cannot be: the most probable experts of each token, as many
  // as it would get on average, rounded up.
  int64_t approximate_top_k() const;
};

// What a model says of a noisy value sqrt(a) x + sqrt(1 - a) noise: the noise, or the velocity sqrt(a) noise -
// sqrt(1 - a) x (Salimans & Ho 2022, arXiv:2202.00512), which tells the clean value even where there is only noise.
enum class Prediction { kNoise, kVelocity };

// Transfusion (Zhou et al. 2024, arXiv:2408.11039): tokens of one modality may be continuous patches, whose noise the
// model predicts.
struct Diffusion {
  int64_t modality;
  int64_t patch_dim;  // numbers of a patch
  int64_t steps;      // timesteps of the cosine schedule
  double weight;      // of the diffusion loss beside the language loss
  Prediction prediction = Prediction::kNoise;
};

enum class NormPlacement { kBranchOutput, kPre };

struct ModelConfig {
  int64_t d_model, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab;
  int64_t modalities;
  NormPlacement norm_placement;
  bool qk_norm;
  double norm_eps, rope_theta, z_loss;
  PartTowers self_attn, mlp, final;
  std::vector<double> loss_weight;  // [modalities], of the modality predicted; 1 by default
  std::vector<Experts> experts;     // [towers of mlp]; empty: no tower has experts
  std::optional<Diffusion> diffusion = std::nullopt;
  std::optional<PartTowers> norms = std::nullopt;  // of attention_norm and ffn_norm; none: those of their branch

  const PartTowers& attention_norm() const { return norms ? *norms : self_attn; }
  const PartTowers& ffn_norm() const { return norms ? *norms : mlp; }

  int64_t qkv_dim() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
  int64_t attn_dim() const { return n_heads * head_dim; }

  // The MLP's weight sets: one a tower, or one an expert; those of a tower follow each other, in the order of towers.
  int64_t mlp_sets() const;
  bool has_experts() const;       // some tower has
  bool has_balance_loss() const;  // some tower routes by token choice
  int64_t max_experts() const;    // of a tower; a tower without experts counts as one
  bool looks_ahead() const;       // some tower routes by expert choice
};

// Throws Error("ERR_CONFIG") naming the key, what was expected, what came.
void validate(const ModelConfig& config);

// What training computes again in backward rather than keep from forward (activation checkpointing; Chen et al. 2016,
// arXiv:1604.06174). Gradients are the same bits in every mode.
enum class Checkpointing {
  kNone,       // keeps everything
  kAttention,  // computes q, k, v, attention and its output projection again, from the branch's input
  kBlock,      // the feed-forward branch too: a layer keeps the inputs of its two branches only
};

// The plan of memory follows from these and the config, never from a batch.
struct Limits {
  int64_t tokens;     // of one micro-batch, prefill or decode call
  int64_t kv_slots;   // slots of the KV cache (per layer); 0: no generation
  int64_t positions;  // RoPE positions: 0 <= position < positions
  bool training;      // gradients and optimiser state
  Checkpointing checkpointing = Checkpointing::kNone;
  // Decoding with expert choice: refused, or approximated by token choice (Experts::approximate_top_k).
  bool approximate_routing = false;
  bool ema = false;    // an average of the weights; with training only
  int64_t images = 0;  // of one call, where the config has diffusion; 0: as many as tokens

  int64_t max_images() const { return images > 0 ? images : tokens; }
};

}  // namespace mot
