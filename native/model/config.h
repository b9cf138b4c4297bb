// What a model is: sizes, placement of norms, and for every part which tower serves which modality.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace mot {

// Towers of one part of the model. Native code knows towers by index; the names are labels that go into tensor names.
struct PartTowers {
  std::vector<std::string> names;          // at least one, unique
  std::vector<int32_t> tower_of_modality;  // [modalities], each < names.size()
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

  int64_t qkv_dim() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
  int64_t attn_dim() const { return n_heads * head_dim; }
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
};

}  // namespace mot
